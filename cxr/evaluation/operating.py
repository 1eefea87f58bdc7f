"""Calibration and operating points of the classifiers on test patients.

Scaling and thresholds are fitted on validation, shares of positives are counted in training; test labels only score the
result. A probability has three forms:

    raw         as the network gives it
    prior       shifted from the share of positives that the network was trained at (under its policy, generated images
                included) to the share in the real training images, which have the test patients' distribution
    calibrated  scaled on validation at validation's share, then shifted to the share in the real training images
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import brier_score_loss

from cxr.core.findings import FINDINGS, SLUGS, columns_of
from cxr.evaluation import calibration, intervals, metrics
from cxr.evaluation.classifiers import Settings, enough, numbers, without_empty
from cxr.evaluation.names import FORMS, TABLES, frame

NUMBERS = ("brier", "ece", "perfect", "slope", "intercept")  # of a form: cxr/evaluation/calibration.py
UNBOUNDED = ("slope", "intercept")


class Judged(NamedTuple):
    """One model on the test images: probability by form, N x 14 each, and 14 thresholds on its scores; NaN where
    validation has too few labels to fit them."""

    probability: dict[str, np.ndarray]
    threshold: np.ndarray


def trained_share(table: pd.DataFrame) -> np.ndarray:
    """Share of positives in a training on this label table, by weight: 14, NaN where no label counts."""
    train = table[table["split"] == "train"]
    weight = columns_of(train, "weight").astype(np.float64).sum(axis=0)
    positive = (columns_of(train, "weight") * columns_of(train, "target")).astype(np.float64).sum(axis=0)
    return np.where(weight > 0, positive / np.where(weight > 0, weight, 1), np.nan)


def true_share(table: pd.DataFrame) -> np.ndarray:
    """Share of positives among the training images whose truth is certain: 14, NaN where there are none."""
    truth = columns_of(table[table["split"] == "train"], "truth").astype(np.float64)
    known = (~np.isnan(truth)).sum(axis=0)
    return np.where(known > 0, np.nansum(truth, axis=0) / np.maximum(known, 1), np.nan)


class Fitted(NamedTuple):
    """What turns the scores of one finding into probabilities, and its operating point.

    trained, valid and true: share of positives in training, among the certain validation labels and in the real
    training images, NaN where unknown; scaling: fitted on validation at its share, or None; threshold: on scores, or
    NaN; both are missing where validation has too few labels, and scaling where a share is 0, 1 or unknown.
    """

    trained: float
    valid: float
    true: float
    scaling: calibration.Scaling | None
    threshold: float

    @property
    def can_shift(self) -> bool:
        return 0 < self.trained < 1 and 0 < self.true < 1

    def probability(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """The three forms of N scores, N each; NaN where a form can't be had."""
        forms = {form: np.full(len(scores), np.nan) for form in FORMS} | {"raw": scores}
        logits = calibration.logit(scores)
        if self.can_shift:
            forms["prior"] = calibration.sigmoid(calibration.shift(logits, self.trained, self.true))
        if self.scaling:
            scaled = calibration.apply(self.scaling, calibration.shift(logits, self.trained, self.valid))
            forms["calibrated"] = calibration.sigmoid(calibration.shift(scaled, self.valid, self.true))
        return forms


def fit_findings(valid: pd.DataFrame, trained: np.ndarray, true: np.ndarray, settings: Settings) -> list[Fitted]:
    """One Fitted for each of the 14 findings. valid: one model's predictions of the validation images; trained and
    true: its 14 shares of positives (trained_share, true_share).
    """
    truth, scores = columns_of(valid, "truth"), columns_of(valid, "score")
    result = []
    for k in range(len(SLUGS)):
        known = ~np.isnan(truth[:, k])
        labels, score = truth[known, k].astype(np.float64), scores[known, k]
        share = float(labels.mean()) if len(labels) else np.nan
        fitted = Fitted(float(trained[k]), share, float(true[k]), None, np.nan)
        if enough(labels, settings):
            fitted = fitted._replace(threshold=calibration.threshold(labels, score, settings.sensitivity))
            if fitted.can_shift:
                shifted = calibration.shift(calibration.logit(score), fitted.trained, share)
                fitted = fitted._replace(scaling=calibration.fit(shifted, labels, settings.scaling))
        result.append(fitted)
    return result


