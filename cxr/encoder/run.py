"""One run of the encoder: which images train it, the training, every image's features, what describes the net."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.guard import check_held_out, read_split
from cxr.core.store import Store, open_store
from cxr.encoder.formats import Encoder
from cxr.encoder.net import Frozen
from cxr.encoder.settings import Settings
from cxr.encoder.train import EncoderTraining, Trained, encode, fit
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints
from cxr.training.pretrained import XRV, trained_on, unseen

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LEAST = 32  # pixels a side, of a DenseNet121's images


class Cohort(NamedTuple):
    """The training images (image_id, patient_id), the store of all images, the sum of the split."""

    training: pd.DataFrame
    store: Store
    split_sha256: str


def load(split: Path, store: Path, settings: Settings) -> Cohort:
    """The training images of RSNA's split. Raises ValueError for a store of another size, and for weights that have
    seen RSNA's patients, who are NIH's: some of them are validated and tested on.
    """
    if settings.weights not in ("none", "imagenet") and not settings.weights.startswith(XRV):
        raise ValueError(f"encoder.weights = {settings.weights!r}: give none, imagenet or {XRV}<name>")
    if {"nih", "rsna"} & set(trained_on(settings.weights)):
        raise ValueError(
            f"encoder.weights = {settings.weights}: these weights were trained on X-rays of RSNA's patients, on whom "
            f"its features would be tested: choose {unseen('nih')[-1]}, or imagenet"
        )
    if settings.weights != "none" and settings.size < LEAST:
        raise ValueError(f"encoder.size = {settings.size}: a DenseNet121 needs {LEAST} pixels or more, best 224")
    table, info = read_split(split, "rsna")
    training = table.loc[table["split"] == "train", ["image_id", "patient_id"]].drop_duplicates("image_id")
    check_held_out(training, table, info.by, str(split))
    images = open_store(store)
    if images.size != settings.size:
        raise ValueError(
            f"{store} holds images of {images.size} px, not of encoder.size = {settings.size}: "
            "run the resize stage again"
        )
    return Cohort(training.sort_values("image_id", ignore_index=True), images, info.sha256)


def run(
    fabric: Fabric, cohort: Cohort, checkpoints: Checkpoints, settings: Settings, label: str
) -> tuple[Trained, pd.DataFrame]:
    """Train on the training images, unless others trained the net. Returns the training's result, and the features of
    every image of the store: image_id, feature.0 to feature.<D - 1>, float32.
    """
    if settings.weights == "none":
        images = Images([cohort.store], cohort.training["image_id"], fabric.device)
        trained = fit(fabric, images, checkpoints, settings, label=label)
    else:
        net = Frozen(settings.weights).to(fabric.device)
        trained = Trained(net, pd.DataFrame({"epoch": [], **{name: [] for name in EncoderTraining.names}}))
    ids = np.sort(cohort.store.index["image_id"].to_numpy(object))
    values = encode(fabric, trained.net, Images([cohort.store], ids, fabric.device)).numpy()
    table = pd.DataFrame(values, columns=[f"feature.{k}" for k in range(values.shape[1])])
    table.insert(0, "image_id", ids)
    return trained, table


def about(cohort: Cohort, trained: Trained, settings: Settings) -> Encoder:
    """encoder.json."""
    seen = cohort.training if len(trained.history) else cohort.training[:0]
    last = {name: None for name in EncoderTraining.names}
    if len(seen):
        last = {name: round(float(trained.history[name].iloc[-1]), 6) for name in EncoderTraining.names}
    return Encoder(
        **settings.model_dump(),
        **last,
        features=trained.net.features,
        images=len(seen),
        patients=int(seen["patient_id"].nunique()),
        split_sha256=cohort.split_sha256,
    )
