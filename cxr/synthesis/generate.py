"""X-rays of one finding from its generator, and the label rows that they carry: what `balance` adds to the training
table, and the control arm of untrained generators after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core.files import read_json
from cxr.gan import generators, nets
from cxr.gan.formats import Generator
from cxr.synthesis import balance
from cxr.training.weights import load_into

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def read(folder: Path) -> Generator:
    """What a generator's JSON says of it. Raises ValueError, naming the file and the cure, when it is not one."""
    return read_json(folder / "generator.json", f"gan@{folder.name}", Generator)


def generator(folder: Path, meta: Generator, trained: bool = True) -> nets.Generator:
    """The net that `read` told of. trained: False for the generator as it was before its first step. Raises ValueError
    where the weights are of another net.
    """
    labels = len(generators.members(folder.name)) if meta.mode == "conditional" else 0
    net = (meta.size, meta.z_dim, meta.width, meta.channels, meta.seed)
    g, _ = nets.build(*net, labels=labels, gain=meta.gain)
    if trained:
        load_into(g, folder / "generator.safetensors")
    return g


def synthesise(
    fabric: Fabric, folder: Path, name: str, n: int, labels: str, train: pd.DataFrame, seed: int, trained: bool = True
) -> tuple[Iterator[np.ndarray], pd.DataFrame]:
    """(n images of a finding, S x S uint8 one by one, their label rows). folder: of the generator; labels: of
    balance.LABELLINGS; train: the real training rows, from which label vectors are drawn; trained: as `generator`.
    """
    meta, members = read(folder), generators.members(folder.name)
    conditional, pooled = (meta.mode == kind for kind in ("conditional", "pooled"))
    drawn = y = None
    if conditional or labels == "sampled":
        rng = np.random.default_rng([seed, *name.encode()])
        drawn = balance.sources(members if pooled else [name], n, train, rng)
    if conditional:
        y = generators.vectors(drawn, members)
    g = fabric.setup(generator(folder, meta, trained))
    key = (seed, 4) if len(members) == 1 else (seed, 4, members.index(name))  # no X-ray twice

    def images() -> Iterator[np.ndarray]:
        for start in range(0, n, 1024):
            part = None if y is None else y[start : start + 1024]
            many = min(1024, n - start)
            yield from nets.generate(g, many, meta.z_dim, *key, start, device=fabric.device, labels=part)

    return images(), balance.synthetic_rows(name, n, labels, train, meta.view, drawn, known=not pooled)
