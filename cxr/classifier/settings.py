"""The settings of one training of the classifier: section classifier of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format
from cxr.core.views import View

# Settings at the values that change nothing: a training's fingerprint leaves them out.
NEUTRAL = {
    "backbone": "densenet121",
    "view": "all",
    "average": 0.0,
    "crop_min": 1.0,
    "flip": 0.0,
    "rotate": 0.0,
    "tune": "all",
    "extra": [],
}

STRONG = {"crop_min": 0.5, "rotate": 15.0}  # of a control arm whose augmentation is strong


class Settings(Format):
    """What shapes a training, apart from its labels, its images and its control arm."""

    backbone: str = Field(
        "densenet121", description="densenet121, densenet_small, another of torchvision's models, or timm:<name>"
    )
    size: int = Field(224, ge=32, le=1024, description="side of an image, pixels")
    epochs: int = Field(3, ge=1, description="passes over the training images")
    batch: int = Field(16, ge=2, description="images in a step")
    lr: float = Field(1e-4, ge=0.0, description="Adam's learning rate")
    average: float = Field(0.0, ge=0.0, le=0.9999, description="decay of the weights' running average; 0: none")
    weights: str = Field(
        "imagenet", description="start: none, imagenet, a torchvision or timm name, xrv:<name>, or a .safetensors path"
    )
    tune: Literal["all", "head"] = Field("all", description="what is trained: all weights, or the last layer alone")
    view: View = Field("all", description="projections trained and tested on")
    extra: list[str] = Field([], description="names of the data sets in data.extra that are trained on as well")
    crop_min: float = Field(0.8, ge=0.05, le=1.0, description="least share of the area that a crop keeps")
    flip: float = Field(0.0, ge=0.0, le=1.0, description="probability of a mirror image")
    rotate: float = Field(5.0, ge=0.0, le=45.0, description="largest rotation in degrees")
    seed: int = Field(0, ge=0, description="seed of weights, batches and augmentation")
