"""Calibration of probabilities: scaling, errors, slope and intercept; and the threshold for a given sensitivity.

Scaling (Platt 1999; temperature: Guo et al. 2017): the logit s of a score becomes slope s + intercept. The fit
minimises the cross-entropy of the validation labels with Platt's softened targets, which keep it finite where the
classes are separable. A temperature is 1 / slope without an intercept. Neither may reverse the ranking, so slope >= 0.

Prior shift (Saerens et al. 2002): where only the share of positives differs between the training data (before) and the
data at use (after), Bayes' rule adds logit(after) - logit(before) to the logit.

Shapes: N images, B replicates; truth is 1 or 0 here, without NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize
from sklearn.linear_model import LogisticRegression

from cxr.evaluation import metrics

TINY = 1e-7  # a float32 score may be 0 or 1
KINDS = ("platt", "temperature")
PERFECT_DRAWS = 200  # of outcomes, for the ECE of perfect probabilities


class Scaling(NamedTuple):
    slope: float
    intercept: float


def logit(p):
    p = np.clip(np.asarray(p, np.float64), TINY, 1 - TINY)
    return np.log(p) - np.log1p(-p)


def sigmoid(logits):
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))


def fit(logits: np.ndarray, truth: np.ndarray, kind: str) -> Scaling:
    """Fit a scaling of one of KINDS to N validation logits; truth holds both classes."""
    assert kind in KINDS, kind
    positives, negatives = float((truth > 0.5).sum()), float((truth < 0.5).sum())
    target = np.where(truth > 0.5, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x = np.stack([logits, np.full(len(logits), float(kind == "platt"))], axis=1)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w
        return float(np.mean(np.logaddexp(0.0, z) - target * z)), x.T @ (sigmoid(z) - target) / len(z)

    bounds = [(0.0, None), (None, None)]
    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
    return Scaling(*map(float, minimize(loss, [1.0, 0.0], jac=True, bounds=bounds, options=options).x))


def apply(scaling: Scaling, logits: np.ndarray) -> np.ndarray:
    return scaling.slope * logits + scaling.intercept


def shift(logits: np.ndarray, before: float, after: float) -> np.ndarray:
    """The logits under another share of positives; before and after lie strictly between 0 and 1."""
    return logits + (math.log(after / (1 - after)) - math.log(before / (1 - before)))


def bins(probability: np.ndarray, wanted: int) -> np.ndarray:
    """Each image's bin, N. Edges are quantiles, so that bins hold about equally many images; equal values share a bin,
    so there may be fewer bins than wanted."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, wanted + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, probability, side="right"), return_inverse=True)[1].reshape(-1)


def _gaps(truth: np.ndarray, probability: np.ndarray, wanted: int) -> np.ndarray:
    """truth - probability of each image in its bin's column, 0 elsewhere: N x bins."""
    bin_of = bins(probability, wanted)
    gaps = np.zeros((len(truth), bin_of.max() + 1))
    gaps[np.arange(len(truth)), bin_of] = truth - probability
    return gaps


def ece(truth: np.ndarray, probability: np.ndarray, wanted: int) -> float:
    """Expected calibration error: |observed share - mean probability| averaged over bins of equal mass, 0 to 1."""
    return float(np.abs(_gaps(truth, probability, wanted).sum(axis=0)).sum() / len(truth))


def perfect(probability: np.ndarray, wanted: int, seed: int | list[int]) -> np.ndarray:
    """The ECE that these probabilities would have if they were true: PERFECT_DRAWS draws of y ~ Bernoulli(p), in the
    bins of `ece`. What an ECE has to be compared with, for it is never negative and counts noise as error.
    """
    rng, bin_of = np.random.default_rng(seed), bins(probability, wanted)
    inside = (bin_of[:, None] == np.arange(bin_of.max() + 1)).astype(np.float64)
    draws = (rng.random(len(probability)) < probability for _ in range(PERFECT_DRAWS))
    return np.array([np.abs((truth - probability) @ inside).sum() / len(probability) for truth in draws])


def brier(truth: np.ndarray, probability: np.ndarray, draws: metrics.Draws) -> np.ndarray:
    """The Brier score in each replicate: B."""
    squares, images = metrics.bootstrap_sums(np.stack([(truth - probability) ** 2, np.ones(len(truth))], axis=1), draws)
    with np.errstate(invalid="ignore"):
        return squares / images


def recalibration(truth: np.ndarray, probability: np.ndarray, draws: metrics.Draws) -> dict[str, tuple]:
    """slope and intercept -> (value, B replicates): logistic recalibration (Cox 1958; Van Calster et al. 2019).

    slope b of logit P(y = 1) = a + b logit p: below 1 where probabilities are too extreme. intercept a of the same with
    b = 1 (calibration in the large): below 0 where they are too high on the whole. True probabilities have 1 and 0. A
    replicate is one step from the estimate, value + sum over the drawn images of their influence, so that nothing is
    fitted again. The slope is NaN where the classes do not overlap in p, and no line fits.
    """
    x = logit(probability)
    intercept = brentq(lambda a: float((sigmoid(a + x) - truth).sum()), -40.0, 40.0)
    moved = sigmoid(intercept + x)
    influence = [(truth - moved) / (moved * (1 - moved)).sum()]
    slope, positive, negative = math.nan, x[truth > 0.5], x[truth < 0.5]
    if positive.min() < negative.max() and negative.min() < positive.max():
        line = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(x[:, None], truth)
        slope = float(line.coef_[0, 0])
        design = np.stack([np.ones(len(x)), x], axis=1)
        fitted = sigmoid(design @ [line.intercept_[0], slope])
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        influence.append(np.linalg.solve(information, (design * (truth - fitted)[:, None]).T)[1])
    steps = metrics.bootstrap_sums(np.stack(influence, axis=1), draws)
    found = {"intercept": (float(intercept), intercept + steps[0])}
    missing = np.full(steps.shape[1], np.nan)
    return found | {"slope": (slope, slope + steps[1] if len(steps) > 1 else missing)}


def reliability(
    truth: np.ndarray, probability: np.ndarray, wanted: int, draws: metrics.Draws, confidence: float
) -> pd.DataFrame:
    """bin, n, predicted (mean probability), observed (share of positives), low, high (of observed, over patients)."""
    bin_of = bins(probability, wanted)
    inside = bin_of[:, None] == np.arange(bin_of.max() + 1)
    sums = metrics.bootstrap_sums(np.hstack([inside, inside * truth[:, None]]).astype(np.float64), draws)
    rows = []
    for b in range(inside.shape[1]):
        members = inside[:, b]
        with np.errstate(invalid="ignore"):
            low, high, _ = metrics.interval(sums[inside.shape[1] + b] / sums[b], confidence)
        rows.append((b, int(members.sum()), probability[members].mean(), truth[members].mean(), low, high))
    return pd.DataFrame(rows, columns=["bin", "n", "predicted", "observed", "low", "high"])


def threshold(truth: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The highest threshold t at which score >= t holds for at least this share of the positives (one or more)."""
    positive = np.sort(scores[truth > 0.5])[::-1]
    return float(positive[max(1, math.ceil(sensitivity * len(positive) - 1e-9)) - 1])
