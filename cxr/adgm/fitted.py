"""Control arms on the encoder's features that scikit-learn fits at once: `probe`, `label_propagation`, and the probe
with labels of images that it chooses itself, as many as the draw has in all: `probe_coreset`, `probe_uncertain`.

Each has a number to choose. It is chosen by cross-validation within the labelled images, by patients, on the mean log
loss: no validation and no test image takes part.

Shapes: N images (N_l labelled first), D features, K classes.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.semi_supervised import LabelSpreading
from torch import nn

from cxr.adgm.settings import Settings

FOLDS = 5  # at most; no more than a class has labelled patients
ALPHA = 0.99  # share of an image's neighbours against its own label in a step of spreading, as in Zhou et al.
LEAST = 1e-6  # of a probability in a log loss
FIRST = 0.2  # share of the labels that are of random images, before an arm chooses
ROUNDS = 4  # in which probe_uncertain chooses
UNKNOWN = -1  # scikit-learn's label of an unlabelled image


class Training(NamedTuple):
    """The training images. z: features, N x D, the N_l labelled ones first; y N_l, int64; patients: of the labelled."""

    z: np.ndarray
    y: np.ndarray
    patients: np.ndarray


class Pool(NamedTuple):
    """All training images, of which `budget` may be labelled: z N x D, y N and patients N, the draw's labelled first.

    An arm reads the classes and patients of images that it has chosen, and of no others.
    """

    z: np.ndarray
    y: np.ndarray
    patients: np.ndarray
    budget: int

    def labelled(self, chosen: np.ndarray) -> Training:
        """The training images with these labelled."""
        rest = np.setdiff1d(np.arange(len(self.z)), chosen)
        return Training(self.z[np.concatenate([chosen, rest])], self.y[chosen], self.patients[chosen])


class Fit(ABC):
    """A control arm that is fitted at once. candidates: the values that cross-validation chooses from."""

    candidates: ClassVar[tuple[float, ...]]

    @classmethod
    def settle(cls, settings: Settings) -> Settings:
        """The settings that it is fitted under; the number of the labelled draw is added to the seed."""
        return settings.model_copy(update={"seed": settings.seed + settings.draw})

    @classmethod
    def shaping(cls, settings: Settings) -> dict:
        """The settings by name that it reads."""
        return settings.model_dump(include={"variant", "classes", "labels", "draw", "prior", "seed"})

    @classmethod
    def chosen_images(cls, data: Pool, seed: int) -> np.ndarray:
        """Places of the images whose labels are asked for, int64: the draw's own, unless the arm chooses."""
        return np.arange(data.budget)

    @classmethod
    @abstractmethod
    def fitted(cls, data: Training, candidate: float) -> Any:
        """Fitted on the training images; it has predict_proba."""

    @classmethod
    @abstractmethod
    def module(cls, model: Any) -> nn.Module:
        """What was fitted, as the tensors that model.safetensors holds."""

    @classmethod
    def predicted(cls, model: Any, z: np.ndarray) -> np.ndarray:
        """Probabilities, N x K, at the class shares of the labelled images."""
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of an image whose neighbours no label reaches: 0 / 0
            prob = model.predict_proba(z)
        return np.where(np.isfinite(prob).all(1, keepdims=True), prob, 1 / prob.shape[1])

    @classmethod
    def chosen(cls, data: Training, seed: int) -> tuple[float, pd.DataFrame]:
        """The candidate with the least log loss on held-out labelled images; the table of candidates and losses.

        The images of a fold count as unlabelled while it is held out. With fewer than two labelled patients in a class
        there is nothing to choose on: the middle candidate, and losses that are NaN.
        """
        patients = pd.Series(data.patients).groupby(data.y).nunique()
        folds, losses = min(FOLDS, int(patients.min())), dict.fromkeys(cls.candidates, float("nan"))
        splits = []
        if folds >= 2:
            shuffled = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            splits = [  # patients with images of both classes may leave a fold without one
                (kept, out)
                for kept, out in shuffled.split(data.y, data.y, data.patients)
                if len(out) and len(np.unique(data.y[kept])) == len(patients)
            ]
        for candidate in losses if splits else ():
            losses[candidate] = float(np.mean([cls._held_out(data, candidate, *one) for one in splits]))
        table = pd.DataFrame({"candidate": list(losses), "loss": list(losses.values())})
        best = table["loss"].idxmin() if splits else len(table) // 2
        return float(table["candidate"][best]), table

    @classmethod
    def _held_out(cls, data: Training, candidate: float, kept: np.ndarray, out: np.ndarray) -> float:
        """The log loss on the labelled images `out`, fitted with the labels of `kept`."""
        rest = np.concatenate([data.z[: len(data.y)][out], data.z[len(data.y) :]])
        part = Training(np.concatenate([data.z[: len(data.y)][kept], rest]), data.y[kept], data.patients[kept])
        prob = cls.predicted(cls.fitted(part, candidate), data.z[: len(data.y)][out])
        prob = np.maximum(prob, LEAST)
        return float(log_loss(data.y[out], prob / prob.sum(1, keepdims=True), labels=np.unique(data.y)))


