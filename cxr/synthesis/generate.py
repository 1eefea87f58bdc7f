"""X-rays of one finding from its generator, and their label rows, for `balance` and for the arm gan_untrained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core.files import Progress, read_json
from cxr.core.resize import resize
from cxr.gan import generators, nets
from cxr.gan.formats import Generator
from cxr.synthesis import balance
from cxr.training.weights import load_into

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def read(folder: Path) -> Generator:
    """A generator's generator.json. Raises ValueError, with the file and the cure, when it can't be read."""
    return read_json(folder / "generator.json", f"gan@{folder.name}-{folder.parent.name}", Generator)


def generator(folder: Path, meta: Generator, trained: bool = True) -> nets.Generator:
    """The net of a generator's folder; trained: False for its initial weights.

    Raises ValueError where the weights belong to another net.
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
    """(iterator over n images of a finding, uint8 S x S, their label rows).

    folder: of the generator; labels: of balance.LABELLINGS; train: the real training rows that label vectors are drawn
    from; trained: as in `generator`.
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

    return images(), balance.synthetic_rows(name, n, labels, train, meta.view, drawn, made_for_finding=not pooled)


def enrich(
    fabric: Fabric,
    rows: pd.DataFrame,
    train: pd.DataFrame,
    folders: Mapping[str, Path],
    counts: Mapping[str, int],
    labels: str,
    size: int,
    seed: int,
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """(rows with the synthetic rows after them, the synthetic images at `size`, in the same order).

    folders: finding -> folder of its generator; counts: finding -> number of images; the others as in `synthesise`.
    """
    blocks, images = [rows], []
    with Progress("balance", sum(counts.values())) as progress:
        for name, n in counts.items():
            generated, generated_rows = synthesise(fabric, folders[name], name, n, labels, train, seed)
            blocks.append(generated_rows)
            for image in generated:
                images.append(resize(image, size))
                progress.update(1)
    return pd.concat(blocks, ignore_index=True), images
