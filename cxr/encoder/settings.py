"""The settings of an encoder's training: section encoder of params.yaml."""

from __future__ import annotations

from pydantic import Field

from cxr.core.formats import Format

# Settings at the values that change nothing: a training's fingerprint leaves them out.
NEUTRAL: dict[str, object] = dict.fromkeys(
    ("weight_decay", "average", "flip", "rotate", "shift", "jitter", "cutout"), 0.0
)
NEUTRAL["weights"] = "none"


class Settings(Format):
    """What shapes a training, apart from its images."""

    weights: str = Field(
        "none", description="none: trained on the training images; imagenet or xrv:<name>: others' DenseNet121 as it is"
    )
    size: int = Field(225, ge=17, le=1024, description="side of the images, pixels")
    epochs: int = Field(200, ge=1, description="passes over the training images")
    batch: int = Field(256, ge=2, description="images in a step; each has two views")
    lr: float = Field(1e-3, ge=0.0, description="Adam's learning rate")
    weight_decay: float = Field(1e-6, ge=0.0, description="Adam's weight decay")
    average: float = Field(0.99, ge=0.0, le=0.9999, description="decay of the weights' running average; 0: none")
    width: int = Field(
        32, ge=4, le=256, description="channels of the finest maps; an image has four times as many features"
    )
    projected: int = Field(64, ge=2, le=1024, description="values of a view that are compared with other views'")
    temperature: float = Field(0.2, gt=0.0, le=10.0, description="of the softmax over the views of a batch")
    crop_min: float = Field(0.4, gt=0.0, le=1.0, description="least share of the area that a view's crop keeps")
    flip: float = Field(0.5, ge=0.0, le=1.0, description="probability of a mirror image")
    rotate: float = Field(15.0, ge=0.0, le=45.0, description="largest rotation in degrees")
    shift: float = Field(0.05, ge=0.0, le=0.5, description="largest shift as a share of the size")
    jitter: float = Field(0.4, ge=0.0, le=0.9, description="largest change of a view's brightness and contrast")
    cutout: float = Field(0.0, ge=0.0, le=1.0, description="side of a view's cutout, share of the size")
    seed: int = Field(0, ge=0, description="seed of weights, batches and views")

    @property
    def geometry(self) -> dict:
        """The random geometry of a view, as `affine` takes it."""
        return {"crop": (self.crop_min, 1.0), "flip": self.flip, "rotate": self.rotate, "shift": self.shift}
