"""One run of paper 2: a variant or control arm trained on one labelled draw, its predictions, samples and settings."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from cxr.adgm import samples
from cxr.adgm.controls import FixMatch, MeanTeacher, PseudoLabel, Supervised
from cxr.adgm.encoded import Encoded, Vectors
from cxr.adgm.features import GenerativeOverFeatures, SupervisedOverFeatures
from cxr.adgm.fitted import CoresetProbe, Fit, LabelPropagation, Pool, Probe, UncertainProbe
from cxr.adgm.formats import Fitted, Model, Samples
from cxr.adgm.labelled import Draw, draw_labels
from cxr.adgm.nets import decoder_maps
from cxr.adgm.published import PaperCode
from cxr.adgm.settings import Settings
from cxr.adgm.train import AdgmTraining, Data, Generative, Paper, WithoutZ
from cxr.adgm.variants import FEATURES, GENERATIVE
from cxr.core.guard import check_held_out, read_split
from cxr.core.records import load as load_records
from cxr.core.store import Store, open_store
from cxr.training import loop
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

# The class behind each name of cxr/adgm/variants.py: trained in steps, or fitted at once.
TRAININGS: dict[str, type[AdgmTraining]] = {
    "corrected": Generative,
    "paper": Paper,
    "paper_code": PaperCode,
    "no_z": WithoutZ,
    "supervised": Supervised,
    "pseudo_label": PseudoLabel,
    "mean_teacher": MeanTeacher,
    "fixmatch": FixMatch,
    "features": GenerativeOverFeatures,
    "features_supervised": SupervisedOverFeatures,
}
FITTED: dict[str, type[Fit]] = {
    "probe": Probe,
    "label_propagation": LabelPropagation,
    "probe_coreset": CoresetProbe,
    "probe_uncertain": UncertainProbe,
}
COLUMNS = 8  # of the picture of samples


class Cohort(NamedTuple):
    """The labelled draw, the images, and the sum of the split that the draw is from. images: pixels or features."""

    draw: Draw
    images: Store | Encoded
    split_sha256: str

    def parts(self, device: torch.device | str) -> list[Images | Vectors | None]:
        """The training, validation and test images on a device; None for a part without images."""
        train = self.draw.train["image_id"]
        return [
            None if not len(part)
            else Vectors(self.images.of(part["image_id"], like=train), device) if isinstance(self.images, Encoded)
            else Images([self.images], part["image_id"], device)
            for part in (self.draw.train, self.draw.valid, self.draw.test)
        ]  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a run gives. net: with the running average of the weights. picture, agreement: None but for a model of
    pixels.
    """

    net: nn.Module
    info: Model | Fitted
    history: pd.DataFrame  # a row per epoch; of a control arm that is fitted, per candidate
    predictions: pd.DataFrame  # a row per validation image, then per test image
    picture: np.ndarray | None  # of samples, uint8
    agreement: Samples | None  # of the samples with a classifier of real images
    warning: str | None  # one line


def load(records: Path, split: Path, source: Path, settings: Settings) -> Cohort:
    """The labelled draw of the training images, and the images. settings: as the variant's `settle` gives them.

    source: the store, or the encoder's folder for a variant of features. A class with too few images is one line on
    stderr. Raises ValueError for a size that the decoder cannot make or that is not the store's, for a draw that cannot
    be made, and for one that would train on held-out patients.
    """
    of_features = settings.variant in FEATURES
    if not of_features:
        decoder_maps(settings.size)
    table, info = read_split(split, "rsna")
    draw = draw_labels(
        load_records(records, "rsna"), table, classes=settings.classes, labels=settings.labels, seed=settings.seed
    )
    check_held_out(draw.train, table, info.by, str(records))
    if draw.warning:
        print(f"{settings.name}: {draw.warning}", file=sys.stderr)
    if of_features:
        return Cohort(draw, Encoded(source, info.sha256), info.sha256)
    images = open_store(source)
    if images.size != settings.size:
        raise ValueError(
            f"{source} holds images of {images.size} px, not of adgm.size = {settings.size}: run the resize stage again"
        )
    return Cohort(draw, images, info.sha256)


