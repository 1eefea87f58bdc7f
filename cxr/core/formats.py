"""The base of every JSON artefact's model: one class writes a file, reads it and documents it.

A package's own models stand in its formats.py, beside the code that writes the file. No torch there.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Format(BaseModel):
    """One JSON object. Its fields stand in the order of the file. A field with a default may be absent from a file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
