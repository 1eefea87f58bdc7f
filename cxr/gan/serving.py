"""Which generator makes the X-rays of which finding. No training reads this: a new kind trains no GAN again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxr.core.findings import finding, slug
from cxr.gan.generators import members

WHOLE = ("diffusion", "projection", "editing")  # of all training images, whatever their findings; a name is its kind


def generator_of(name: str, generators: Sequence[str]) -> str:
    """The generator that makes a finding's X-rays. Raises ValueError when none or several do."""
    serving = [g for g in generators if g in WHOLE or slug(finding(name)) in members(g)]
    if len(serving) != 1:
        what = "no generator" if not serving else " and ".join(serving)
        raise ValueError(
            f"rare.findings has {slug(finding(name))}, of which balanced_by.samplers has {what}: it needs one"
        )
    return serving[0]


def folder(root: Path, name: str, generators: Sequence[str]) -> Path:
    """The folder of a finding's results: one level below its generator's where that serves
    several findings.
    """
    generator = generator_of(name, generators)
    return root / generator if serves_one(generator) else root / generator / slug(finding(name))


def serves_one(generator: str) -> bool:
    """Whether a generator, by its name, draws the X-rays of one finding alone."""
    return generator not in WHOLE and len(members(generator)) == 1