def run(machine: Fabric, cohort: Cohort, settings: Settings, checkpoints: Checkpoints) -> Result:
    """Train from the start, or on from the newest checkpoint.

    settings: as the variant's `settle` gives them. Raises ValueError when a term of the loss is no longer finite, or
    when there is too little to train the variant on.
    """
    if settings.variant in FITTED:
        return _fitted(cohort, settings)
    draw = cohort.draw
    train, valid, test = cohort.parts(machine.device)
    y_valid = draw.valid["label"].to_numpy()
    data = Data(train, draw.y_labelled, valid, y_valid, draw.shares(settings.prior), test)
    training = TRAININGS[settings.variant](settings, machine, data)
    trained = loop.run(
        training, checkpoints, label=settings.name, epochs=settings.epochs, steps=training.steps, batch=settings.batch,
        images=training.n_u, unit="unlabelled images",
    )  # fmt: skip
    picture = agreement = None
    if settings.variant in GENERATIVE:
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
    tested = None if test is None else (training.tested(), training.best["test"])
    predictions = _predictions(cohort, (training.last, training.best["prob"]), tested)
    warning = training.warning(trained.history.iloc[-1])
    return Result(training.averaged, info, trained.history, predictions, picture, agreement, warning)


def _fitted(cohort: Cohort, settings: Settings) -> Result:
    """A control arm that is fitted at once, with the candidate that cross-validation chooses."""
    draw, arm = cohort.draw, FITTED[settings.variant]
    train, valid, test = (None if part is None else part.resident.flatten(1).numpy() for part in cohort.parts("cpu"))
    pool = Pool(train, draw.train["label"].to_numpy(), draw.train["patient_id"].to_numpy(object), len(draw.y_labelled))
    data = pool.labelled(arm.chosen_images(pool, settings.seed))
    candidate, history = arm.chosen(data, settings.seed)
    model, prior = arm.fitted(data, candidate), draw.shares(settings.prior)
    correction = np.asarray(prior) / np.bincount(data.y, minlength=settings.classes) * len(data.y)

    def predicted(z: np.ndarray) -> torch.Tensor:
        prob = arm.predicted(model, z) * correction
        return torch.from_numpy((prob / prob.sum(1, keepdims=True)).astype(np.float32))

    found = [None if z is None else (predicted(z),) * 2 for z in (valid, test)]
    info = Fitted(
        **arm.shaping(settings), features=train.shape[1], candidate=candidate, class_names=list(draw.class_names),
        class_shares=prior, n_labelled=len(data.y),
        drawn={name: int((data.y == k).sum()) for k, name in enumerate(draw.class_names)},
        n_unlabelled=len(train) - len(data.y), n_valid=len(draw.valid), n_test=len(draw.test),
        split_sha256=cohort.split_sha256,
    )  # fmt: skip
    return Result(arm.module(model), info, history, _predictions(cohort, *found), None, None, None)


def _predictions(cohort: Cohort, valid: tuple, test: tuple | None) -> pd.DataFrame:
    """A row per validation image, then per test image. valid, test: as of `_table`."""
    parts = [_table(cohort.draw.valid, *valid)] + ([_table(cohort.draw.test, *test)] if test is not None else [])
    return pd.concat(parts, ignore_index=True).assign(split_sha256=cohort.split_sha256)


def _table(part: pd.DataFrame, last: torch.Tensor, best: torch.Tensor) -> pd.DataFrame:
    """The images of a part with their probabilities after the last and the best epoch, each N x K."""
    table = part.drop(columns="role")
    for which, prob in (("last", last), ("best", best)):
        table[[f"prob_{which}.{k}" for k in range(prob.shape[1])]] = prob.numpy()
    return table
