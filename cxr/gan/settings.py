"""The settings of one GAN training: sections gan and projection of params.yaml.

What both have stands in Shared; an option whose default differs between them is declared as a type above it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from cxr.core.formats import Format
from cxr.core.views import View

# Settings at the values that change nothing: a training's fingerprint leaves them out.
NEUTRAL = {
    "mode": "per_finding", "select": "last", "holdout": 0.0, "flip": 0.0, "average": 0.0, "patience": 0,
    "stop_diversity": 0.0, "label_smoothing": 0.0, "spectral_norm": False, "saturating": False, "gain": 1.0,
    "diffaugment": "none", "loss": "minimax", "r1": 0.0, "drop": 0.0, "phase_in": 0,
}  # fmt: skip

AUGMENTATIONS = ("color", "translation", "cutout")
Mode = Literal["per_finding", "pooled", "conditional"]  # cxr/gan/generators.py
Select = Literal["last", "kid"]
Loss = Literal["minimax", "hinge", "least_squares", "wgan_gp"]  # cxr/gan/losses.py

Epochs = Annotated[int, Field(ge=1, description="passes over the images")]
SampleEvery = Annotated[int, Field(ge=1, description="epochs between two looks at the generator")]
Average = Annotated[float, Field(ge=0.0, le=0.9999, description="decay of the running average of G's weights; 0: none")]
SpectralNorm = Annotated[bool, Field(description="spectrally normalise the discriminator's weights")]
DiffAugment = Annotated[
    str, Field(description="differentiable augmentations: none, or some of color,translation,cutout")
]
LossName = Annotated[Loss, Field(description="what discriminator and generator descend")]


class Shared(Format):
    """What shapes a training of either kind, apart from its images."""

    section: ClassVar[str]  # of params.yaml, for messages

    size: Literal[16, 32, 64, 128, 256, 512] = Field(128, description="side of an image, pixels")
    epochs: Epochs = 1000
    batch: int = Field(64, ge=2, description="images in a step")
    lr: float = Field(2e-4, ge=0.0, description="Adam's learning rate, for both nets")
    beta1: float = Field(0.5, ge=0.0, le=0.999, description="Adam's first decay, for both nets")
    z_dim: int = Field(100, ge=1, description="length of the noise vector")
    width: int = Field(64, ge=1, description="channels of the widest maps; ngf = ndf of the DCGAN example")
    view: View = Field("frontal", description="projections trained on")
    flip: float = Field(0.0, ge=0.0, le=1.0, description="probability of a mirror image")
    sample_every: SampleEvery = 50
    average: Average = 0.0
    loss: LossName = "minimax"
    r1: float = Field(0.0, ge=0.0, description="weight of the penalty on D's slope at real images; 0: none")
    spectral_norm: SpectralNorm = False
    diffaugment: DiffAugment = "none"
    seed: int = Field(0, ge=0, description="seed of weights, batches and noise")

    @property
    def batch_norm(self) -> bool:
        """Whether the discriminator has batch norm: none beside a bound on its weights or a penalty on its slope."""
        return not (self.spectral_norm or self.r1 or self.loss == "wgan_gp")

    @field_validator("diffaugment")
    @classmethod
    def _check_names(cls, names: str) -> str:
        augmentations(names, cls.section)
        return names

    @model_validator(mode="after")
    def _check_penalties(self) -> Self:
        """WGAN-GP's penalty draws D's slope to 1, R1 to 0; spectral normalisation bounds it without a penalty."""
        for name, neutral in (("r1", "0"), ("spectral_norm", "false")):
            if self.loss == "wgan_gp" and (value := getattr(self, name)):
                raise ValueError(
                    f"{self.section}.{name} = {str(value).lower()} with {self.section}.loss = wgan_gp, which has a "
                    f"penalty on the slope of its own: set {self.section}.{name} to {neutral}, or "
                    f"{self.section}.loss to hinge"
                )
        return self


class Settings(Shared):
    """Section gan: of a DCGAN for one finding, or for several."""

    section = "gan"

    mode: Mode = Field("per_finding", description="how one net serves several findings")
    channels: Literal[1, 3] = Field(1, description="colour channels; 3 is the paper's, X-rays are gray")
    select: Select = Field("last", description="which looked-at generator is kept: the last, or that of the least KID")
    holdout: float = Field(0.0, ge=0.0, le=0.5, description="share of patients kept back for select = kid")
    patience: int = Field(0, ge=0, description="looks without a better KID before training stops; 0: never")
    stop_diversity: float = Field(
        0.0, ge=0.0, le=1.0, description="share of the real diversity below which training stops; 0: none"
    )
    label_smoothing: float = Field(0.0, ge=0.0, le=0.5, description="taken off the discriminator's real labels")
    saturating: bool = Field(False, description="G descends log(1 - D(G(z))), as printed, not -log D(G(z))")
    gain: float = Field(1.0, ge=0.0, description="mean of the batch-norm gains at the start")

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        for name, neutral in (("label_smoothing", "0"), ("saturating", "false")):
            if self.loss != "minimax" and (value := getattr(self, name)):
                raise ValueError(
                    f"gan.{name} = {str(value).lower()} with gan.loss = {self.loss}: it belongs to minimax alone; "
                    f"set gan.{name} to {neutral}, or gan.loss to minimax"
                )
        return self


class Projection(Shared):
    """Section projection: of the projection GAN, which is trained on all training images and conditioned on each."""

    section = "projection"
    # The DCGAN's own options, which this kind hasn't, at the values that change nothing.
    channels: ClassVar[int] = 1
    stop_diversity: ClassVar[float] = 0.0
    label_smoothing: ClassVar[float] = 0.0
    saturating: ClassVar[bool] = False
    gain: ClassVar[float] = 1.0

    epochs: Epochs = 50
    sample_every: SampleEvery = 5
    average: Average = 0.999
    loss: LossName = "hinge"
    spectral_norm: SpectralNorm = True
    diffaugment: DiffAugment = "color,translation,cutout"
    drop: float = Field(0.1, ge=0.0, le=0.9, description="share of the images without their condition")
    phase_in: int = Field(5, ge=0, description="epochs over which the condition's weight rises from 0 to 1")

    @model_validator(mode="after")
    def _check_phase(self) -> Self:
        if self.phase_in >= self.epochs:
            raise ValueError(
                f"projection.phase_in = {self.phase_in} with projection.epochs = {self.epochs}: no epoch would have "
                f"the whole condition; set projection.phase_in to {self.epochs // 4}, or train longer"
            )
        return self


def augmentations(names: str, section: str = "gan") -> tuple[str, ...]:
    """'color,translation' -> its parts, in the order in which they are applied; 'none' -> (). Raises ValueError."""
    parts = [] if names == "none" else names.split(",")
    if wrong := sorted(set(parts) - set(AUGMENTATIONS)):
        raise ValueError(
            f"{section}.diffaugment: {wrong[0]!r} is not one of {', '.join(AUGMENTATIONS)}; "
            "join them by commas, or none"
        )
    return tuple(part for part in AUGMENTATIONS if part in parts)
