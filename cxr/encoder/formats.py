"""encoder.json, written by the encoder stage."""

from __future__ import annotations

from pydantic import Field

from cxr.core.formats import recorded
from cxr.encoder.settings import NEUTRAL, Settings


class Encoder(recorded(Settings, neutral={"weights": NEUTRAL["weights"]})):
    """encoder.json: what rebuilds the net, and what it was trained on. features.parquet beside it has every image's
    features.
    """

    features: int = Field(description="features of an image")
    images: int = Field(description="training images, whose labels it never saw; 0 with others' weights")
    patients: int = Field(description="training patients")
    loss: float | None = Field(description="mean loss of the last epoch; null with others' weights")
    matched: float | None = Field(
        ge=0, le=1, description="share of the last epoch's views whose nearest is of the same image; null likewise"
    )
    split_sha256: str = Field(description="SHA-256 of the split's table")
