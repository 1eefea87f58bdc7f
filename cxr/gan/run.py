"""One run of a generator: which images train it and which judge it, the training, and what describes the nets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.guard import guard, read_split
from cxr.core.records import load
from cxr.core.store import open_store
from cxr.gan import generators, nets
from cxr.gan.formats import Generator, Kept
from cxr.gan.train import Settings, Trained, fit
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Options at the values that change nothing: the fingerprint leaves them out (cxr/training/fingerprint.py).
NEUTRAL = {
    "mode": "per_finding", "select": "last", "holdout": 0.0, "flip": 0.0, "average": 0.0, "patience": 0,
    "stop_diversity": 0.0, "label_smoothing": 0.0, "spectral_norm": False, "saturating": False, "gain": 1.0,
    "diffaugment": "none",
}  # fmt: skip


class Data(NamedTuple):
    """training, kept_back: records of the images that train the GAN, and of those that judge it. select: last | kid.
    holdout: share of the patients kept back. split_sha256: of the split's table.
    """

    training: pd.DataFrame
    kept_back: pd.DataFrame
    select: str
    holdout: float
    split_sha256: str


def choose(
    records: Path,
    split: Path,
    *,
    generator: str,
    mode: str,
    view: str,
    select: str,
    holdout: float,
    seed: int,
) -> Data:
    """The certain positives among the training patients' images of a view. With select = kid those of the share
    `holdout` of the patients are kept back; where these are too few, it prints so and selects the last state.

    Raises ValueError for a generator that the options do not fit, and for too few images.
    """
    findings = generators.check(generator, mode)
    if select == "kid" and not holdout:
        raise ValueError(
            "gan.select = kid needs X-rays to judge by: set gan.holdout, to 0.2 say, or gan.select to last"
        )
    holdout = holdout if select == "kid" else 0.0
    table = load(records, "chexpert")
    splits, info = read_split(split, "chexpert")
    training = splits.loc[splits["split"] == "train", "image_id"]
    chosen = generators.positives(table[table["image_id"].isin(training)], findings, view)
    guard(chosen, splits, by=info.by, what=f"gan@{generator}")
    back = generators.kept_back(chosen["patient_id"], holdout, seed)
    if select == "kid" and back.sum() < 2:
        print(
            f"gan@{generator}: gan.holdout = {holdout:g} keeps back {back.sum()} of {len(back)} images, too few for a "
            "KID: trains on all and keeps the last state, as gan.select = last"
        )
        select, holdout, back = "last", 0.0, np.zeros_like(back)
    kept_back, chosen = (chosen[part].reset_index(drop=True) for part in (back, ~back))
    if len(chosen) < 2:
        raise ValueError(
            f"{generator}: {len(chosen)} certain positives among the training patients' {view} images, "
            "a GAN needs some hundreds; take it out of rare.findings and gan_runs.generators"
        )
    return Data(chosen, kept_back, select, holdout, info.sha256)


def described(data: Data, settings: Settings, *, generator: str, mode: str, size: int, view: str) -> dict:
    """The options that shape a generator, as generator.json names them."""
    facts = {"size": size, "view": view, "findings": generators.members(generator), "mode": mode}
    facts |= {"select": data.select, "holdout": data.holdout, "diffaugment": settings.diffaugment}
    return facts | {name: v for name, v in dataclasses.asdict(settings).items() if name != "sample_every"}


def run(
    fabric: Fabric,
    data: Data,
    store: Path,
    checkpoints: Checkpoints,
    settings: Settings,
    facts: dict,
    *,
    label: str,
    epochs: int,
) -> tuple[Trained, np.ndarray]:
    """Train on a store's images; facts: of `described`. Returns the training's result and a grid of real images."""
    opened = open_store(store)
    images, kept_back = (Images([opened], part["image_id"], fabric.device) for part in (data.training, data.kept_back))
    trained = fit(
        fabric,
        images,
        checkpoints,
        settings,
        label=label,
        epochs=epochs,
        vectors=generators.vectors(data.training, facts["findings"]) if facts["mode"] == "conditional" else None,
        kept_back=kept_back if data.select == "kid" else None,
    )
    rows = opened.rows(data.training["image_id"])
    real = np.sort(np.random.default_rng(settings.seed).permutation(rows)[: nets.GRID**2])
    return trained, nets.grid(opened.images[real])


def reports(data: Data, trained: Trained, facts: dict, *, generator: str, epochs: int) -> tuple[Generator, Kept]:
    """generator.json and kept.json."""
    kept = {"mode": facts["mode"], "select": data.select, "average": facts["average"], "epoch": trained.epoch}
    kept |= {"epochs": epochs, "stopped_at": trained.epochs if trained.stopped else None, "why": trained.stopped}
    meta = {"net": "DCGAN", "generator": generator, "epochs": epochs} | facts
    meta |= {"images": len(data.training), "patients": int(data.training["patient_id"].nunique())}
    meta |= {"split_sha256": data.split_sha256} | {name: kept[name] for name in ("epoch", "stopped_at")}
    return Generator(**meta), Kept(**kept, kept_back=len(data.kept_back))
