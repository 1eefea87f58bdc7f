"""One run of paper 2: a variant or control arm trained on one labelled draw, its predictions, samples and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.adgm import samples
from cxr.adgm.controls import MeanTeacher, PseudoLabel, Supervised
from cxr.adgm.labelled import Draw
from cxr.adgm.nets import ADGM
from cxr.adgm.published import PaperCode
from cxr.adgm.settings import Settings
from cxr.adgm.train import AdgmTraining, Data, Generative, Paper, WithoutZ
from cxr.core.store import Store
from cxr.training import loop
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# The class behind each name of cxr/adgm/variants.py.
TRAININGS: dict[str, type[AdgmTraining]] = {
    "corrected": Generative,
    "paper": Paper,
    "paper_code": PaperCode,
    "no_z": WithoutZ,
    "supervised": Supervised,
    "pseudo_label": PseudoLabel,
    "mean_teacher": MeanTeacher,
}
COLUMNS = 8  # of the picture of samples


@dataclass(frozen=True)
class Result:
    """What a run gives. net: with the running average of the weights. picture, agreement: None for a control arm."""

    net: ADGM
    info: dict  # of model.json
    history: pd.DataFrame  # a row per epoch
    predictions: pd.DataFrame  # a row per validation image
    picture: np.ndarray | None  # of samples, uint8
    agreement: dict | None  # of the samples with a classifier of real images
    warning: str | None  # one line


def run(
    machine: Fabric, draw: Draw, store: Store, settings: Settings, checkpoints: Checkpoints, *, epochs: int
) -> Result | None:
    """Train from the start, or on from the newest checkpoint. None on all but the first of several devices.

    settings: as the variant's `settle` gives them. Raises ValueError when a term of the loss is no longer finite, or
    when there is too little to train the variant on.
    """
    train, valid = (Images([store], part["image_id"], machine.device) for part in (draw.train, draw.valid))
    y_valid = draw.valid["label"].to_numpy()
    data = Data(train, draw.y_labelled, valid, y_valid, draw.shares(settings.prior))
    training = TRAININGS[settings.variant](settings, machine, data)
    trained = loop.run(
        training, checkpoints, label=settings.name, epochs=epochs, steps=training.steps, batch=settings.batch,
        images=training.n_u, unit="unlabelled images",
    )  # fmt: skip
    if not machine.is_global_zero:
        return None
    picture = agreement = None
    if isinstance(training, Generative):
        picture = samples.conditional_means(training.averaged, COLUMNS, settings.seed)
        agreement = samples.agreement(
            training.averaged, train, draw.train["label"].to_numpy(), valid, y_valid,
            seed=settings.seed, **settings.geometry,
        )  # fmt: skip
    info = {"net": type(training.averaged).__name__, "class_names": list(draw.class_names)}
    info |= training.shaping(settings) | {"prior": data.prior, "scale": list(settings.scale)}  # prior: class shares
    info |= {"n_labelled": training.n_l, "drawn": draw.drawn, "n_unlabelled": training.n_u, "n_valid": len(valid)}
    info |= {"alpha": training.alpha, "epochs": epochs, "best_epoch": training.best["epoch"]}
    predictions = draw.valid.drop(columns="role")
    for which, prob in (("last", training.last), ("best", training.best["prob"])):
        predictions[[f"prob_{which}.{k}" for k in range(settings.classes)]] = prob.numpy()
    warning = training.warning(trained.history.iloc[-1])
    return Result(training.averaged, info, trained.history, predictions, picture, agreement, warning)
