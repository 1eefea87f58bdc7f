"""Average precision beside the AUC, and predictive values at the operating point.

An AUC does not change with the share of positives; what a radiologist meets does. Average precision is the mean, over
the positives, of the share of positives among the images that score at least as high (scikit-learn's definition: no
interpolation). In a large sample a random order has the share of positives as its average precision. In a small one it
has more, exactly (Bestgen 2015, Exact expected average precision of the random baseline)

    ((P - 1) / (N - 1) (N - H_N) + H_N) / N,    H_N = 1 + 1/2 + ... + 1/N,

with P positives of N images. Both stand beside it. PPV is the share of positives among the images called positive at
the threshold that was set on validation, NPV that of negatives among the others.

Shapes: N images, B replicates; truth 1, 0 or NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from cxr.core.findings import FINDINGS, columns_of
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Settings, enough, numbers, without_empty
from cxr.evaluation.names import frame
from cxr.evaluation.operating import Judged
from cxr.evaluation.ranked import cumulated, share_interval

MEASURES = ("ap", "ppv", "npv")


def bootstrap(truth: np.ndarray, scores: np.ndarray, draws: metrics.Draws) -> np.ndarray:
    """The average precision in each replicate: truth N of 1 and 0, scores N -> B; NaN where there is no positive."""
    result = np.full(draws.counts.shape[1], np.nan)
    for place, positives, negatives in cumulated(truth, scores, draws):
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.nan_to_num(positives / (positives + negatives))
            steps = np.diff(positives, axis=0, prepend=0)
            result[place] = (steps * precision).sum(axis=0) / positives[-1]
    return result


def recentred(value: float, replicates: np.ndarray) -> np.ndarray:
    """The replicates of an average precision, moved so that their mean is its value, and kept within 0 and 1.

    A replicate holds copies of the same image, which rank together, so that its average precision is too high. A mean
    over findings adds these errors up: without the move its 95 % intervals cover in .93 of the test sets, with it in
    .96 (8 findings of 10 to 74 positives in 300).
    """
    known = ~np.isnan(replicates)
    return np.clip(replicates - replicates[known].mean() + value, 0.0, 1.0) if known.any() else replicates


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """The average precision: truth N of 1 and 0, at least one positive; scores N."""
    return float(average_precision_score(truth, scores))


def chance(positives: int, n: int) -> float:
    """The mean average precision of a random order of n images, with at least one positive."""
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return ((positives - 1) / max(n - 1, 1) * (n - harmonic) + harmonic) / n


def predictive(truth: np.ndarray, called: np.ndarray, draws: metrics.Draws) -> dict[str, tuple[float, np.ndarray]]:
    """ppv and npv -> (value, B replicates) of calling images positive; NaN where no image is called so."""
    values = {}
    for name, members, right in (("ppv", called, truth == 1), ("npv", ~called, truth == 0)):
        hits, count = metrics.bootstrap_sums(np.stack([members & right, members], axis=1).astype(float), draws)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = float(right[members].mean()) if members.any() else np.nan
            values[name] = share, hits / count
    return values


def table(models: Mapping[str, pd.DataFrame], judged: Mapping[str, Judged], settings: Settings) -> pd.DataFrame:
    """The table precision (cxr/evaluation/names.py) of the models on test images.

    prevalence: share of positives; chance: average precision of a random order; above: ap less prevalence, with the
    interval of that difference over the same draws; called: images called positive. macro: means over the findings with
    an average precision; its ppv and npv over those that have both.
    """
    rows = []
    for model, predicted in models.items():
        test = predicted[predicted["split"] == "test"]
        draws = metrics.draw_patients(test["patient_id"], settings.replicates, settings.seed)
        truth, scores = columns_of(test, "truth").astype(np.float64), columns_of(test, "score")
        measured = []
        for k, finding in enumerate(FINDINGS):
            known = ~np.isnan(truth[:, k])
            threshold = float(judged[model].threshold[k])
            row, values = _finding(truth[known, k], scores[known, k], threshold, draws, known, settings)
            measured.append(row | values)
            head = {"model": model, "finding": finding, "patients": len(draws.counts), **row}
            row = head | _columns(values, settings)
            if "ppv" in values:
                called, owner = scores[known, k] >= threshold, draws.owner[known]
                for name, members in (("ppv", owner[called]), ("npv", owner[~called])):
                    row |= share_interval(name, *values[name], members, settings.confidence)
            rows.append(row)
        rows.append({"model": model, "patients": len(draws.counts), "n": len(test), **_macro(measured, settings)})
    return frame("precision", rows)


def _finding(truth, scores, threshold, draws, known, settings) -> tuple[dict, dict[str, tuple[float, np.ndarray]]]:
    """One finding: its counts and floors, and its measures with their replicates; none with too few labels."""
    row: dict = metrics.counts(truth)
    if not enough(truth, settings):
        return row, {}
    drawn = metrics.Draws(draws.owner[known], draws.counts)
    share = float(truth.mean())
    precision = average_precision(truth, scores)
    values = {"ap": (precision, recentred(precision, bootstrap(truth, scores, drawn)))}
    positives, images = metrics.bootstrap_sums(np.stack([truth, np.ones(len(truth))], axis=1), drawn)
    with np.errstate(invalid="ignore"):
        values["above"] = values["ap"][0] - share, values["ap"][1] - positives / images
    row |= {"prevalence": share, "chance": chance(row["positives"], row["n"])}
    if not np.isnan(threshold):
        called = scores >= threshold
        row |= {"threshold": threshold, "called": int(called.sum())}
        values |= predictive(truth, called, drawn)
    return row, values


def _columns(values: Mapping[str, tuple[float, np.ndarray]], settings: Settings) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, (value, replicates) in values.items():
        columns |= metrics.with_interval(name, value, replicates, settings.confidence)
    return columns


def _macro(measured: list[dict], settings: Settings) -> dict:
    """The row of means over findings."""
    ranked = [one for one in measured if "ap" in one]
    called = [one for one in ranked if "ppv" in one and not np.isnan([one["ppv"][0], one["npv"][0]]).any()]
    row: dict = {"finding": "macro", "findings": len(ranked), "called_findings": len(called)}
    if ranked:
        row |= {name: float(np.mean([one[name] for one in ranked])) for name in ("prevalence", "chance")}
    means = {}
    for name, parts in (("ap", ranked), ("above", ranked), ("ppv", called), ("npv", called)):
        if parts:
            value = float(np.mean([one[name][0] for one in parts]))
            means[name] = value, np.mean([one[name][1] for one in parts], axis=0)
    return row | _columns(means, settings)


def summary(precision: pd.DataFrame, baseline: str) -> dict:
    """The part of metrics.json: precision of the baseline and of final, means over the findings on test."""
    means = precision.query("finding == 'macro'").set_index("model")
    columns = ("ap", "ap_low", "ap_high", "prevalence", "chance", "ppv", "npv")
    parts = {role: numbers(means.loc[name], columns) for role, name in (("baseline", baseline), ("final", "final"))}
    return without_empty({"precision": parts})
