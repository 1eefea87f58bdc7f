"""Stores of made-up pictures, by numpy alone: for machines that have only torch and what the trainings need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cxr.core.findings import SLUGS
from cxr.core.store import open_store, write_store
from cxr.training.batches import Images


def noise(folder: Path, n: int, size: int, device: torch.device | str) -> Images:
    """n pictures of noise."""
    rng = np.random.default_rng(0)
    ids = [f"{i:06d}" for i in range(n)]
    drawn = (rng.integers(0, 256, (size, size), dtype=np.uint8) for _ in ids)
    write_store(folder, drawn, pd.DataFrame({"image_id": ids}))
    return Images([open_store(folder)], ids, device)


def table(truth: np.ndarray) -> pd.DataFrame:
    """A label table, every label known: truth N x K of 1 and 0."""
    columns = {}
    for kind, values in (("target", truth), ("weight", np.ones_like(truth)), ("truth", truth)):
        columns |= {f"{kind}.{name}": values[:, k].astype(np.float32) for k, name in enumerate(SLUGS)}
    return pd.DataFrame(columns)


def findings(folder: Path, n: int, size: int, seed: int, device: torch.device | str) -> tuple[Images, pd.DataFrame]:
    """(n noisy pictures, their label table): finding k is a soft spot at a place of its own, of varying strength."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, len(SLUGS))) < 0.3
    y, x = np.mgrid[:size, :size] / size
    places = [(0.15 + 0.2 * (k % 4), 0.15 + 0.2 * (k // 4)) for k in range(len(SLUGS))]
    spots = np.stack([np.exp(-((y - b) ** 2 + (x - a) ** 2) / 0.004) for a, b in places])

    def picture(present: np.ndarray) -> np.ndarray:
        strength = np.where(present, rng.uniform(10, 60, len(SLUGS)), rng.uniform(0, 20, len(SLUGS)))
        return np.clip(90 + np.tensordot(strength, spots, 1) + rng.normal(0, 30, (size, size)), 0, 255).astype(np.uint8)

    ids = [f"{seed}-{i:06d}" for i in range(n)]
    write_store(folder, (picture(present) for present in truth), pd.DataFrame({"image_id": ids}))
    return Images([open_store(folder)], ids, device), table(truth)
