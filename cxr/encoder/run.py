"""One run of the encoder: which images train it, the training, every image's features, what describes the net."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.guard import check_held_out, read_split
from cxr.core.store import Store, open_store
from cxr.encoder.formats import Encoder
from cxr.encoder.settings import Settings
from cxr.encoder.train import Trained, encode, fit
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Cohort(NamedTuple):
    """The training images (image_id, patient_id), the store of all images, the sum of the split."""

    training: pd.DataFrame
    store: Store
    split_sha256: str


def load(split: Path, store: Path, settings: Settings) -> Cohort:
    """The training images of RSNA's split. Raises ValueError for a store of another size."""
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
    """Train on the training images. Returns the training's result, and the features of every image of the store:
    image_id, feature.0 to feature.<D - 1>, float32.
    """
    trained = fit(
        fabric, Images([cohort.store], cohort.training["image_id"], fabric.device), checkpoints, settings, label=label
    )
    ids = np.sort(cohort.store.index["image_id"].to_numpy(object))
    values = encode(fabric, trained.net, Images([cohort.store], ids, fabric.device)).numpy()
    table = pd.DataFrame(values, columns=[f"feature.{k}" for k in range(values.shape[1])])
    table.insert(0, "image_id", ids)
    return trained, table


def about(cohort: Cohort, trained: Trained, settings: Settings) -> Encoder:
    """encoder.json."""
    last = trained.history.iloc[-1]
    return Encoder(
        **settings.model_dump(),
        features=trained.net.features,
        images=len(cohort.training),
        patients=int(cohort.training["patient_id"].nunique()),
        loss=round(float(last["loss"]), 6),
        matched=round(float(last["matched"]), 6),
        split_sha256=cohort.split_sha256,
    )
