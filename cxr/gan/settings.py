"""The settings of one GAN training: section gan of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from cxr.core.formats import Format
from cxr.core.views import View

# Settings at the values that change nothing: a training's fingerprint leaves them out.
NEUTRAL = {
    "mode": "per_finding", "select": "last", "holdout": 0.0, "flip": 0.0, "average": 0.0, "patience": 0,
    "stop_diversity": 0.0, "label_smoothing": 0.0, "spectral_norm": False, "saturating": False, "gain": 1.0,
    "diffaugment": "none",
}  # fmt: skip

AUGMENTATIONS = ("color", "translation", "cutout")
Mode = Literal["per_finding", "pooled", "conditional"]  # cxr/gan/generators.py
Select = Literal["last", "kid"]


class Settings(Format):
    """What shapes a training, apart from its images."""

    mode: Mode = Field("per_finding", description="how one net serves several findings")
    size: Literal[16, 32, 64, 128, 256, 512] = Field(128, description="side of an image, pixels")
    epochs: int = Field(1000, ge=1, description="passes over the images")
    batch: int = Field(64, ge=2, description="images in a step")
    lr: float = Field(2e-4, ge=0.0, description="Adam's learning rate, for both nets")
    beta1: float = Field(0.5, ge=0.0, le=0.999, description="Adam's first decay, for both nets")
    z_dim: int = Field(100, ge=1, description="length of the noise vector")
    width: int = Field(64, ge=1, description="channels of the widest maps; ngf = ndf of the DCGAN example")
    channels: Literal[1, 3] = Field(1, description="colour channels; 3 is the paper's, X-rays are gray")
    view: View = Field("frontal", description="projections trained on")
    flip: float = Field(0.0, ge=0.0, le=1.0, description="probability of a mirror image")
    sample_every: int = Field(50, ge=1, description="epochs between two looks at the generator")
    average: float = Field(0.0, ge=0.0, le=0.9999, description="decay of the running average of G's weights; 0: none")
    select: Select = Field("last", description="which looked-at generator is kept: the last, or that of the least KID")
    holdout: float = Field(0.0, ge=0.0, le=0.5, description="share of patients kept back for select = kid")
    patience: int = Field(0, ge=0, description="looks without a better KID before training stops; 0: never")
    stop_diversity: float = Field(
        0.0, ge=0.0, le=1.0, description="share of the real diversity below which training stops; 0: none"
    )
    label_smoothing: float = Field(0.0, ge=0.0, le=0.5, description="taken off the discriminator's real labels")
    spectral_norm: bool = Field(False, description="spectrally normalise the discriminator's weights")
    saturating: bool = Field(False, description="G descends log(1 - D(G(z))), as printed, not -log D(G(z))")
    gain: float = Field(1.0, ge=0.0, description="mean of the batch-norm gains at the start")
    diffaugment: str = Field(
        "none", description="differentiable augmentations: none, or some of color,translation,cutout"
    )
    seed: int = Field(0, ge=0, description="seed of weights, batches and noise")

    @field_validator("diffaugment")
    @classmethod
    def _check_names(cls, names: str) -> str:
        augmentations(names)
        return names


def augmentations(names: str) -> tuple[str, ...]:
    """'color,translation' -> its parts, in the order in which they are applied; 'none' -> (). Raises ValueError."""
    parts = [] if names == "none" else names.split(",")
    if wrong := sorted(set(parts) - set(AUGMENTATIONS)):
        raise ValueError(
            f"gan.diffaugment: {wrong[0]!r} is not one of {', '.join(AUGMENTATIONS)}; join them by commas, or none"
        )
    return tuple(part for part in AUGMENTATIONS if part in parts)
