"""Training paper 1's classifier (cxr/classifier/net.py): the loop, and the choice of its epoch.

Optimiser: Adam, lr 1e-4, betas 0.9 / 0.999; batch 16; 3 epochs; the epoch with the best mean validation AUC is kept
(PAPER 1, section 4). What is validated and kept is a running average of the weights (cxr/training/average.py); with
decay 0 it is the paper's, the weights as they are. A batch depends on (seed, epoch, step) alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxr.classifier.net import Classifier, predict, targets_and_weights
from cxr.core.files import Progress
from cxr.core.findings import SLUGS, columns_of
from cxr.training.average import copy_of, update_average
from cxr.training.batches import Images, affine, order, warp
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import generator, restore

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve of one finding (truth 1 / 0 / NaN, NaN left out), by mid-ranks. For choosing the epoch;
    cxr/evaluation/metrics.py
    judges the result, and its file stays out of what retrains a network."""
    known = ~np.isnan(truth)
    positive = truth[known] == 1
    m = int(positive.sum())
    ranks = pd.Series(scores[known]).rank().to_numpy()
    return float((ranks[positive].sum() - m * (m + 1) / 2) / (m * (len(positive) - m)))


def validation(scores: np.ndarray, table: pd.DataFrame, select_on: Sequence[str]) -> tuple[float, float]:
    """(masked cross-entropy against the fixed truth, mean AUC over the findings that can be judged; NaN when there is
    none).
    """
    truth = columns_of(table, "truth").astype(np.float64)
    known = ~np.isnan(truth)
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.where(truth == 1, np.log(clipped), np.log1p(-clipped))[known].mean()
    chosen = [SLUGS.index(name) for name in select_on]
    mean = float(np.mean([auc(truth[:, k], scores[:, k]) for k in chosen])) if chosen else math.nan
    return float(loss), mean


def _draw(n: int, batch: int, seed: int, total: int, lead: np.ndarray | None) -> Callable[[int], torch.Tensor]:
    """Step number -> the rows of its batch: one permutation after the other of the n rows, whole batches alone (what is
    left of one is in another place in the next); with `lead`, of those rows first and then of the others.
    """
    pools, starts = [torch.arange(n)], [0]
    if lead is not None:
        first = torch.zeros(n, dtype=torch.bool)
        first[torch.as_tensor(lead)] = True
        pools, starts = [pools[0][first], pools[0][~first]], [0, round(total * len(lead) / n)]
    latest: dict[tuple[int, int], torch.Tensor] = {}

    def rows_at(step: int) -> torch.Tensor:
        which = int(step >= starts[-1]) if lead is not None else 0
        pool = pools[which]
        number, place = divmod(step - starts[which], max(1, len(pool) // batch))
        if (which, number) not in latest:
            latest.clear()
            latest[which, number] = pool[order(len(pool), seed, 1 + 2 * which, number)]
        return latest[which, number][place * batch : (place + 1) * batch]

    return rows_at


def fit(
    fabric: Fabric,
    net: Classifier,
    train: pd.DataFrame,
    train_images: Images,
    valid: pd.DataFrame,
    valid_images: Images,
    checkpoints: Checkpoints,
    *,
    objective: nn.Module,
    label: str,
    select_on: Sequence[str],
    epochs: int,
    batch: int,
    lr: float,
    average: float,
    crop_min: float,
    flip: float,
    rotate: float,
    seed: int,
    epoch_images: int | None = None,
    lead: np.ndarray | None = None,
) -> tuple[Classifier, pd.DataFrame, int]:
    """Train; returns (the net with the best epoch's weights, history, best epoch from 1).

    train, valid: label tables whose rows are the images, in order. history: epoch, train_loss, valid_loss,
    valid_macro_auc, one row an epoch. The best epoch has the highest mean validation AUC over `select_on`; where that
    list is empty, the lowest validation loss.
    epoch_images: that an epoch counts, whole batches of them; the training images by default. lead: N of the rows of
    `train` that the training begins with, alone, for the share of all its steps that they are of the rows; the others
    follow, alone. An epoch that ends within that share, or within the objective's own lead, can't be the best one.
    Raises ValueError when the loss is no longer finite.
    """
    steps = max(1, (epoch_images or len(train)) // batch)
    leading = max(objective.lead, 0.0 if lead is None else len(lead) / len(train))
    rows_at = _draw(len(train), batch, seed, epochs * steps, lead)
    optimiser = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.999), fused=True)
    model, optimiser = fabric.setup(net, optimiser)
    objective = objective.to(fabric.device)
    averaged = copy_of(net)
    target, weight = (torch.from_numpy(values).to(fabric.device) for values in targets_and_weights(train))
    history: list[dict] = []
    best: dict = {"epoch": 0, "score": -math.inf, "weights": {}}
    epoch, step, total = 0, 0, 0.0
    if state := checkpoints.load(epochs * steps):
        net.load_state_dict(state["net"])
        averaged.load_state_dict(state["average"])
        objective.load_state_dict(state["objective"])
        restore(optimiser, state["optimiser"])
        history, best, (epoch, step, total) = state["history"], state["best"], state["position"]

    def whole() -> dict:
        return {
            "net": net.state_dict(),
            "average": averaged.state_dict(),
            "objective": objective.state_dict(),
            "optimiser": optimiser.state_dict(),
            "history": history,
            "best": best,
            "position": [epoch, step, float(total)],
        }

    def keep() -> None:
        checkpoints.step(whole, epoch * steps + step)

    with checkpoints, Progress(label, epochs * steps * batch) as progress:
        progress.skip((epoch * steps + step) * batch)
        while epoch < epochs:
            model.train()
            while step < steps:
                chosen = rows_at(epoch * steps + step)
                geometry = affine(
                    len(chosen), generator(seed, 2, epoch, step), flip=flip, rotate=rotate, crop=(crop_min, 1.0)
                )
                mine = slice(fabric.global_rank, None, fabric.world_size)  # several devices share one batch
                chosen, geometry = chosen[mine], geometry[mine]
                x = warp(train_images.gather(chosen), geometry, train_images.size)
                rows = chosen.to(fabric.device)
                done = (epoch * steps + step) / (epochs * steps)
                loss = objective(model(x), target[rows], weight[rows], done)
                optimiser.zero_grad(set_to_none=True)
                fabric.backward(loss)
                optimiser.step()
                update_average(averaged, net, average, epoch * steps + step)
                total = total + loss.detach()
                step += 1
                progress.update(batch)
                keep()
            train_loss = float(total) / steps
            if not math.isfinite(train_loss):
                raise ValueError(
                    f"{label}: the loss is {train_loss} in epoch {epoch + 1}; lower classifier.lr (now {lr:g})"
                )
            scores = predict(fabric, averaged, valid_images, after=keep)
            valid_loss, macro = validation(scores, valid, select_on)
            epoch, step, total = epoch + 1, 0, 0.0
            history.append(
                {"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss, "valid_macro_auc": macro}
            )
            score = macro if select_on else -valid_loss
            if score > best["score"] and epoch / epochs > leading:
                best = {"epoch": epoch, "score": score, "weights": copy.deepcopy(averaged.state_dict())}
            progress.line(
                f"epoch {epoch}: train loss {train_loss:.4f}, valid loss {valid_loss:.4f}, valid macro AUC {macro:.4f}"
            )
        checkpoints.step(whole, epochs * steps, last=True)
    net.load_state_dict(best["weights"])
    return net, pd.DataFrame(history), best["epoch"]
