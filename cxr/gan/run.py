"""One run of a generator: which images train it and which judge it, the training, and what describes the nets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.guard import guard, read_split
from cxr.core.picture import grid
from cxr.core.records import load
from cxr.core.store import open_store
from cxr.gan import generators
from cxr.gan.formats import GRID, Generator, Kept
from cxr.gan.settings import Settings
from cxr.gan.train import Trained, fit
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LAST = {"select": "last", "holdout": 0.0, "patience": 0}  # the settings of a training that is not judged by KID


class Data(NamedTuple):
    """training, kept_back: records of the images that train the GAN, and of those that judge it. settings: those that
    the images allow. split_sha256: of the split's table.
    """

    training: pd.DataFrame
    kept_back: pd.DataFrame
    settings: Settings
    split_sha256: str


def choose(records: Path, split: Path, settings: Settings, generator: str) -> Data:
    """The certain positives among the training patients' images of a view. With select = kid those of the share
    `holdout` of the patients are kept back; where these are too few, it prints so and selects the last state.

    Raises ValueError for a generator that the options do not fit, and for too few images.
    """
    findings = generators.check(generator, settings.mode)
    if settings.select == "kid" and not settings.holdout:
        raise ValueError(
            "gan.select = kid needs X-rays to judge by: set gan.holdout, to 0.2 say, or gan.select to last"
        )
    if settings.select == "last":
        settings = settings.model_copy(update=LAST)
    table = load(records, "chexpert")
    splits, info = read_split(split, "chexpert")
    training = splits.loc[splits["split"] == "train", "image_id"]
    chosen = generators.positives(table[table["image_id"].isin(training)], findings, settings.view)
    guard(chosen, splits, by=info.by, what=f"gan@{generator}")
    back = generators.kept_back(chosen["patient_id"], settings.holdout, settings.seed)
    if settings.select == "kid" and back.sum() < 2:
        print(
            f"gan@{generator}: gan.holdout = {settings.holdout:g} keeps back {back.sum()} of {len(back)} images, too "
            "few for a KID: trains on all and keeps the last state, as gan.select = last"
        )
        settings, back = settings.model_copy(update=LAST), np.zeros_like(back)
    kept_back, chosen = (chosen[part].reset_index(drop=True) for part in (back, ~back))
    if len(chosen) < 2:
        raise ValueError(
            f"{generator}: {len(chosen)} certain positives among the training patients' {settings.view} images, "
            "a GAN needs some hundreds; take it out of rare.findings and gan_runs.generators"
        )
    return Data(chosen, kept_back, settings, info.sha256)


def run(
    fabric: Fabric, data: Data, store: Path, checkpoints: Checkpoints, generator: str, label: str
) -> tuple[Trained, np.ndarray]:
    """Train on a store's images. Returns the training's result and a grid of real images."""
    opened, settings = open_store(store), data.settings
    images, kept_back = (Images([opened], part["image_id"], fabric.device) for part in (data.training, data.kept_back))
    findings = generators.members(generator)
    trained = fit(
        fabric,
        images,
        checkpoints,
        settings,
        label=label,
        vectors=generators.vectors(data.training, findings) if settings.mode == "conditional" else None,
        kept_back=kept_back if settings.select == "kid" else None,
    )
    rows = opened.rows(data.training["image_id"])
    real = np.sort(np.random.default_rng(settings.seed).permutation(rows)[: GRID**2])
    return trained, grid(opened.images[real])


def reports(data: Data, trained: Trained, generator: str) -> tuple[Generator, Kept]:
    """generator.json and kept.json."""
    settings = data.settings.model_dump()
    state = {"epoch": trained.epoch, "stopped_at": trained.epochs if trained.stopped else None}
    chosen = {name: settings[name] for name in ("mode", "select", "average", "epochs")}
    return Generator(
        **settings,
        **state,
        kind="dcgan",
        generator=generator,
        findings=generators.members(generator),
        images=len(data.training),
        patients=int(data.training["patient_id"].nunique()),
        split_sha256=data.split_sha256,
    ), Kept(**chosen, **state, why=trained.stopped, kept_back=len(data.kept_back))
