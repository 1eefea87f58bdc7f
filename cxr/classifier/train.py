"""Training paper 1's classifier (cxr/classifier/net.py), and the choice of its epoch.

Adam, lr 1e-4, betas 0.9 / 0.999; batch 16; 3 epochs; the epoch with the best mean validation AUC is kept (PAPER 1,
section 4). Validated and kept is a running average of the weights (cxr/training/average.py); decay 0 is the paper's,
the weights as they are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision.ops import StochasticDepth

from cxr.classifier.net import Classifier, predict, targets_and_weights
from cxr.classifier.settings import Settings
from cxr.core.findings import SLUGS, columns_of
from cxr.training import loop
from cxr.training.average import Average
from cxr.training.batches import Images, affine, moves, order, warp
from cxr.training.checkpoints import Checkpoints
from cxr.training.feed import Batch
from cxr.training.machine import adam, generator, restore

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Labelled(NamedTuple):
    """A label table and the images of its rows, in order."""

    table: pd.DataFrame
    images: Images


class Trained(NamedTuple):
    """net: with the weights of `best_epoch` (from 1). history: epoch, train_loss, valid_loss, valid_macro_auc."""

    net: Classifier
    history: pd.DataFrame
    best_epoch: int


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve of one finding by mid-ranks; truth is 1, 0 or NaN, and NaN is left out.

    It chooses the epoch. cxr/evaluation/metrics.py judges the result; an edit there must not train a network again.
    """
    certain = ~np.isnan(truth)
    positive = truth[certain] == 1
    m = int(positive.sum())
    ranks = pd.Series(scores[certain]).rank().to_numpy()
    return float((ranks[positive].sum() - m * (m + 1) / 2) / (m * (len(positive) - m)))


def validation(scores: np.ndarray, table: pd.DataFrame, select_on: Sequence[str]) -> tuple[float, float]:
    """(cross-entropy over the certain labels, mean AUC over the findings `select_on`; NaN when there are none)."""
    truth = columns_of(table, "truth").astype(np.float64)
    certain = ~np.isnan(truth)
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.where(truth == 1, np.log(clipped), np.log1p(-clipped))[certain].mean()
    chosen = [SLUGS.index(name) for name in select_on]
    mean = float(np.mean([auc(truth[:, k], scores[:, k]) for k in chosen])) if chosen else math.nan
    return float(loss), mean


def phases(
    n: int, total: int, first_rows: np.ndarray | None = None, last_rows: np.ndarray | None = None, last: float = 0.0
) -> list[tuple[int, torch.Tensor]]:
    """(first step, rows it draws from) of each phase of a training of `total` steps on n rows.

    first_rows: these alone for the share of the steps that they are of all rows, then the others alone. last_rows:
    these alone in the share `last` of the steps, at the end.
    """
    every = torch.arange(n)
    if first_rows is not None:
        first = torch.zeros(n, dtype=torch.bool)
        first[torch.as_tensor(first_rows)] = True
        return [(0, every[first]), (round(total * len(first_rows) / n), every[~first])]
    end = [(round(total * (1 - last)), torch.as_tensor(last_rows))] if last and last_rows is not None else []
    return [(0, every), *end]


