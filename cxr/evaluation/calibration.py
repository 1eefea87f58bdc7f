"""Probabilities that mean what they say, and the threshold that a sensitivity asks for.

Scaling (Platt 1999; temperature: Guo et al. 2017): a score's logit s becomes slope s + intercept, fitted to validation
labels by cross-entropy on Platt's softened targets, which keep the fit finite where the classes are separable; a
temperature is 1 / slope without an intercept. Neither may turn the ranking around, so slope >= 0.

Prior shift (Saerens et al. 2002): where only the share of positives differs between where a probability was learnt
(before) and where it is used (after), Bayes' rule adds logit(after) - logit(before) to its logit.

Shapes: N images, B replicates; truth is 1 or 0 here, without NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from cxr.evaluation import metrics

TINY = 1e-7  # a float32 score may be 0 or 1
KINDS = ("platt", "temperature")


class Scaling(NamedTuple):
    slope: float
    intercept: float


def logit(p):
    p = np.clip(np.asarray(p, np.float64), TINY, 1 - TINY)
    return np.log(p) - np.log1p(-p)


def sigmoid(logits):
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))


def fit(logits: np.ndarray, truth: np.ndarray, kind: str) -> Scaling:
    """The scaling of N validation logits, of one of KINDS; both classes are there."""
    assert kind in KINDS, kind
    positives, negatives = float((truth > 0.5).sum()), float((truth < 0.5).sum())
    target = np.where(truth > 0.5, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x = np.stack([logits, np.full(len(logits), float(kind == "platt"))], axis=1)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w
        return float(np.mean(np.logaddexp(0.0, z) - target * z)), x.T @ (sigmoid(z) - target) / len(z)

    bounds = [(0.0, None), (None, None)]
    found = minimize(loss, [1.0, 0.0], jac=True, bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000})
    return Scaling(*map(float, found.x))


def apply(scaling: Scaling, logits: np.ndarray) -> np.ndarray:
    return scaling.slope * logits + scaling.intercept


def shift(logits: np.ndarray, before: float, after: float) -> np.ndarray:
    """The logits under another share of positives; before, after: shares strictly within 0 and 1."""
    return logits + (math.log(after / (1 - after)) - math.log(before / (1 - before)))


def bins(probability: np.ndarray, wanted: int) -> np.ndarray:
    """Each image's bin, N: edges at the quantiles, so that bins hold about as many images each; equal values stay
    together, so there may be fewer bins."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, wanted + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, probability, side="right"), return_inverse=True)[1].reshape(-1)


def _gaps(truth: np.ndarray, probability: np.ndarray, wanted: int) -> np.ndarray:
    """truth - probability of each image in its bin's column, 0 elsewhere: N x bins."""
    of = bins(probability, wanted)
    gaps = np.zeros((len(truth), of.max() + 1))
    gaps[np.arange(len(truth)), of] = truth - probability
    return gaps


def brier(truth: np.ndarray, probability: np.ndarray) -> float:
    """Mean squared error of the probabilities: 0 is best, 0.25 what 0.5 everywhere gets."""
    return float(np.mean((truth - probability) ** 2))


def ece(truth: np.ndarray, probability: np.ndarray, wanted: int) -> float:
    """Expected calibration error: |observed share - mean probability| averaged over bins of equal mass, 0 to 1."""
    return float(np.abs(_gaps(truth, probability, wanted).sum(axis=0)).sum() / len(truth))


def bootstrap(
    truth: np.ndarray, probability: np.ndarray, wanted: int, draws: metrics.Draws
) -> tuple[np.ndarray, np.ndarray]:
    """(Brier, ECE) in each replicate, B each, in the bins of the whole.

    Resampling adds noise to every bin, and an ECE takes noise for error: a replicate's is larger on average than the
    whole's. So the ECE's replicates are moved to the whole's ECE, and kept at 0 or above.
    """
    parts = [np.ones(len(truth)), (truth - probability) ** 2, *_gaps(truth, probability, wanted).T]
    images, squares, *gaps = metrics.bootstrap_sums(np.stack(parts, axis=1), draws)
    with np.errstate(invalid="ignore"):
        errors = np.abs(gaps).sum(axis=0) / images
        return squares / images, np.maximum(errors - np.nanmean(errors) + ece(truth, probability, wanted), 0.0)


def reliability(
    truth: np.ndarray, probability: np.ndarray, wanted: int, draws: metrics.Draws, confidence: float
) -> pd.DataFrame:
    """bin, n, predicted (mean probability), observed (share of positives), low, high (of observed, over patients)."""
    of = bins(probability, wanted)
    inside = of[:, None] == np.arange(of.max() + 1)
    sums = metrics.bootstrap_sums(np.hstack([inside, inside * truth[:, None]]).astype(np.float64), draws)
    rows = []
    for b in range(inside.shape[1]):
        mine = inside[:, b]
        with np.errstate(invalid="ignore"):
            low, high, _ = metrics.interval(sums[inside.shape[1] + b] / sums[b], confidence)
        rows.append((b, int(mine.sum()), probability[mine].mean(), truth[mine].mean(), low, high))
    return pd.DataFrame(rows, columns=["bin", "n", "predicted", "observed", "low", "high"])


def threshold(truth: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The highest threshold t at which score >= t finds at least this share of the positives (some are there)."""
    positive = np.sort(scores[truth > 0.5])[::-1]
    return float(positive[max(1, math.ceil(sensitivity * len(positive) - 1e-9)) - 1])
