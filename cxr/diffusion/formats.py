"""generator.json of a diffusion model, written by the diffusion stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format, recorded
from cxr.diffusion.settings import Settings


class Generator(recorded(Settings)):
    """generator.json: what rebuilds the net, and what it was trained on."""

    kind: Literal["diffusion"] = Field(description="kind of generator")
    generator: str = Field(description="name")
    conditions: list[str] = Field(description="what the positions of its condition hold")
    spread: float = Field(description="standard deviation of the training images, scaled to [-1, 1]")
    images: int = Field(description="training images")
    patients: int = Field(description="training patients")
    split_sha256: str = Field(description="SHA-256 of the split's table")


class Kept(Format):
    """kept.json: what was trained, for the report."""

    epochs: int = Field(description="epochs trained")
    steps: int = Field(description="optimiser steps taken")
    weights: int = Field(description="weights of the net")
    loss: float = Field(description="mean loss of the last epoch")
