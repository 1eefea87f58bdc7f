"""generator.json and kept.json, written by the gan stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format

Mode = Literal["per_finding", "pooled", "conditional"]


class Generator(Format):
    """generator.json and discriminator.json: what rebuilds the nets, and what they were trained on."""

    net: str = Field(description="kind of net: DCGAN")
    generator: str = Field(description="name: slugs of its findings, joined by +")
    epochs: int = Field(description="epochs asked for")
    size: int = Field(description="side of an image, pixels")
    view: Literal["frontal", "lateral", "all"] = Field(description="projections trained on")
    findings: list[str] = Field(description="slugs of its findings")
    mode: Mode = Field(description="what several findings of one net mean to it")
    select: Literal["last", "kid"] = Field(description="which state is kept: the last, or that of the least KID")
    holdout: float = Field(description="share of the training patients kept back for KID, 0 to 0.5")
    diffaugment: str = Field(description="differentiable augmentations, joined by commas, or none")
    batch: int = Field(description="images a step")
    lr: float = Field(description="learning rate of both nets")
    beta1: float = Field(description="Adam's first decay, 0 to 1")
    z_dim: int = Field(ge=1, description="length of the noise vector")
    width: int = Field(ge=1, description="channels of the widest maps")
    channels: int = Field(ge=1, description="colour channels: 1 or 3")
    flip: float = Field(description="probability of a mirror image, 0 to 1")
    seed: int = Field(description="seed of weights, batches and noise")
    average: float = Field(description="decay of the running average of the generator's weights, 0: none")
    patience: int = Field(description="looks without a better KID before training stops, 0: never")
    stop_diversity: float = Field(description="share of the real diversity below which training stops, 0: never")
    label_smoothing: float = Field(description="taken off the discriminator's real labels, 0 to 0.5")
    spectral_norm: bool = Field(description="whether the discriminator's weights are spectrally normalised")
    saturating: bool = Field(description="whether the generator descends log(1 - D(G(z)))")
    gain: float = Field(description="mean of the batch-norm gains at the start")
    images: int = Field(description="training images")
    patients: int = Field(description="training patients")
    split_sha256: str = Field(description="SHA-256 of the split's table")
    epoch: int = Field(description="epoch of the kept state, from 1")
    stopped_at: int | None = Field(description="last epoch of a training that stopped early, else null")


class Kept(Format):
    """kept.json: which state of a generator was kept, and why."""

    mode: Mode = Field(description="what several findings of one net mean to it")
    select: Literal["last", "kid"] = Field(description="which state is kept: the last, or that of the least KID")
    average: float = Field(description="decay of the running average of the generator's weights, 0: none")
    epoch: int = Field(description="epoch of the kept state, from 1")
    epochs: int = Field(description="epochs asked for")
    stopped_at: int | None = Field(description="last epoch of a training that stopped early, else null")
    why: str | None = Field(description="why training stopped early, else null")
    kept_back: int = Field(description="images kept back for KID")
