"""The classifier of paper 1: DenseNet121 with 14 sigmoid outputs, under any label policy, for the baseline and the
final model alike. Where uncertain is a class of its own (U-MultiClass), it has three outputs per finding.

Loss: binary cross-entropy over the findings, sum(w * bce) / sum(w) over a batch, where the policy's weight w masks a
label (0) out (cxr/objectives.py, which has the control arms' too).
Optimiser: Adam, lr 1e-4, betas 0.9 / 0.999; batch 16; 3 epochs; the epoch with the best mean validation AUC is kept
(PAPER 1, section 4). What is validated and kept is a running average of the weights (cxr/average.py); with decay 0 it
is the paper's, the weights as they are. A batch depends on (seed, epoch, step) alone; state is kept in Checkpoints, so
that an interrupted training continues exactly.

Shapes: N batch, S image size, K = 14 findings, O outputs: K, or 3K (per finding: negative, positive, uncertain).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxr import weights
from cxr.average import copy_of, follow
from cxr.batches import Images, affine, in_order, order, warp
from cxr.checkpoints import Checkpoints
from cxr.densenet import DenseNet121
from cxr.files import Progress
from cxr.labels import SLUGS, UNCERTAIN
from cxr.runtime import generator, restore, seeded

if TYPE_CHECKING:
    from lightning_fabric import Fabric

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNIT_MEAN, UNIT_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Classifier(nn.Module):
    """Gray images N x 1 x S x S in [0, 1] -> N x O logits: three equal channels, normalised, through DenseNet121.

    classes: per finding; 2 is one output, 3 is three.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], classes: int = 2) -> None:
        super().__init__()
        self.net = DenseNet121(len(SLUGS) * (3 if classes == 3 else 1))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.expand(-1, 3, -1, -1).sub(self.mean).div_(self.std)  # a second large tensor costs more than the sums
        return self.net(x.contiguous(memory_format=torch.channels_last))


def build(start: str, seed: int, classes: int = 2) -> Classifier:
    """A classifier that starts from `start`: imagenet | none | the path of a safetensors file that an earlier training
    wrote.

    ImageNet's weights come with ImageNet's normalisation. Raises ValueError when they cannot be had, or do not fit.
    """
    imagenet = start == "imagenet"
    with seeded(seed, 0):
        net = Classifier(*((IMAGENET_MEAN, IMAGENET_STD) if imagenet else (UNIT_MEAN, UNIT_STD)), classes)
    if imagenet:
        features = {k: v for k, v in _imagenet().items() if not k.startswith("classifier.")}
        net.net.load_state_dict(features, strict=False)
    elif start != "none":
        if not Path(start).is_file():
            raise ValueError(
                f"classifier.weights = {start!r}: no such file; give imagenet, none or a .safetensors path"
            )
        weights.load_into(net, start)
    return net.to(memory_format=torch.channels_last)


def _imagenet() -> dict[str, torch.Tensor]:
    from torchvision.models import DenseNet121_Weights, densenet121

    chosen = DenseNet121_Weights.IMAGENET1K_V1
    try:
        return densenet121(weights=chosen).state_dict()  # torchvision also renames the old file's keys
    except OSError as error:
        name = chosen.url.rsplit("/", 1)[-1]
        raise ValueError(
            f"the ImageNet weights could not be fetched ({error}): put {name} from download.pytorch.org/models into "
            f"{torch.hub.get_dir()}/checkpoints, or train from scratch with -S classifier.weights=none"
        ) from None


def columns(table: pd.DataFrame, kind: str) -> np.ndarray:
    """N x K float32 of one kind of column (target | weight | truth | uncertain) in the order of the findings."""
    return table[[f"{kind}.{name}" for name in SLUGS]].to_numpy(np.float32, copy=True)


def classes(table: pd.DataFrame) -> int:
    """Classes per finding that a label table is of: 3 where it holds uncertain.<finding>, else 2. Raises ValueError for
    one that says so of some findings only, or of a label that counts as certain too.
    """
    held = [name for name in UNCERTAIN if name in table]
    if not held:
        return 2
    if lacking := [name for name in UNCERTAIN if name not in held]:
        raise ValueError(f"it has {held[0]} but not {lacking[0]}")
    own, weight = columns(table, "uncertain"), columns(table, "weight")
    if not np.isin(own, (0, 1)).all() or (own * weight).any():
        raise ValueError("an uncertain.<finding> is not 1 or 0, or is 1 beside a weight")
    return 3


def learnt(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(target, weight), N x K float32 each, that a net learns from: with three classes, 2 is an uncertain label, and
    counts.
    """
    target, weight = columns(table, "target"), columns(table, "weight")
    if classes(table) == 3:
        own = columns(table, "uncertain") == 1
        target[own], weight[own] = 2, 1
    return target, weight


def probability(logits: torch.Tensor) -> torch.Tensor:
    """Logits N x O -> N x K, P(positive): of three classes, restricted to positive and negative (Irvin et al. 2019)."""
    if logits.shape[1] == 3 * len(SLUGS):
        negative, positive, _ = logits.float().view(-1, len(SLUGS), 3).unbind(2)
        return torch.sigmoid(positive - negative)  # softmax over the two
    return torch.sigmoid(logits.float())


@torch.no_grad()
def predict(
    fabric: Fabric, net: nn.Module, images: Images, batch: int = 64, after: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Scores in [0, 1], N x K float32, without augmentation. after: called after every batch."""
    net.eval()
    scores = np.empty((len(images), len(SLUGS)), np.float32)
    for chosen, x in in_order(images, batch):
        with fabric.autocast():
            logits = net(x)
        scores[chosen.numpy()] = probability(logits).cpu().numpy()
        after()
    return scores


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve of one finding (truth 1 / 0 / NaN, NaN left out), by mid-ranks. For choosing the epoch;
    cxr/metrics.py
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
    truth = columns(table, "truth").astype(np.float64)
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
    target, weight = (torch.from_numpy(values).to(fabric.device) for values in learnt(train))
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
                follow(averaged, net, average, epoch * steps + step)
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
