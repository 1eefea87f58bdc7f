"""The numbers that judge a classifier, each with what it needs to be believed: an interval over patients, a paired
test.

An AUC is the share of (positive, negative) pairs that the score orders rightly, ties counting half: the mid-rank
(Mann-Whitney) form. Truth is 1, 0 or NaN, and a NaN is left out. Images of one patient resemble each other, so
intervals come from resampling patients, not images: a patient drawn c times gives each of its images the weight c,
and the same draws serve every finding and model, which pairs them.

DeLong's paired test (DeLong, DeLong and Clarke-Pearson 1988, in the rank form of Sun and Xu 2014) takes images as
independent. Where patients repeat it is too sure of itself; the patient bootstrap's interval of the same difference
is the one to trust.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

# Replicates weighed in one go: their weights, N x CHUNK, should stay in a core's cache.
CHUNK = 32


def placements(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of the other class that each image is ordered rightly against, ties half: DeLong's structural
    components.

    truth N of 1 and 0, scores N -> (for the M positives, for the N - M negatives), in the images' order. The mean of
    either is the AUC. Sun and Xu take them as the rank among all less the rank among the own class; here one sort
    gives both.
    """
    positive = truth > 0.5
    order = np.argsort(scores, kind="stable")
    sorted_scores, sorted_positive = scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]]) if len(order) else np.zeros(0, int)
    tied = np.diff(np.r_[starts, len(order)])
    share = np.empty(len(order))
    for own in (True, False):
        others = np.r_[0, np.cumsum(sorted_positive != own)]
        below, through = others[starts], others[starts + tied]
        right = (below + through) / 2 if own else others[-1] - (below + through) / 2
        mine = sorted_positive == own
        share[order[mine]] = np.repeat(right, tied)[mine] / max(others[-1], 1)
    return share[positive], share[~positive]


def auc(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column: truth and scores N x K -> K. NaN where a class is missing."""
    areas = np.full(truth.shape[1], np.nan)
    for k in range(truth.shape[1]):
        known = ~np.isnan(truth[:, k])
        right, _ = placements(truth[known, k], scores[known, k])
        if 0 < len(right) < known.sum():
            areas[k] = right.mean()
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

    One sort for all replicates. A positive earns the weight of the negatives below it and half of those beside it,
    both read off one cumulative sum, which is only taken at the places where a member of the smaller class stands.
    """
    positive = truth > 0.5
    flip = positive.sum() > len(truth) / 2
    few, many = (np.flatnonzero(positive != flip), np.flatnonzero(positive == flip))
    few, many = (rows[np.argsort(scores[rows], kind="stable")] for rows in (few, many))
    if not len(few):
        return np.full(draws.counts.shape[1], np.nan)
    low = np.searchsorted(scores[many], scores[few], "left")
    high = np.searchsorted(scores[many], scores[few], "right")
    edges = np.unique(np.r_[0, low, high, len(many)])
    low, high = np.searchsorted(edges, low), np.searchsorted(edges, high)
    first = np.flatnonzero(np.diff(low, prepend=-1) | np.diff(high, prepend=-1))  # of those that stand equal
    low, high = low[first], high[first]
    owner_few, owner_many = draws.owner[few], draws.owner[many]
    areas = np.empty(draws.counts.shape[1])
    for start in range(0, len(areas), CHUNK):
        counts = np.ascontiguousarray(draws.counts[:, start : start + CHUNK])
        below = np.zeros((len(edges), counts.shape[1]), np.int64)
        sums = np.add.reduceat(counts.take(owner_many, axis=0), edges[:-1], axis=0, dtype=np.int64)
        np.cumsum(sums, axis=0, out=below[1:])
        mine = np.add.reduceat(counts.take(owner_few, axis=0), first, axis=0, dtype=np.int64)
        twice = np.einsum("ib,ib->b", mine, below[low] + below[high])
        pairs = mine.sum(axis=0) * below[-1]
        with np.errstate(invalid="ignore"):
            area = twice / (2 * pairs)
        areas[start : start + CHUNK] = 1 - area if flip else area
    return areas


def bootstrap_auc(truth: np.ndarray, scores: np.ndarray, draws: Draws) -> np.ndarray:
    """The AUC of each column in each replicate: truth, scores N x K -> K x B; NaN where a replicate lacks a class."""
    result = np.empty((truth.shape[1], draws.counts.shape[1]))
    for k in range(truth.shape[1]):
        known = ~np.isnan(truth[:, k])
        result[k] = weighted_auc(truth[known, k], scores[known, k], Draws(draws.owner[known], draws.counts))
    return result


def interval(replicates: np.ndarray, confidence: float) -> tuple[float, float, int]:
    """Percentile interval of B replicates: (low, high, how many of them were NaN and left out)."""
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return math.nan, math.nan, len(replicates)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high), len(replicates) - len(known)


