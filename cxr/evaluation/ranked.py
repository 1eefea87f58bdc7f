"""Cumulative counts along a ranking, in every replicate of the patients. Average precision and the sensitivity at a
given specificity are made of them.

Shapes: N images, B replicates, G different scores, C replicates of one block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cxr.evaluation import metrics
from cxr.evaluation.metrics import CHUNK, Draws


def cumulated(truth: np.ndarray, scores: np.ndarray, draws: Draws) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of replicates: (their place among the B, positives, negatives), G x C each.

    These are how many score at least as high as each of the G different scores, from the highest down; the last counts
    all. truth N of 1 and 0, scores N.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True]) if len(order) else np.zeros(0, int)
    positive, owner = truth[order] > 0.5, draws.owner[order]
    for start in range(0, draws.counts.shape[1], CHUNK):
        counts = draws.counts[:, start : start + CHUNK]
        weight = counts.take(owner, axis=0).astype(np.int64)
        place = slice(start, start + counts.shape[1])
        yield place, *(np.cumsum(weight * of[:, None], axis=0)[ends] for of in (positive, ~positive))


def sensitivity_at(truth: np.ndarray, scores: np.ndarray, specificity: np.ndarray, draws: Draws) -> np.ndarray:
    """The highest sensitivity of a threshold whose specificity is at least this, in each replicate: B.

    specificity: B; NaN where a replicate lacks a class.
    """
    result = np.full(draws.counts.shape[1], np.nan)
    for place, positives, negatives in cumulated(truth, scores, draws):
        with np.errstate(invalid="ignore"):
            kept = negatives / negatives[-1] <= 1 - specificity[place] + 1e-12
            share = positives / positives[-1]
        reached = np.where(kept.any(axis=0), np.take_along_axis(share, kept.sum(axis=0)[None] - 1, axis=0)[0], 0.0)
        known = (positives[-1] > 0) & (negatives[-1] > 0) & ~np.isnan(specificity[place])
        result[place] = np.where(known, reached, np.nan)
    return result


def share_interval(
    name: str, value: float, replicates: np.ndarray, members: np.ndarray, confidence: float
) -> dict[str, float]:
    """The columns name, name_low and name_high of a share of images; members: the owner of each of these images.

    A share of 0 or 1 is the same in every replicate, which says nothing of other patients: its interval is Wilson's,
    with patients in place of images.
    """
    columns = metrics.with_interval(name, value, replicates, confidence)
    if value in (0.0, 1.0):
        patients = len(np.unique(members))
        low, high = metrics.wilson(round(value * patients), patients, confidence)
        columns |= {f"{name}_low": low, f"{name}_high": high}
    return columns


def each_once(images: int) -> Draws:
    """One replicate that draws every image once: the sample itself."""
    return Draws(np.arange(images), np.ones((images, 1), np.uint16))
