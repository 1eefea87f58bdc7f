"""explain.json, written by the explain stage: what a classifier's heat maps are worth on boxes of radiologists."""

from __future__ import annotations

from pydantic import Field

from cxr.core.formats import Format


class Share(Format):
    """A mean over images with its interval over patients."""

    value: float = Field(description="mean over the images, 0 to 1")
    low: float = Field(description="low end of the interval over patients")
    high: float = Field(description="high end of the interval over patients")


class Measured(Share):
    """A method's measure, beside the better floor's."""

    floor: float = Field(
        description="the same of the better floor, the mean box of all training images or of each view"
    )
    gain_low: float = Field(description="low end of the interval of value less floor")
    gain_high: float = Field(description="high end of the interval of value less floor")
    beats: bool = Field(description="whether the interval of the gain lies above 0")


class Worth(Format):
    """What one method's maps are worth."""

    hit: Measured = Field(description="pointing game: share of maps whose largest value lies in a box")
    iou: Measured = Field(description="intersection over union with the boxes at their own area")
    random: float | None = Field(
        description="mean rank correlation with the maps of random weights; 1: a map shows the image alone; null: flat"
    )


class Explained(Format):
    """The heat maps of one finding, on test images with boxes."""

    data: str = Field(description="what the boxes are of: phantom (simulated patients), folder, zip, ...")
    dataset: str = Field(description="the data set with the boxes")
    finding: str = Field(description="slug of the finding that was explained")
    images: int = Field(description="test images with a box")
    patients: int = Field(description="their patients")
    floor_images: int = Field(description="training images with a box, whose boxes are the floor")
    confidence: float = Field(description="of every interval")
    weights_sha256: str = Field(description="SHA-256 of model.safetensors")
    methods: dict[str, Worth] = Field(description="method: what its maps are worth")
