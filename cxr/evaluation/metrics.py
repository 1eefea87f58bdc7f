"""Metrics of a classifier, with intervals over patients and paired tests.

An AUC is the share of (positive, negative) pairs that the score ranks correctly; a tie counts half (Mann-Whitney).
Truth is 1, 0 or NaN; NaN is left out. Images of one patient resemble each other, so intervals come from resampling
patients, not images: every image of a patient drawn c times has weight c. All findings and models share the draws,
which pairs them.

The paired test of two AUCs is DeLong's (DeLong, DeLong and Clarke-Pearson 1988, in the rank form of Sun and Xu 2014)
with Obuchowski's (1997) covariance, which counts patients. Where no patient has a second image the two are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_curve

# Replicates per block, so that their weights, N x CHUNK, stay in a core's cache.
CHUNK = 32


def placements(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each image, the share of the other class that it is ranked correctly against; a tie counts half. These are
    DeLong's structural components.

    truth N of 1 and 0, scores N -> (of the M positives, of the N - M negatives), in the images' order. The mean of
    either is the AUC. One sort gives both.
    """
    positive = truth > 0.5
    order = np.argsort(scores, kind="stable")
    sorted_scores, sorted_positive = scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]]) if len(order) else np.zeros(0, int)
    tied = np.diff(np.r_[starts, len(order)])
    share = np.empty(len(order))
    for own_class in (True, False):
        others = np.r_[0, np.cumsum(sorted_positive != own_class)]
        below = (others[starts] + others[starts + tied]) / 2
        correct = below if own_class else others[-1] - below
        of_class = sorted_positive == own_class
        share[order[of_class]] = np.repeat(correct, tied)[of_class] / max(others[-1], 1)
    return share[positive], share[~positive]


def auc(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column: truth and scores N x K -> K. NaN where a class is missing."""
    areas = np.full(truth.shape[1], np.nan)
    for k in range(truth.shape[1]):
        known = ~np.isnan(truth[:, k])
        components, _ = placements(truth[known, k], scores[known, k])
        if 0 < len(components) < known.sum():
            areas[k] = components.mean()
    return areas


class Draws(NamedTuple):
    """Patients drawn with replacement.

    owner N: each image's row in counts; counts P x B: how often replicate b drew patient p.
    """

    owner: np.ndarray
    counts: np.ndarray


def draw_patients(patients: np.ndarray, replicates: int, seed: int) -> Draws:
    """Draw as many patients as there are, with replacement, `replicates` times; patients: the N images' ids."""
    names, owner = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = np.empty((replicates, len(names)), np.uint16)
    for row in counts:
        row[:] = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
    return Draws(owner.reshape(-1), np.ascontiguousarray(counts.T))


def weighted_auc(truth: np.ndarray, scores: np.ndarray, draws: Draws) -> np.ndarray:
    """The AUC in each replicate: truth N of 1 and 0, scores N -> B. NaN where a replicate lacks a class.

    With w the images' weights in a replicate, W+ and W- their sums over positives and negatives,

        AUC = sum over positives i of w_i (weight of negatives below s_i + half the weight of negatives at s_i)
              / (W+ W-).

    One sort serves all replicates. The weights below and at a score are two values of one cumulative sum over the other
    class, which is only evaluated at the scores of the smaller class. Where the negatives are fewer, the classes change
    places, which gives 1 - AUC.
    """
    positive = truth > 0.5
    flipped = positive.sum() > len(truth) / 2
    smaller, larger = np.flatnonzero(positive != flipped), np.flatnonzero(positive == flipped)
    smaller, larger = (rows[np.argsort(scores[rows], kind="stable")] for rows in (smaller, larger))
    if not len(smaller):
        return np.full(draws.counts.shape[1], np.nan)
    # Of the larger class, sorted: how many stand below each image of the smaller class, and how many not above it.
    below = np.searchsorted(scores[larger], scores[smaller], "left")
    through = np.searchsorted(scores[larger], scores[smaller], "right")
    edges = np.unique(np.r_[0, below, through, len(larger)])  # where the cumulative sum is needed
    below, through = np.searchsorted(edges, below), np.searchsorted(edges, through)
    group_starts = np.flatnonzero(np.diff(below, prepend=-1) | np.diff(through, prepend=-1))
    below, through = below[group_starts], through[group_starts]  # images with equal neighbours are one group
    owner_smaller, owner_larger = draws.owner[smaller], draws.owner[larger]
    areas = np.empty(draws.counts.shape[1])
    for start in range(0, len(areas), CHUNK):
        counts = np.ascontiguousarray(draws.counts[:, start : start + CHUNK])
        weight_below = np.zeros((len(edges), counts.shape[1]), np.int64)
        sums = np.add.reduceat(counts.take(owner_larger, axis=0), edges[:-1], axis=0, dtype=np.int64)
        np.cumsum(sums, axis=0, out=weight_below[1:])
        weight = np.add.reduceat(counts.take(owner_smaller, axis=0), group_starts, axis=0, dtype=np.int64)
        twice_correct = np.einsum("gb,gb->b", weight, weight_below[below] + weight_below[through])
        pairs = weight.sum(axis=0) * weight_below[-1]
        with np.errstate(invalid="ignore"):
            area = twice_correct / (2 * pairs)
        areas[start : start + CHUNK] = 1 - area if flipped else area
    return areas


def bootstrap_auc(truth: np.ndarray, scores: np.ndarray, draws: Draws) -> np.ndarray:
    """The AUC of each column in each replicate: truth, scores N x K -> K x B; NaN where a replicate lacks a class."""
    result = np.empty((truth.shape[1], draws.counts.shape[1]))
    for k in range(truth.shape[1]):
        known = ~np.isnan(truth[:, k])
        result[k] = weighted_auc(truth[known, k], scores[known, k], Draws(draws.owner[known], draws.counts))
    return result


def interval(replicates: np.ndarray, confidence: float) -> tuple[float, float, int]:
    """Percentile interval of B replicates: (low, high, number of NaN replicates that were left out)."""
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return math.nan, math.nan, len(replicates)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high), len(replicates) - len(known)


