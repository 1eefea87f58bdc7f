"""generator.json and kept.json, written by the stages gan and projection."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format, recorded
from cxr.gan.settings import NEUTRAL, Mode, Projection, Select, Settings

GRID = 8  # a grid of samples beside kept.json is a picture of GRID x GRID images


class Generator(recorded(Settings, absent={"sample_every"}, neutral=NEUTRAL)):
    """generator.json and discriminator.json: what rebuilds the nets, and what they were trained on."""

    kind: Literal["dcgan"] = Field(description="kind of generator")
    generator: str = Field(description="name: slugs of its findings, joined by +")
    findings: list[str] = Field(description="slugs of its findings")
    images: int = Field(description="training images")
    patients: int = Field(description="training patients")
    split_sha256: str = Field(description="SHA-256 of the split's table")
    epoch: int = Field(description="epoch of the kept state, from 1")
    stopped_at: int | None = Field(description="last epoch of a training that stopped early, else null")


class ProjectionGenerator(recorded(Projection, neutral=NEUTRAL)):
    """generator.json and discriminator.json of a projection GAN."""

    kind: Literal["projection"] = Field(description="kind of generator")
    generator: str = Field(description="name")
    conditions: list[str] = Field(description="what the positions of its condition hold")
    images: int = Field(description="training images")
    patients: int = Field(description="training patients")
    split_sha256: str = Field(description="SHA-256 of the split's table")
    epoch: int = Field(description="epoch of the kept state, from 1")


class Kept(Format):
    """kept.json: which state of a generator was kept, and why."""

    mode: Mode | Literal["projection"] = Field(description="what several findings, or all conditions, mean to the net")
    select: Select = Field(description="which state is kept: the last, or that of the least KID")
    average: float = Field(description="decay of the running average of the generator's weights, 0: none")
    epoch: int = Field(description="epoch of the kept state, from 1")
    epochs: int = Field(description="epochs asked for")
    stopped_at: int | None = Field(description="last epoch of a training that stopped early, else null")
    why: str | None = Field(description="why training stopped early, else null")
    kept_back: int = Field(description="images kept back for KID")
