"""One run of paper 2: a variant or control arm trained on one labelled draw, its predictions, samples and settings."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.adgm import samples
from cxr.adgm.controls import FixMatch, MeanTeacher, PseudoLabel, Supervised
from cxr.adgm.formats import Model, Samples
from cxr.adgm.labelled import Draw, check_held_out, draw_labels
from cxr.adgm.nets import ADGM, decoder_maps
from cxr.adgm.published import PaperCode
from cxr.adgm.settings import Settings
from cxr.adgm.train import AdgmTraining, Data, Generative, Paper, WithoutZ
from cxr.core.guard import read_split
from cxr.core.records import load as load_records
from cxr.core.store import Store, open_store
from cxr.training import loop
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    import torch
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
    "fixmatch": FixMatch,
}
COLUMNS = 8  # of the picture of samples


class Cohort(NamedTuple):
    """The labelled draw, the images, and the sum of the split that the draw is from."""

    draw: Draw
    store: Store
    split_sha256: str


@dataclass(frozen=True)
class Result:
    """What a run gives. net: with the running average of the weights. picture, agreement: None for a control arm."""

    net: ADGM
    info: Model
    history: pd.DataFrame  # a row per epoch
    predictions: pd.DataFrame  # a row per validation image, then per test image
    picture: np.ndarray | None  # of samples, uint8
    agreement: Samples | None  # of the samples with a classifier of real images
    warning: str | None  # one line


def load(records: Path, split: Path, store: Path, settings: Settings) -> Cohort:
    """The labelled draw of the training images, and the images. settings: as the variant's `settle` gives them.

    A class with too few images is one line on stderr. Raises ValueError for a size that the decoder cannot make or that
    is not the store's, for a draw that cannot be made, and for one that would train on held-out patients.
    """
    decoder_maps(settings.size)
    table, info = read_split(split, "rsna")
    draw = draw_labels(
        load_records(records, "rsna"), table, classes=settings.classes, labels=settings.labels, seed=settings.seed
    )
    check_held_out(draw.train, table, info.by, str(records))
    if draw.warning:
        print(f"{settings.name}: {draw.warning}", file=sys.stderr)
    images = open_store(store)
    if images.size != settings.size:
        raise ValueError(
            f"{store} holds images of {images.size} px, not of adgm.size = {settings.size}: run the resize stage again"
        )
    return Cohort(draw, images, info.sha256)


def run(machine: Fabric, cohort: Cohort, settings: Settings, checkpoints: Checkpoints) -> Result:
    """Train from the start, or on from the newest checkpoint.

    settings: as the variant's `settle` gives them. Raises ValueError when a term of the loss is no longer finite, or
    when there is too little to train the variant on.
    """
    draw = cohort.draw
    train, valid, test = (
        Images([cohort.store], part["image_id"], machine.device) if len(part) else None
        for part in (draw.train, draw.valid, draw.test)
    )
    y_valid = draw.valid["label"].to_numpy()
    data = Data(train, draw.y_labelled, valid, y_valid, draw.shares(settings.prior), test)
    training = TRAININGS[settings.variant](settings, machine, data)
    trained = loop.run(
        training, checkpoints, label=settings.name, epochs=settings.epochs, steps=training.steps, batch=settings.batch,
        images=training.n_u, unit="unlabelled images",
    )  # fmt: skip
    picture = agreement = None
    if isinstance(training, Generative):
        picture = samples.conditional_means(training.averaged, COLUMNS, settings.seed)
        agreement = Samples(**samples.agreement(
            training.averaged, train, draw.train["label"].to_numpy(), valid, y_valid,
            seed=settings.seed, **settings.geometry,
        ))  # fmt: skip
    info = Model(
        **training.shaping(settings), epochs=settings.epochs, net=type(training.averaged).__name__,
        class_names=list(draw.class_names), class_shares=data.prior, n_labelled=training.n_l, drawn=draw.drawn,
        n_unlabelled=training.n_u, n_valid=len(valid), n_test=len(draw.test), alpha=training.alpha,
        best_epoch=training.best["epoch"], split_sha256=cohort.split_sha256,
    )  # fmt: skip
    predictions = _table(draw.valid, training.last, training.best["prob"])
    if test is not None:
        tested = _table(draw.test, training.tested(), training.best["test"])
        predictions = pd.concat([predictions, tested], ignore_index=True)
    predictions["split_sha256"] = cohort.split_sha256
    warning = training.warning(trained.history.iloc[-1])
    return Result(training.averaged, info, trained.history, predictions, picture, agreement, warning)


def _table(part: pd.DataFrame, last: torch.Tensor, best: torch.Tensor) -> pd.DataFrame:
    """The images of a part with their probabilities after the last and the best epoch, each N x K."""
    table = part.drop(columns="role")
    for which, prob in (("last", last), ("best", best)):
        table[[f"prob_{which}.{k}" for k in range(prob.shape[1])]] = prob.numpy()
    return table