def with_interval(name: str, value: float, replicates: np.ndarray, confidence: float) -> dict[str, float]:
    """The columns name, name_low and name_high."""
    low, high, _ = interval(replicates, confidence)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


class Test(NamedTuple):
    """A paired comparison of two AUCs: second minus first, z, and the two-sided p."""

    difference: float
    z: float
    p: float


def delong(truth: np.ndarray, scores: np.ndarray, owner: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and their covariance for M models on the same images: truth N of 1 and 0, scores M x N -> (M, M x M).

    owner N: the number of each image's patient, as in Draws; None: every image has a patient of its own. With the
    placements X of the m positives and Y of the n negatives less their mean, the AUC, summed over each patient's
    images, U = sum X / m and V = sum Y / n (Obuchowski 1997, Biometrics 53, 567, for clusters):

        covariance = P+ / (P+ - 1) U U' + P- / (P- - 1) V V' + P / (P - 1) (U V' + V U')

    P+ and P- patients have a positive and a negative image, P have either. With one image each, U V' is 0 and this is
    DeLong's covariance. It is NaN with fewer than two patients of a class.
    """
    owner = np.arange(len(truth)) if owner is None else np.unique(owner, return_inverse=True)[1].reshape(-1)
    positive, P = truth > 0.5, int(owner.max(initial=-1)) + 1
    components = [placements(truth, row) for row in scores]
    areas = np.array([ours.mean() if len(ours) and len(others) else np.nan for ours, others in components])
    sums, enough = [], []
    for side, owners in zip(zip(*components, strict=True), (owner[positive], owner[~positive]), strict=True):
        patients = len(np.unique(owners))
        if patients < 2:
            return areas, np.full((len(scores), len(scores)), np.nan)
        parts = [np.bincount(owners, x - area, P) for x, area in zip(side, areas, strict=True)]
        sums.append(np.stack(parts) / len(owners))
        enough.append(patients / (patients - 1))
    U, V = sums
    shared = U @ V.T
    return areas, enough[0] * U @ U.T + enough[1] * V @ V.T + P / (P - 1) * (shared + shared.T)


def delong_test(truth: np.ndarray, first: np.ndarray, second: np.ndarray, owner: np.ndarray | None = None) -> Test:
    """The paired test of two models on the same images, each N; truth 1, 0 or NaN; owner as for `delong`.

    p is 1 for equal AUCs without variance. z and p are NaN where there are too few patients or the difference has no
    variance.
    """
    known = ~np.isnan(truth)
    scores = np.stack([first[known], second[known]])
    areas, covariance = delong(truth[known], scores, None if owner is None else owner[known])
    difference = float(areas[1] - areas[0])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance > 1e-20:
        z = difference / math.sqrt(variance)
        return Test(difference, z, math.erfc(abs(z) / math.sqrt(2)))
    same = difference == 0 and not math.isnan(variance)
    return Test(difference, 0.0, 1.0) if same else Test(difference, math.nan, math.nan)


def mcnemar(first: np.ndarray, second: np.ndarray, owner: np.ndarray | None = None) -> float:
    """Exact two-sided p of McNemar's (1947) test of two classifiers on the same images: which of the N each got right.

    owner as for `delong`. A patient's difference is the images that only the second got right less those that only the
    first did. Under the null each patient's difference is as likely to have the other sign; p is the share of all signs
    whose sum is as far from 0 as the one seen. With one image each this is McNemar's exact test, a binomial one.
    """
    owner = np.arange(len(first)) if owner is None else owner
    differences = np.bincount(owner, weights=second.astype(float) - first.astype(float)).round().astype(int)
    sizes, patients = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    likelihood = np.ones(1)  # of the sum of the differences with the second's sign
    for size, n in zip(sizes, patients, strict=True):
        part = np.zeros(size * n + 1)
        part[::size] = binom.pmf(np.arange(n + 1), n, 0.5)
        likelihood = np.convolve(likelihood, part)
    sums = 2 * np.arange(len(likelihood)) - (len(likelihood) - 1)
    return min(1.0, float(likelihood[np.abs(sums) >= abs(differences.sum())].sum()))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction of the p values of several tests. NaN is no test and stays NaN."""
    values = np.asarray(p, float)
    corrected = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * values[i]))
        corrected[i] = highest
    return corrected


