"""One run of the classifier on one label table: its data, its training, its predictions and its description."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.classifier import objectives
from cxr.classifier.formats import Model, SelectionSplit
from cxr.classifier.net import Classifier, classes_of, predict, targets_and_weights
from cxr.classifier.settings import Settings
from cxr.classifier.train import Labelled, fit
from cxr.core.files import read_table
from cxr.core.findings import COLUMNS, SLUGS, in_view
from cxr.core.guard import guard, read_split
from cxr.core.store import open_store
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric


class Data(NamedTuple):
    """parts: train, valid and test. classes: per finding, 2 or 3."""

    parts: dict[str, Labelled]
    classes: int
    split: SelectionSplit


class Result(NamedTuple):
    """net: with the best epoch's weights. history: a row an epoch. predictions: scores and truth of the validation and
    test images. meta: model.json.
    """

    net: Classifier
    history: pd.DataFrame
    predictions: pd.DataFrame
    meta: Model


def load(
    table: str | os.PathLike, split: Path, view: str, stores: Sequence[Path], device: torch.device | str = "cpu"
) -> Data:
    """Read a label table's images of a view. stores: of the real images, then of the synthetic ones, if any, which are
    for training alone.

    Raises ValueError with the file's name for a part without images, and for one that would train on held-out patients.
    """
    rows = in_view(read_table(table, columns=COLUMNS), view)
    splits, info = read_split(split, "chexpert", SelectionSplit)
    tables = {name: rows[rows["split"] == name].reset_index(drop=True) for name in ("train", "valid", "test")}
    for name, part in tables.items():
        if part.empty:
            raise ValueError(f"{table}: no {name} image with classifier.view = {view}; choose another view or split")
    guard(tables["train"], splits, by=info.by, what=str(table))
    try:
        classes = classes_of(rows)
    except ValueError as error:
        raise ValueError(f"{table}: {error}; `dvc repro -f label@u_multiclass` makes it again") from None
    opened = [open_store(folder) for folder in stores]
    parts = {
        name: Labelled(part, Images(opened if name == "train" else opened[:1], part["image_id"], device))
        for name, part in tables.items()
    }
    return Data(parts, classes, info)


def run(
    fabric: Fabric,
    net: Classifier,
    data: Data,
    checkpoints: Checkpoints,
    settings: Settings,
    *,
    spec: dict,
    label: str,
    real_alone: float = 0.0,
) -> Result:
    """Train on the training images and predict the others. spec: of a control arm, or objectives.BASELINE. real_alone:
    share of the steps, at the end, that see no synthetic image.

    Raises ValueError when the loss is no longer finite.
    """
    train = data.parts["train"]
    objective = objectives.objective(spec, *targets_and_weights(train.table), data.classes, train.table.get("group"))
    trained = fit(
        fabric,
        net,
        train,
        data.parts["valid"],
        checkpoints,
        objective,
        settings,
        label=label,
        select_on=data.split.select_on,
        epoch_images=spec["epoch_images"],
        first_rows=np.flatnonzero(train.table["synthetic"]) if spec["lead"] else None,
        last_rows=np.flatnonzero(~train.table["synthetic"].to_numpy(bool)) if real_alone else None,
        last=real_alone,
    )
    predictions = [predicted(fabric, trained.net, data.parts[name]) for name in ("valid", "test")]
    table = pd.concat(predictions, ignore_index=True).assign(split_sha256=data.split.sha256)
    meta = Model(
        **settings.model_dump(),
        findings=list(SLUGS),
        classes=data.classes,
        select_on=data.split.select_on,
        best_epoch=trained.best_epoch,
        split_sha256=data.split.sha256,
        train_images=len(train.table),
    )
    return Result(trained.net, trained.history, table, meta)


def predicted(fabric: Fabric, net: Classifier, part: Labelled) -> pd.DataFrame:
    """image_id, patient_id, split, score.<finding> and truth.<finding> of a part's images."""
    scores = pd.DataFrame(predict(fabric, net, part.images), columns=[f"score.{s}" for s in SLUGS])
    return pd.concat(
        [part.table[["image_id", "patient_id", "split"]], scores, part.table[[f"truth.{s}" for s in SLUGS]]], axis=1
    )