def fit(table: pd.DataFrame, trained: np.ndarray, true: np.ndarray, settings: Settings) -> Judged:
    """table: one model's predictions; trained and true: its 14 shares of positives (trained_share, true_share)."""
    valid, test = (table[table["split"] == split] for split in ("valid", "test"))
    scores = columns_of(test, "score")
    findings = fit_findings(valid, trained, true, settings)
    columns = [fitted.probability(scores[:, k]) for k, fitted in enumerate(findings)]
    probability = {form: np.stack([column[form] for column in columns], axis=1) for form in FORMS}
    return Judged(probability, np.array([fitted.threshold for fitted in findings]))


class Measured(NamedTuple):
    """The numbers of one finding by name: their values, and B replicates of those that have an interval; patients of
    the rarer class. Empty: too few labels."""

    value: dict[str, float]
    replicates: dict[str, np.ndarray]
    patients: int = 0


def tables(
    models: Mapping[str, pd.DataFrame],
    judged: Mapping[str, Judged],
    trained: Mapping[str, np.ndarray],
    true: np.ndarray,
    settings: Settings,
) -> dict[str, pd.DataFrame]:
    """The tables calibration, operating and reliability (cxr/evaluation/names.py) of the models on test patients.

    macro: the mean over the findings that have every number; findings: how many these are.
    """
    calibrated, operating, curves = [], [], []
    for model, table in models.items():
        test, valid = (table[table["split"] == split] for split in ("test", "valid"))
        draws = metrics.draw_patients(test["patient_id"], settings.replicates, settings.seed)
        truth, scores = columns_of(test, "truth").astype(np.float64), columns_of(test, "score")
        valid_truth = columns_of(valid, "truth")
        counts, errors, rates = [], [], []
        for k, finding in enumerate(FINDINGS):
            known, threshold = ~np.isnan(truth[:, k]), judged[model].threshold[k]
            labels, drawn = truth[known, k], metrics.Draws(draws.owner[known], draws.counts)
            counts.append(metrics.counts(labels) | {"trained_share": trained[model][k], "true_share": true[k]})
            validated = metrics.counts(valid_truth[:, k])
            counts[-1] |= {f"valid_{name}": validated[name] for name in ("positives", "negatives")}
            counts[-1] |= {"threshold": threshold}
            errors.append(Measured({}, {}))
            rates.append(Measured({}, {}))
            if not enough(labels, settings):
                continue
            probability = {form: values[known, k] for form, values in judged[model].probability.items()}
            errors[-1], points = measure_errors(labels, probability, drawn, k, settings)
            curves += [curve.assign(model=model, finding=finding) for curve in points]
            if not np.isnan(threshold):
                rates[-1] = measure_rates(labels, scores[known, k] >= threshold, drawn)
        head, names = (
            {"model": model, "patients": len(draws.counts)},
            [f"{e}_{f}" for f in FORMS for e in NUMBERS],
        )
        calibrated += [head | row for row in rows_with_mean(counts, errors, len(test), names, settings)]
        operating += [
            head | row for row in rows_with_mean(counts, rates, len(test), ("sensitivity", "specificity"), settings)
        ]
    return {
        "calibration": frame("calibration", calibrated),
        "operating": frame("operating", operating),
        "reliability": pd.concat(curves, ignore_index=True)[list(TABLES["reliability"])] if curves
        else frame("reliability", []),
    }  # fmt: skip


