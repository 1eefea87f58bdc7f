"""Net benefit: whether acting on a classifier does more good than acting on every image or on none (Vickers and Elkin
2006, Decision curve analysis).

Who acts at a probability of t says that a missed positive costs (1 - t) / t as much as a needless action. Then

    net benefit = true positives / N - false positives / N x t / (1 - t),

in true positives per image. Acting on none has 0, acting on all has p - (1 - p) t / (1 - t) with p the share of
positives. The probabilities are the calibrated ones (cxr/evaluation/operating.py), since t is a probability. A finding
without them has no curve.

Shapes: N images, T thresholds, B replicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, columns_of
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Settings, enough
from cxr.evaluation.names import frame
from cxr.evaluation.operating import Judged
from cxr.evaluation.ranked import each_once

GRID = np.round(np.arange(0.01, 0.505, 0.01), 2)  # of the curves


class Benefit(NamedTuple):
    """Net benefit by threshold: of the classifier and of acting on all images, T x B each."""

    model: np.ndarray
    everyone: np.ndarray


def net_benefit(truth: np.ndarray, probability: np.ndarray, thresholds: np.ndarray, draws: metrics.Draws) -> Benefit:
    """The net benefit in each replicate: truth N of 1 and 0, probability N, thresholds T between 0 and 1."""
    called, positive = probability[:, None] >= thresholds, (truth > 0.5)[:, None]
    columns = np.hstack([called & positive, called & ~positive, positive, np.ones_like(positive)]).astype(np.float64)
    sums = metrics.bootstrap_sums(columns, draws)
    T, cost = len(thresholds), (thresholds / (1 - thresholds))[:, None]
    with np.errstate(invalid="ignore"):
        share = sums[-2] / sums[-1]
        return Benefit((sums[:T] - sums[T : 2 * T] * cost) / sums[-1], share - (1 - share) * cost)


def table(models: Mapping[str, pd.DataFrame], judged: Mapping[str, Judged], settings: Settings) -> pd.DataFrame:
    """The table benefit (cxr/evaluation/names.py) of the models on test images, at the thresholds of GRID and of the
    settings.

    benefit and everyone: net benefit of the classifier and of acting on all; over_all: their difference, with the
    interval over the same draws; called: images at or above the threshold.
    """
    thresholds = np.unique(np.round([*GRID, *settings.thresholds], 6))
    rows = []
    for model, predicted in models.items():
        test = predicted[predicted["split"] == "test"]
        draws = metrics.draw_patients(test["patient_id"], settings.replicates, settings.seed)
        truth = columns_of(test, "truth").astype(np.float64)
        for k, finding in enumerate(FINDINGS):
            known = ~np.isnan(truth[:, k])
            labels, probability = truth[known, k], judged[model].probability["calibrated"][known, k]
            if not enough(labels, settings) or np.isnan(probability).any():
                continue
            value = net_benefit(labels, probability, thresholds, each_once(len(labels)))
            drawn = net_benefit(labels, probability, thresholds, metrics.Draws(draws.owner[known], draws.counts))
            head = {"model": model, "finding": finding, "patients": len(draws.counts), **metrics.counts(labels)}
            for t, threshold in enumerate(thresholds):
                row = head | {"threshold": threshold, "called": int((probability >= threshold).sum())}
                row |= {"everyone": float(value.everyone[t, 0])}
                pairs = (("benefit", value.model, drawn.model),
                         ("over_all", value.model - value.everyone, drawn.model - drawn.everyone))  # fmt: skip
                for name, one, replicates in pairs:
                    row |= metrics.with_interval(name, float(one[t, 0]), replicates[t], settings.confidence)
                rows.append(row)
    return frame("benefit", rows)