class Probe(Fit):
    """Variant `probe`: logistic regression with an L2 penalty on the labelled images' features; C is chosen."""

    candidates = tuple(float(c) for c in 10.0 ** np.arange(-5, 2))

    @classmethod
    def fitted(cls, data: Training, candidate: float) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=candidate, max_iter=1000).fit(data.z[: len(data.y)], data.y)

    @classmethod
    def module(cls, model: LogisticRegression) -> nn.Module:
        """A linear layer to K logits; with two classes the first one's is 0."""
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:
            weight, bias = np.vstack([np.zeros_like(weight), weight]), np.append(0.0, bias)
        layer = nn.Linear(weight.shape[1], weight.shape[0]).requires_grad_(False)
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
        return layer


def _first_images(data: Pool, seed: int) -> np.ndarray:
    """A random fifth of the budget, and more until it holds an image of every class; at most the budget.

    Raises ValueError where the whole budget misses a class.
    """
    order = np.random.default_rng([seed, *b"active"]).permutation(len(data.z))
    classes = data.y.max() + 1
    for n in range(max(classes, round(FIRST * data.budget)), data.budget + 1):
        if np.bincount(data.y[order[:n]], minlength=classes).all():
            return order[:n]
    raise ValueError(
        f"{data.budget:,} images drawn at random lack a class; raise adgm_runs.labels, or take "
        "probe_coreset and probe_uncertain out of adgm_runs.feature_variants"
    )


class CoresetProbe(Probe):
    """Variant `probe_coreset`: k-centre greedy (Sener & Savarese 2018, Active learning for convolutional neural
    networks: a core-set approach, algorithm 1). The next image is the one farthest from all that are labelled.
    """

    @classmethod
    def chosen_images(cls, data: Pool, seed: int) -> np.ndarray:
        chosen = list(_first_images(data, seed))
        distance = np.min([np.linalg.norm(data.z - data.z[k], axis=1) for k in chosen], axis=0)
        while len(chosen) < data.budget:
            chosen.append(int(distance.argmax()))
            distance = np.minimum(distance, np.linalg.norm(data.z - data.z[chosen[-1]], axis=1))
        return np.array(chosen)


class UncertainProbe(Probe):
    """Variant `probe_uncertain`: in each of ROUNDS rounds the images whose probabilities have the largest entropy under
    the probe of the labels so far (Lewis & Gale 1994, A sequential algorithm for training text classifiers).
    """

    @classmethod
    def chosen_images(cls, data: Pool, seed: int) -> np.ndarray:
        chosen = _first_images(data, seed)
        for size in np.linspace(len(chosen), data.budget, ROUNDS + 1).round().astype(int)[1:]:
            known = data.labelled(chosen)
            prob = cls.predicted(cls.fitted(known, cls.chosen(known, seed)[0]), data.z)
            entropy = -(prob * np.log(np.maximum(prob, LEAST))).sum(1)
            entropy[chosen] = -1.0
            chosen = np.concatenate([chosen, np.argsort(-entropy, kind="stable")[: size - len(chosen)]])
        return chosen


class LabelPropagation(Fit):
    """Variant `label_propagation`: labels spread over the graph of nearest neighbours of all training images (Zhou et
    al. 2004, Learning with local and global consistency). The number of neighbours is chosen.
    """

    candidates = (5.0, 10.0, 20.0, 40.0, 80.0)

    @classmethod
    def fitted(cls, data: Training, candidate: float) -> LabelSpreading:
        y = np.full(len(data.z), UNKNOWN)
        y[: len(data.y)] = data.y
        neighbours = min(int(candidate), len(data.z) - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # as in `predicted`
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LabelSpreading("knn", n_neighbors=neighbours, alpha=ALPHA, max_iter=500, tol=1e-4).fit(data.z, y)

    @classmethod
    def module(cls, model: LabelSpreading) -> nn.Module:
        """The training images' class shares after spreading, N x K."""
        held = nn.Module()
        held.register_buffer("distributions", torch.from_numpy(model.label_distributions_.astype(np.float32)))
        return held