def add_holm(family: Sequence[dict]) -> None:
    """Give each row of a family of tests its p_holm, from its p."""
    for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
        row["p_holm"] = p


def wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's (1927) interval of the share successes / n. (NaN, NaN) for n = 0."""
    if n == 0:
        return math.nan, math.nan
    bounds = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(bounds.low), float(bounds.high)


def roc(truth: np.ndarray, scores: np.ndarray, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """ROC curve from (0, 0) to (1, 1): truth N of 1, 0 or NaN (both classes present), scores N -> (false positive
    rates, true positive rates).

    Of more than `points` corners, those nearest to equal steps along the curve are kept. The curve's length in
    |dx| + |dy| is 2, so the drawn curve is at most 2 / (points - 1) off.
    """
    known = ~np.isnan(truth)
    x, y, _ = roc_curve(truth[known], scores[known])
    if len(x) > points:
        distance = x + y
        steps = np.linspace(0, 2, points)
        right = np.clip(np.searchsorted(distance, steps), 1, len(distance) - 1)
        keep = np.unique(np.where(steps - distance[right - 1] < distance[right] - steps, right - 1, right))
        x, y = x[keep], y[keep]
    return x, y


def counts(truth: np.ndarray) -> dict[str, int]:
    """The columns n, positives and negatives of one finding: truth N of 1, 0 or NaN; n leaves NaN out."""
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    return {"n": positives + negatives, "positives": positives, "negatives": negatives}


def bootstrap_sums(values: np.ndarray, draws: Draws) -> np.ndarray:
    """The sum of each column over the images of each replicate's patients: values N x M -> M x B."""
    patients = len(draws.counts)
    per_patient = np.stack([np.bincount(draws.owner, weights=column, minlength=patients) for column in values.T])
    sums = np.empty((values.shape[1], draws.counts.shape[1]))
    for start in range(0, sums.shape[1], CHUNK):
        sums[:, start : start + CHUNK] = per_patient @ draws.counts[:, start : start + CHUNK].astype(np.float64)
    return sums


def detectable(replicates: np.ndarray, confidence: float, power: float) -> float:
    """The smallest true difference that a two-sided test at 1 - confidence detects with probability `power` on a test
    set of this size: (z of the test + z of the power) times the standard error, the standard deviation of the B
    replicates of the difference. NaN where they do not vary.
    """
    known = replicates[~np.isnan(replicates)]
    error = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    normal = NormalDist()
    return (normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)) * error if error > 1e-12 else math.nan


def one_against_rest(label: np.ndarray, probability: np.ndarray) -> float:
    """Mean over the classes of each one's AUC against the rest: label N, probability N x K. NaN if one is missing."""
    truth = (label[:, None] == np.arange(probability.shape[1])).astype(np.float64)
    return float(auc(truth, probability).mean())