class Test(NamedTuple):
    """A paired comparison of two AUCs: second less first, z, and the two-sided p."""

    difference: float
    z: float
    p: float


def delong(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and their covariance for M models on the same images: truth N of 1 and 0, scores M x N -> (M, M x M).

    Takes images as independent. The covariance is NaN with fewer than two images of a class.
    """
    parts = [placements(truth, row) for row in scores]
    areas = np.array([right.mean() if len(right) and len(other) else np.nan for right, other in parts])
    covariance = np.zeros((len(parts), len(parts)))
    for side in zip(*parts, strict=True):
        side = np.stack(side)
        if side.shape[1] < 2:
            return areas, np.full_like(covariance, np.nan)
        covariance += np.cov(side).reshape(covariance.shape) / side.shape[1]
    return areas, covariance


def delong_test(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> Test:
    """DeLong's test of two models on the same images, each N; truth 1, 0 or NaN.
    Equal AUCs without variance: p = 1. z and p are NaN where there is no telling: too few images, no variance at all.
    """
    known = ~np.isnan(truth)
    areas, covariance = delong(truth[known], np.stack([first[known], second[known]]))
    difference = float(areas[1] - areas[0])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance > 1e-20:
        z = difference / math.sqrt(variance)
        return Test(difference, z, math.erfc(abs(z) / math.sqrt(2)))
    same = difference == 0 and not math.isnan(variance)
    return Test(difference, 0.0, 1.0) if same else Test(difference, math.nan, math.nan)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction for testing all of p at once. A NaN is no test: it stays NaN, uncounted."""
    p = np.asarray(p, float)
    corrected = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[i]))
        corrected[i] = highest
    return corrected


def wilson(right: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's (1927) interval of a share: right out of n. (NaN, NaN) for n = 0."""
    if n == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def roc(truth: np.ndarray, scores: np.ndarray, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """ROC curve from (0, 0) to (1, 1): truth N (1, 0 or NaN, both classes there), scores N -> (false, true positive
    rate).

    Points on a straight line between their neighbours are left out. Of more than `points` corners those nearest to
    equal steps along the curve (its length in |dx| + |dy| is 2) are kept, so the drawn curve strays at most 2 /
    (points - 1) from the true.
    """
    known = ~np.isnan(truth)
    positive = truth[known] > 0.5
    order = np.argsort(-scores[known], kind="stable")
    last = np.flatnonzero(np.r_[np.diff(scores[known][order]) != 0, True])
    x = np.r_[0, np.cumsum(~positive[order])[last]]
    y = np.r_[0, np.cumsum(positive[order])[last]]
    dx, dy = np.diff(x), np.diff(y)
    corner = np.r_[True, dx[:-1] * dy[1:] != dx[1:] * dy[:-1], True]
    x, y = x[corner] / x[-1], y[corner] / y[-1]
    if len(x) > points:
        walked = x + y
        steps = np.linspace(0, 2, points)
        right = np.clip(np.searchsorted(walked, steps), 1, len(walked) - 1)
        keep = np.unique(np.where(steps - walked[right - 1] < walked[right] - steps, right - 1, right))
        x, y = x[keep], y[keep]
    return x, y


def confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts, K x K: row = the true class, column = the predicted one."""
    return np.bincount(label * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def recalls(matrix: np.ndarray) -> np.ndarray:
    """Accuracy within each true class of a confusion matrix, K x K -> K; NaN for a class without images."""
    n = matrix.sum(axis=1)
    return np.where(n > 0, np.diag(matrix) / np.maximum(n, 1), np.nan)


def bootstrap_sums(values: np.ndarray, draws: Draws) -> np.ndarray:
    """The sum of each column over the images of each replicate's patients: values N x M -> M x B."""
    patients = len(draws.counts)
    per_patient = np.stack([np.bincount(draws.owner, weights=column, minlength=patients) for column in values.T])
    sums = np.empty((values.shape[1], draws.counts.shape[1]))
    for start in range(0, sums.shape[1], CHUNK):
        sums[:, start : start + CHUNK] = per_patient @ draws.counts[:, start : start + CHUNK].astype(np.float64)
    return sums


def detectable(replicates: np.ndarray, confidence: float, power: float) -> float:
    """The smallest true difference that a two-sided test at 1 - confidence finds with this probability, on a test set
    like this one: (z of the test + z of the power) times the standard error, which is the spread of the B replicates
    of the difference. NaN where they do not vary: models that agree everywhere tell nothing of it.
    """
    known = replicates[~np.isnan(replicates)]
    error = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    normal = NormalDist()
    return (normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)) * error if error > 1e-12 else math.nan


def one_against_rest(label: np.ndarray, probability: np.ndarray) -> float:
    """Mean over the classes of each one's AUC against the rest: label N, probability N x K. NaN if one is missing."""
    truth = (label[:, None] == np.arange(probability.shape[1])).astype(np.float64)
    return float(auc(truth, probability).mean())
