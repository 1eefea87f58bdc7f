"""One run of the diffusion model: which images train it, the training, sheets of samples, what describes the net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core import conditions
from cxr.core.everybody import Everybody
from cxr.core.findings import FINDINGS, finding
from cxr.core.picture import COLUMNS
from cxr.core.store import open_store
from cxr.diffusion.formats import Generator, Kept
from cxr.diffusion.net import sample
from cxr.diffusion.settings import Settings
from cxr.diffusion.train import Trained, fit
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def run(
    fabric: Fabric, data: Everybody, store: Path, checkpoints: Checkpoints, settings: Settings, label: str
) -> tuple[Trained, np.ndarray, np.ndarray]:
    """Train on a store's images. Returns the training's result, a sheet of real images, and one generated from the
    conditions of the same images.
    """
    opened = open_store(store)
    images = Images([opened], data.training["image_id"], fabric.device)
    y = conditions.encode(data.training)
    trained = fit(fabric, images, y, checkpoints, settings, label=label)
    shown = np.sort(np.random.default_rng(settings.seed).permutation(len(images))[: COLUMNS**2])
    real = opened.images[opened.rows(data.training["image_id"].iloc[shown])]
    made = sample(trained.net, y[shown], settings, trained.spread, settings.seed, 3, device=fabric.device)
    return trained, real, made


def rows(fabric: Fabric, trained: Trained, settings: Settings, findings: Sequence[str]) -> np.ndarray:
    """X-rays of the same noise under other conditions: a row without a finding, then one for each of `findings`
    (slugs); COLUMNS a row, uint8 N x S x S. The patients are women and men of 30 to 90 years, AP and PA.
    """
    who = pd.DataFrame({"sex": list("FMFMFMFM"), "age": np.linspace(30.0, 90.0, COLUMNS)})
    who = who.assign(view=["AP", "PA"] * (COLUMNS // 2), projection="frontal", **dict.fromkeys(FINDINGS, 0.0))
    shown = [who.assign(**{"No Finding": 1.0}), *(who.assign(**{finding(name): 1.0}) for name in findings)]
    made = []
    for table in shown:
        y = conditions.encode(table)
        made.append(sample(trained.net, y, settings, trained.spread, settings.seed, 8, device=fabric.device))
    return np.concatenate(made)


def reports(data: Everybody, trained: Trained, settings: Settings, generator: str) -> tuple[Generator, Kept]:
    """generator.json and kept.json."""
    about = Generator(
        **settings.model_dump(),
        kind="diffusion",
        generator=generator,
        conditions=list(conditions.CONDITIONS),
        spread=trained.spread,
        images=len(data.training),
        patients=int(data.training["patient_id"].nunique()),
        split_sha256=data.split_sha256,
    )
    steps = trained.epochs * (len(data.training) // min(settings.batch, len(data.training)))
    weights = sum(weight.numel() for weight in trained.net.parameters())
    loss = round(float(trained.history["loss"].iloc[-1]), 6)
    return about, Kept(epochs=trained.epochs, steps=steps, weights=weights, loss=loss)
