"""generator.json and kept.json of a diffusion model and of its edits, written by the stages diffusion and editing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format, recorded
from cxr.diffusion.settings import NEUTRAL, Edit, Settings


class Generator(recorded(Settings, neutral=NEUTRAL)):
    """generator.json: what rebuilds the net, and what it was trained on."""

    kind: Literal["diffusion"] = Field(description="kind of generator")
    generator: str = Field(description="name")
    conditions: list[str] = Field(description="what the positions of its condition hold")
    spread: float = Field(description="standard deviation of the training images, scaled to [-1, 1]")
    images: int = Field(description="training images")
    patients: int = Field(description="training patients")
    split_sha256: str = Field(description="SHA-256 of the split's table")


def settings_of(meta: Generator) -> Settings:
    """The settings of the training that a generator.json describes."""
    return Settings(**meta.model_dump(include=set(Settings.model_fields)))


class Editing(Generator):
    """generator.json of edits: that of the diffusion model which makes them, and how."""

    kind: Literal["editing"] = Field(description="kind of generator")
    editing: recorded(Edit) = Field(description="what shapes an edit")


class Edited(Format):
    """kept.json of edits: what they start from and how much they change, for the report."""

    sources: int = Field(description="real training X-rays that edits start from")
    patients: int = Field(description="their patients")
    masked: float = Field(ge=0, le=1, description="mean share of an X-ray that an edit may change")


class Kept(Format):
    """kept.json: what was trained, for the report."""

    epochs: int = Field(description="epochs trained")
    steps: int = Field(description="optimiser steps taken")
    weights: int = Field(description="weights of the net")
    loss: float = Field(description="mean loss of the last epoch")