def rows_by_step(batch: int, seed: int, parts: Sequence[tuple[int, torch.Tensor]]) -> Callable[[int], torch.Tensor]:
    """A function from a step to the rows of its batch: one permutation of a phase's rows after the other.

    Batches are whole; the rows left over at the end of a permutation differ from one to the next. parts: of `phases`.
    """
    latest: dict[tuple[int, int], torch.Tensor] = {}

    def rows_at(step: int) -> torch.Tensor:
        which = sum(step >= start for start, _ in parts[1:])
        start, pool = parts[which]
        number, place = divmod(step - start, max(1, len(pool) // batch))
        if (which, number) not in latest:
            latest.clear()
            latest[which, number] = pool[order(len(pool), seed, 1 + 2 * which, number)]
        return latest[which, number][place * batch : (place + 1) * batch]

    return rows_at


class ClassifierTraining(loop.Training):
    """Adam on an objective; the epoch with the best validation is kept in `best`.

    select_on: findings whose mean validation AUC chooses the epoch; where there is none, the validation loss does.
    warmup_share: epochs that end within this share of the training are never the best.
    """

    names = ("loss",)

    def __init__(
        self,
        fabric: Fabric,
        net: Classifier,
        train: Labelled,
        valid: Labelled,
        objective: nn.Module,
        settings: Settings,
        *,
        select_on: Sequence[str],
        steps: int,
        first_rows: np.ndarray | None,
        last_rows: np.ndarray | None = None,
        last: float = 0.0,
    ) -> None:
        self.cure = f"lower classifier.lr (now {settings.lr:g})"
        self.fabric, self.net, self.images, self.valid, self.settings = fabric, net, train.images, valid, settings
        self.select_on, self.epochs, self.steps = select_on, settings.epochs, steps
        n = len(train.table)
        self.warmup_share = max(objective.warmup_share, 0.0 if first_rows is None else len(first_rows) / n)
        parts = phases(n, self.epochs * steps, first_rows, last_rows, last)
        self.rows_at = rows_by_step(settings.batch, settings.seed, parts)
        self.model, self.optimiser = fabric.setup(net, adam(net, fabric, lr=settings.lr, betas=(0.9, 0.999)))
        self.objective = objective.to(fabric.device)
        self.average = Average(net, settings.average)
        self.geometry = {"flip": settings.flip, "rotate": settings.rotate, "crop": (settings.crop_min, 1.0)}
        self.drops = any(isinstance(layer, _DropoutNd | StochasticDepth) for layer in net.modules())
        self.target, self.weight = (torch.from_numpy(v).to(fabric.device) for v in targets_and_weights(train.table))
        self.best: dict = {"epoch": 0, "score": -math.inf, "weights": {}}

    def state(self) -> dict:
        return {
            "net": self.net.state_dict(),
            "average": self.average.state(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
        }

    def load(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.average.load(state["average"])
        self.objective.load_state_dict(state["objective"])
        restore(self.optimiser, state["optimiser"])
        self.best = state["best"]

    def start_epoch(self, epoch: int) -> None:
        self.model.train()

    def draw(self, epoch: int, step: int) -> Batch:
        rows = self.rows_at(epoch * self.steps + step)
        batch = {"rows": rows, "images": self.images.drawn(rows)}
        if moves(self.geometry):
            batch["geometry"] = affine(len(rows), generator(self.settings.seed, 2, epoch, step), **self.geometry)
        return batch

    def form(self, epoch: int, step: int) -> Hashable:
        """Whether the objective is not yet itself."""
        return (epoch * self.steps + step) / (self.epochs * self.steps) < self.objective.warmup_share

    def key(self, epoch: int, step: int) -> tuple[int, ...] | None:
        return (self.settings.seed, 4, epoch, step) if self.drops else None

    def update(self, batch: Batch, form: bool) -> torch.Tensor:
        rows, done = batch["rows"], 0.0 if form else 1.0
        x = warp(self.images.pixels(batch["images"]), batch.get("geometry"), self.images.size)
        loss = self.objective(self.model(x), self.target[rows], self.weight[rows], done, rows)
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        return loss.detach()[None]

    def after(self, epoch: int, step: int) -> None:
        self.average.update(epoch * self.steps + step)

    def end_epoch(self, epoch: int, means: dict[str, float], keep: Callable[[], None]) -> dict:
        scores = predict(self.fabric, self.average.net, self.valid.images, after=keep)
        loss, mean_auc = validation(scores, self.valid.table, self.select_on)
        score = mean_auc if self.select_on else -loss
        if score > self.best["score"] and epoch / self.epochs > self.warmup_share:
            self.best = {"epoch": epoch, "score": score, "weights": copy.deepcopy(self.average.net.state_dict())}
        return {"train_loss": means["loss"], "valid_loss": loss, "valid_macro_auc": mean_auc}

    def line(self, history: list[dict]) -> str:
        row = history[-1]
        return (
            f"epoch {row['epoch']}: train loss {row['train_loss']:.4f}, valid loss {row['valid_loss']:.4f}, "
            f"valid macro AUC {row['valid_macro_auc']:.4f}"
        )


def fit(
    fabric: Fabric,
    net: Classifier,
    train: Labelled,
    valid: Labelled,
    checkpoints: Checkpoints,
    objective: nn.Module,
    settings: Settings,
    *,
    label: str,
    select_on: Sequence[str],
    epoch_images: int | None = None,
    first_rows: np.ndarray | None = None,
    last_rows: np.ndarray | None = None,
    last: float = 0.0,
) -> Trained:
    """Train `net`. select_on: as in ClassifierTraining. epoch_images: length of an epoch, in whole batches; by default
    all training images. first_rows, last_rows, last: rows of `train` that the training begins or ends with, as in
    `phases`.

    Raises ValueError when the loss is no longer finite.
    """
    steps = max(1, (epoch_images or len(train.table)) // settings.batch)
    training = ClassifierTraining(
        fabric, net, train, valid, objective, settings, select_on=select_on, steps=steps, first_rows=first_rows,
        last_rows=last_rows, last=last,
    )  # fmt: skip
    done = loop.run(training, checkpoints, label=label, epochs=settings.epochs, steps=steps, batch=settings.batch)
    net.load_state_dict(training.best["weights"])
    return Trained(net, done.history, training.best["epoch"])