def measure_errors(
    truth: np.ndarray, probability: Mapping[str, np.ndarray], draws: metrics.Draws, k: int, settings: Settings
) -> tuple[Measured, list[pd.DataFrame]]:
    """(NUMBERS of each form, reliability curves of the forms that could be fitted). k: of the finding."""
    patients = min(len(np.unique(draws.owner[truth == label])) for label in (0, 1))
    measured, curves = Measured({}, {}, patients), []
    for form, values in probability.items():
        if np.isnan(values).any():
            measured.value.update({f"{name}_{form}": np.nan for name in NUMBERS})
            continue
        perfect = calibration.perfect(values, settings.bins, [settings.seed, k])
        numbers = {"brier": (float(brier_score_loss(truth, values)), calibration.brier(truth, values, draws))}
        numbers |= {"perfect": (float(perfect.mean()), perfect), **calibration.recalibration(truth, values, draws)}
        measured.value[f"ece_{form}"] = calibration.ece(truth, values, settings.bins)
        for name, (value, replicates) in numbers.items():
            measured.value[f"{name}_{form}"], measured.replicates[f"{name}_{form}"] = value, replicates
        curve = calibration.reliability(truth, values, settings.bins, draws, settings.confidence)
        curves.append(curve.assign(form=form))
    return measured, curves


def measure_rates(truth: np.ndarray, called: np.ndarray, draws: metrics.Draws) -> Measured:
    """Sensitivity and specificity of calling an image positive."""
    measured = Measured({}, {})
    for name, members, correct in (("sensitivity", truth == 1, called), ("specificity", truth == 0, ~called)):
        hits, count = metrics.bootstrap_sums(np.stack([members & correct, members], axis=1), draws)
        measured.value[name] = float(correct[members].mean())
        with np.errstate(invalid="ignore"):
            measured.replicates[name] = hits / count
    return measured


def rows_with_mean(
    counts: Sequence[dict], measured: Sequence[Measured], n: int, names: Sequence[str], settings: Settings
) -> list[dict]:
    """One row per finding, then macro of n images: the mean over the findings of which every number is known."""
    known = [m for m in measured if m.value and not any(np.isnan(value) for value in m.value.values())]
    mean = Measured({}, {})
    for name in names if known else ():
        mean.value[name] = float(np.mean([m.value[name] for m in known]))
        if name in known[0].replicates:
            mean.replicates[name] = np.mean([m.replicates[name] for m in known], axis=0)
    rows = []
    macro = {"n": n, "findings": len(known)}
    for finding, head, m in zip([*FINDINGS, "macro"], [*counts, macro], [*measured, mean], strict=True):
        row = {"finding": finding, **head, **m.value}
        parts = known if finding == "macro" else [m]
        for name, replicates in m.replicates.items():
            row |= metrics.with_interval(name, m.value[name], replicates, settings.confidence)
            if name.startswith(UNBOUNDED):
                values, drawn = [part.value[name] for part in parts], [part.replicates[name] for part in parts]
                patients = [part.patients for part in parts]
                ends = intervals.student_interval(values, drawn, patients, settings.confidence)
                row |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
        rows.append(row)
    return rows


def summary(tables: Mapping[str, pd.DataFrame], floor: str, baseline: str) -> dict:
    """The part of metrics.json on these tables, means over the findings on test; blank ones are left out.

    floor: AUC of the metadata baseline; above_floor, calibration and operating: of the baseline and of final.
    """
    area = tables["auc"].query("split == 'test' and finding == 'macro'").set_index("model")
    result: dict = {"floor": {"macro_auc": numbers(area.loc[floor], ("auc", "low", "high"))}}
    columns_by_key = {
        "above_floor": ("floor", ("difference", "low", "high", "detectable")),
        "calibration": ("calibration", [f"{name}_{form}" for name in NUMBERS for form in FORMS]),
        "operating": ("operating", ("sensitivity", "specificity")),
    }
    for key, (name, columns) in columns_by_key.items():
        means = tables[name].query("finding == 'macro'").set_index("model")
        result[key] = {role: numbers(means.loc[m], columns) for role, m in (("baseline", baseline), ("final", "final"))}
    return without_empty(result)
