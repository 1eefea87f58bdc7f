"""Intervals that cover with few positives: of an AUC, of a mean of AUCs, of a calibration slope.

A percentile interval of ten positives covers an AUC of 0.92 in 83 % of test sets, not in 95 %: where such an AUC comes
out too high, the test set's own spread comes out too small. Newcombe's (2006, Statistics in Medicine 25, 559) method 5
takes the spread from a model in place of the test set. It holds every t from which the AUC is at most z standard errors
away, where the error is Hanley and McNeil's at t, with the mean of both counts in place of each:

    (AUC - t)^2 <= z^2 V(t),    V(t) = t (1 - t) (1 + c (1 - t) / (2 - t) + c t / (1 + t)) / (m n),    c = (m + n)/2 - 1

The model is wrong where scores are not as it expects, however many images there are. So V(t) is multiplied by R^w D:

    R    DeLong's variance / V(AUC): how wrong the model is on these images
    w    k / (k + 30), k patients of the rarer class: how far so few can be believed; z becomes Student's t, (k - 1)/w^2
    D    Obuchowski's variance / DeLong's: what repeated images of a patient take away; 1 where there are none

An AUC of 0 or 1 has no variance of its own: R is 1, and D is the images per patient of a class, the larger of the two.

The mean of K AUCs goes as far below as the K intervals do, with their correlations r over patients (Zou and Donner
2008, Statistics in Medicine 27, 1693): low = mean - sqrt(sum over i, j of r_ij (AUC_i - low_i) (AUC_j - low_j)) / K.

A number without bounds, as a slope, has value +- t SE, with the replicates' standard deviation and k - 1 degrees of
freedom; a mean of several has Satterthwaite's (1946), (sum v)^2 / sum(v^2 / df) with their variances v.

Shapes: N images, K AUCs, B replicates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from cxr.evaluation import metrics

BELIEF = 30  # patients of the rarer class at which the images' own spread counts for half


class Area(NamedTuple):
    """An AUC, B replicates of it over patients, and the ends of its interval."""

    value: float
    replicates: np.ndarray
    low: float
    high: float


def area(truth: np.ndarray, scores: np.ndarray, draws: metrics.Draws, confidence: float) -> Area:
    """truth N of 1 and 0, scores N, draws of these N images' patients."""
    value, low, high = auc_interval(truth, scores, draws.owner, confidence)
    return Area(value, metrics.weighted_auc(truth, scores, draws), low, high)


def auc_interval(
    truth: np.ndarray, scores: np.ndarray, owner: np.ndarray | None, confidence: float
) -> tuple[float, float, float]:
    """(AUC, low, high): truth N of 1 and 0, scores N, owner as for metrics.delong. The ends are NaN with fewer than two
    patients of a class, and equal the AUC where all scores are the same.
    """
    areas, clustered = metrics.delong(truth, scores[None], owner)
    value, variance = float(areas[0]), float(clustered[0, 0])
    if math.isnan(variance):
        return value, math.nan, math.nan
    positive = truth > 0.5
    images = int(positive.sum()), int((~positive).sum())
    patients = images if owner is None else tuple(len(np.unique(owner[side])) for side in (positive, ~positive))
    k = min(patients)
    w = k / (k + BELIEF)
    if 0 < value < 1:
        plain = variance if patients == images else float(metrics.delong(truth, scores[None])[1][0, 0])
        factor = (plain / _modelled(value, *images)) ** w * (variance / plain if plain > 0 else 1.0)
    else:
        factor = max(n / p for n, p in zip(images, patients, strict=True))
    quantile = float(stdtrit((k - 1) / w**2, (1 + confidence) / 2))
    return value, *_ends(value, quantile**2 * factor, images)


def _modelled(t: float, positives: int, negatives: int) -> float:
    """V(t)."""
    c = (positives + negatives) / 2 - 1
    return t * (1 - t) * (1 + c * (1 - t) / (2 - t) + c * t / (1 + t)) / (positives * negatives)


def _ends(auc: float, factor: float, images: tuple[int, int]) -> tuple[float, float]:
    """The two t at which (AUC - t)^2 = factor V(t)."""
    if factor == 0:
        return auc, auc

    def excess(t: float) -> float:
        return (auc - t) ** 2 - factor * _modelled(t, *images)

    low = 0.0 if auc == 0 else brentq(excess, 0.0, auc - 1e-12 * (auc == 1))
    high = 1.0 if auc == 1 else brentq(excess, auc + 1e-12 * (auc == 0), 1.0)
    return float(low), float(high)


def mean_interval(areas: Sequence[Area]) -> tuple[float, float]:
    """(low, high) of the mean of K AUCs on the same draws of patients. NaN without any, or if one has no interval."""
    if len(areas) < 2:
        return (areas[0].low, areas[0].high) if areas else (math.nan, math.nan)
    replicates = np.stack([one.replicates for one in areas])
    complete = replicates[:, ~np.isnan(replicates).any(axis=0)]
    if complete.shape[1] < 2:
        return math.nan, math.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.nan_to_num(np.corrcoef(complete))
    np.fill_diagonal(r, 1.0)
    value, low, high = (np.array([getattr(one, name) for one in areas]) for name in ("value", "low", "high"))
    below, above = value - low, high - value
    half = [math.sqrt(max(0.0, side @ r @ side)) / len(areas) if not np.isnan(side).any() else math.nan
            for side in (below, above)]  # fmt: skip
    return float(value.mean() - half[0]), float(value.mean() + half[1])


def student_interval(
    values: Sequence[float], replicates: Sequence[np.ndarray], patients: Sequence[int], confidence: float
) -> tuple[float, float]:
    """(low, high) of the mean of K numbers without bounds: values K, replicates K x B, patients K, of the rarer class.
    NaN without two complete replicates or with fewer than two patients.
    """
    drawn, df = np.stack(replicates), np.asarray(patients) - 1.0
    complete = drawn[:, ~np.isnan(drawn).any(axis=0)]
    if complete.shape[1] < 2 or (df < 1).any():
        return math.nan, math.nan
    variance, mean = complete.var(axis=1, ddof=1), float(np.mean(values))
    if not variance.any():
        return mean, mean
    error = complete.mean(axis=0).std(ddof=1)
    half = float(stdtrit(variance.sum() ** 2 / (variance**2 / df).sum(), (1 + confidence) / 2) * error)
    return mean - half, mean + half
