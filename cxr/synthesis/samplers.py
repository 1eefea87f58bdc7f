"""What draws X-rays: a class for each kind of generator, opened by the `kind` of its generator.json.

A new kind is a module of this package with a class `Drawer`, its name in KINDS and in `_drawer`, and a stage that
writes such a folder.
A kind's module is imported when a generator of it is opened: the diffusion model's libraries take seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxr.core import conditions
from cxr.core.files import read_json
from cxr.core.findings import SLUGS
from cxr.core.formats import Format
from cxr.gan import serving
from cxr.training.weights import load_into

KINDS = ("dcgan", "diffusion", "projection", "editing")
Place = Callable[[nn.Module], nn.Module]  # puts a net where it computes, such as fabric.setup


class Sampler(ABC):
    """A generator that draws X-rays.

    meta: its generator.json, with size (pixels a side), view, seed, images, epochs, split_sha256. findings: slugs of
    those whose X-rays it draws. conditional: whether it takes a condition. whole: whether that is all of a record, so
    that it draws negatives too. certain: whether it is known which finding an X-ray shows. edits: whether its X-rays
    are real ones with a finding added: `draw` then chooses these, as cxr/synthesis/editing.py says.
    """

    Meta: type[Format]
    meta: Any
    findings: Sequence[str]
    conditional = False
    whole = False
    certain = True
    edits = False

    def __init__(self, folder: Path, place: Place, trained: bool = True) -> None:
        self.folder, self.meta = folder, read_json(folder / "generator.json", stage_of(folder), self.Meta)
        self.prepare()
        net = self.build()
        if trained:
            load_into(net, folder / "generator.safetensors")
        self.net = place(net)

    def prepare(self) -> None:  # noqa: B027
        """Set what `build` needs of meta."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The net with its initial weights."""

    def draw(
        self, names: Sequence[str], n: int, rng: np.random.Generator, among: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """n edits, where it `edits`."""
        raise NotImplementedError

    def beside(self, rows: pd.DataFrame, findings: Sequence[str], *key: int) -> pd.DataFrame:
        """The rows whose X-rays stand beside real ones that are judged by the findings (slugs), as many."""
        return rows

    @abstractmethod
    def encode(self, rows: pd.DataFrame) -> np.ndarray | None:
        """The conditions of records, or of a label table's rows where not `whole`: float32 N x K; None where not
        `conditional`.
        """

    @abstractmethod
    def sample(self, n: int, encoded: np.ndarray | None, *key: int) -> np.ndarray:
        """n X-rays, uint8 n x S x S, that depend on the conditions (n x K, of `encode`) and the key alone."""

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device


class OfAll(Sampler):
    """A generator of all training images, conditioned on labels, sex, age and view (cxr/core/conditions.py)."""

    findings = SLUGS
    conditional = whole = True

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        return conditions.encode(rows)


class Kind(Format, extra="ignore"):
    """What every generator.json holds."""

    kind: str


def _drawer(folder: Path) -> type[Sampler]:
    file, stage = folder / "generator.json", stage_of(folder)
    kind = read_json(file, stage, Kind).kind
    if kind not in KINDS:
        raise ValueError(f"{file}: kind {kind!r} is none of {', '.join(KINDS)}; `dvc repro -f {stage}` makes it again")
    if kind == "dcgan":
        from cxr.synthesis.dcgan import Drawer as Dcgan

        return Dcgan
    if kind == "projection":
        from cxr.synthesis.projection import Drawer as Projection

        return Projection
    if kind == "editing":
        from cxr.synthesis.editing import Drawer as Editing

        return Editing
    from cxr.synthesis.diffusion import Drawer as Diffusion

    return Diffusion


def open_sampler(folder: Path, place: Place, trained: bool = True) -> Sampler:
    """The sampler of a generator's folder. trained: False for its initial weights.

    Raises ValueError where generator.json can't be read, or the weights belong to another net.
    """
    return _drawer(folder)(folder, place, trained)


def folder_of(gans: Path, finding: str, names: Sequence[str]) -> Path:
    """The folder of the generator that draws a finding's X-rays.

    gans: folder of one seed's generators, with a folder for each name. names: of the generators to draw from. A
    generator of all training images that was not trained for this seed is the one of the least seed beside it.
    Raises ValueError when none or several of the names draw the finding's X-rays.
    """
    name = serving.generator_of(finding, names)
    own = gans / name
    if name not in serving.WHOLE or own.is_dir():
        return own
    others = [path for path in gans.parent.glob(f"*/{name}") if path.parent.name.isdigit()]
    return min(others, key=lambda path: int(path.parent.name), default=own)


def stage_of(folder: Path) -> str:
    """The stage instance that writes a generator's folder: gan@lung_lesion-0, diffusion@0."""
    name, seed = folder.name, folder.parent.name
    return f"{name}@{seed}" if name in serving.WHOLE else f"gan@{name}-{seed}"


def judge_of(folder: Path) -> str:
    """The stage instance that judges a generator's X-rays: fidelity@lung_lesion-0, fidelity_of_diffusion@0."""
    name, seed = folder.name, folder.parent.name
    return f"fidelity_of_{name}@{seed}" if name in serving.WHOLE else f"fidelity@{name}-{seed}"


def judged_in(fidelity: Path, folder: Path, finding: str) -> Path:
    """The folder in which the fidelity stage judges a generator's X-rays of a finding: below `fidelity`, as the
    generator lies below its folder of models.
    """
    below = fidelity / folder.parent.name / folder.name
    return below if serving.serves_one(folder.name) else below / finding
