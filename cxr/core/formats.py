"""The base of every JSON artefact's model: one class writes a file, reads it and documents it.

A package's own models stand in its formats.py, beside the code that writes the file. A training's Settings are such a
model too: they declare its options once, for the command line, the training and the files. No torch there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model


class Format(BaseModel):
    """One JSON object. Its fields stand in the order of the file. A field with a default may be absent from a file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def recorded(settings: type[Format], absent: Collection[str] = (), neutral: Mapping[str, object] | None = None) -> Any:
    """The base of a file that holds a training's settings: their fields without the defaults of its options.

    So a file from which one is missing is refused. absent: fields that a file may lack. neutral: the values of settings
    that change nothing; a file from before there was such a setting lacks it, and is read with that value.
    """
    fields: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        kind: Any = field.annotation
        default = ... if neutral is None else neutral.get(name, ...)
        if name in absent:
            kind, default = kind | None, None
        fields[name] = (Annotated[kind, Field(description=field.description), *field.metadata], default)
    return create_model(settings.__name__, __base__=Format, **fields)


class StoreShard(Format):
    """One file of a store of packed images."""

    file: str = Field(description="name of the npy file, beside the manifest")
    images: int = Field(description="number of images in it", ge=1)
    sha256: str = Field(description="SHA-256 of the file, hexadecimal")


class StoreManifest(Format):
    """What a store of packed images holds. It stands for the store in a training's fingerprint."""

    size: int = Field(description="side of the images, pixels")
    index: str = Field(description="SHA-256 of index.parquet, hexadecimal")
    shards: list[StoreShard] = Field(description="the shards, in the order of the index")
