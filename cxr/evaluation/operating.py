"""How far a classifier's probabilities and its operating point hold on the test patients.

What is chosen is chosen on validation (the scaling, the threshold) or counted in training (the shares of positives);
the test labels are only scored against. Three forms of each probability:

    raw         as the network gives it
    prior       moved from the share of positives that the network was trained at (under its policy, with generated
                images counted in) to that of the real training images, which the test patients are drawn beside
    calibrated  scaled on validation at validation's share, then moved to the real training images' share
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, columns_of
from cxr.evaluation import calibration, metrics
from cxr.evaluation.classifiers import Settings, enough, numbers, without_empty

FORMS = ("raw", "prior", "calibrated")


class Judged(NamedTuple):
    """Of one model on the test images: probability by form, N x 14 each, and the 14 thresholds on its scores; NaN
    where there was too little to fit them on."""

    probability: dict[str, np.ndarray]
    threshold: np.ndarray


def trained_share(table: pd.DataFrame) -> np.ndarray:
    """Share of positives that a training on this label table counts, by weight: 14, NaN where no label counts."""
    train = table[table["split"] == "train"]
    weight = columns_of(train, "weight").astype(np.float64).sum(axis=0)
    positive = (columns_of(train, "weight") * columns_of(train, "target")).astype(np.float64).sum(axis=0)
    return np.where(weight > 0, positive / np.where(weight > 0, weight, 1), np.nan)


def true_share(table: pd.DataFrame) -> np.ndarray:
    """Share of positives among the training images of which the truth is certain: 14, NaN where there are none."""
    truth = columns_of(table[table["split"] == "train"], "truth").astype(np.float64)
    known = (~np.isnan(truth)).sum(axis=0)
    return np.where(known > 0, np.nansum(truth, axis=0) / np.maximum(known, 1), np.nan)


def fit(table: pd.DataFrame, trained: np.ndarray, true: np.ndarray, settings: Settings) -> Judged:
    """table: one model's predictions; trained, true: its 14 shares of positives (trained_share, true_share)."""
    valid, test = (table[table["split"] == part] for part in ("valid", "test"))
    truth, scores, unseen = columns_of(valid, "truth"), columns_of(valid, "score"), columns_of(test, "score")
    probability = {form: np.full(unseen.shape, np.nan) for form in FORMS}
    threshold = np.full(len(SLUGS), np.nan)
    for k in range(len(SLUGS)):
        known = ~np.isnan(truth[:, k])
        labels, mine = truth[known, k].astype(np.float64), scores[known, k]
        logits = calibration.logit(unseen[:, k])
        probability["raw"][:, k] = unseen[:, k]
        shifts = 0 < trained[k] < 1 and 0 < true[k] < 1
        if shifts:
            probability["prior"][:, k] = calibration.sigmoid(calibration.shift(logits, trained[k], true[k]))
        if not enough(labels, settings):
            continue
        threshold[k] = calibration.threshold(labels, mine, settings.sensitivity)
        if shifts:
            share = labels.mean()
            fitted = calibration.shift(calibration.logit(mine), trained[k], share)
            scaling = calibration.fit(fitted, labels, settings.scaling)
            scaled = calibration.apply(scaling, calibration.shift(logits, trained[k], share))
            probability["calibrated"][:, k] = calibration.sigmoid(calibration.shift(scaled, share, true[k]))
    return Judged(probability, threshold)


class _Row(NamedTuple):
    """One line of a table before it is written: values and replicates by name of the number; n: its counts."""

    n: dict
    value: dict[str, float]
    replicates: dict[str, np.ndarray]


def _counts(valid: np.ndarray, test: np.ndarray) -> dict:
    count = {
        "n": int((~np.isnan(test)).sum()),
        "positives": int((test == 1).sum()),
        "negatives": int((test == 0).sum()),
    }
    return count | {"valid_positives": int((valid == 1).sum()), "valid_negatives": int((valid == 0).sum())}


def _lines(head: dict, rows: Sequence[_Row], n: int, names: Sequence[str], settings: Settings) -> list[dict]:
    """One line per finding, then 'macro' of n images: the mean over the findings of which every number is known."""
    lines = []
    known = [row for row in rows if row.value and not any(np.isnan(v) for v in row.value.values())]
    nothing = {name: np.full(settings.replicates, np.nan) for name in names}
    mean = _Row(
        {"n": n, "findings": len(known)},
        {name: np.mean([row.value[name] for row in known]) for name in names} if known else {},
        {name: np.mean([row.replicates[name] for row in known], axis=0) for name in names} if known else nothing,
    )
    for finding, row in zip([*FINDINGS, "macro"], [*rows, mean], strict=True):
        line = head | {"finding": finding} | row.n
        for name in names:
            low, high, _ = metrics.interval(row.replicates.get(name, nothing[name]), settings.confidence)
            line |= {name: row.value.get(name, np.nan), f"{name}_low": low, f"{name}_high": high}
        lines.append(line)
    return lines


def tables(
    models: Mapping[str, pd.DataFrame],
    judged: Mapping[str, Judged],
    trained: Mapping[str, np.ndarray],
    true: np.ndarray,
    settings: Settings,
) -> dict[str, pd.DataFrame]:
    """The tables calibration, operating and reliability of the models, on test patients.

    calibration: model, finding (or macro), patients, n, positives, negatives, valid_positives, valid_negatives,
    findings (of the mean), trained_share, true_share, then <number>_<form>, _low and _high for brier and ece; the mean
    is over the findings that have all three forms. operating: threshold and, on test, sensitivity and specificity with
    _low and _high. reliability: model, finding, form, bin, n, predicted, observed, low, high.
    """
    errors, points, curves = [], [], []
    names = [f"{number}_{form}" for form in FORMS for number in ("brier", "ece")]
    for model, table in models.items():
        test = table[table["split"] == "test"]
        draws = metrics.draw_patients(test["patient_id"], settings.replicates, settings.seed)
        labels, scores = columns_of(test, "truth").astype(np.float64), columns_of(test, "score")
        valid = columns_of(table[table["split"] == "valid"], "truth")
        rows, found = [], []
        for k, finding in enumerate(FINDINGS):
            known = ~np.isnan(labels[:, k])
            truth, mine = labels[known, k], metrics.Draws(draws.owner[known], draws.counts)
            counts = _counts(valid[:, k], labels[:, k])
            error, point = (_Row(dict(counts), {}, {}) for _ in range(2))
            error.n.update(trained_share=trained[model][k], true_share=true[k])
            limit = judged[model].threshold[k]
            point.n.update(threshold=limit)
            if enough(truth, settings):
                for form in FORMS:
                    probability = judged[model].probability[form][known, k]
                    if np.isnan(probability).any():
                        error.value.update({f"brier_{form}": np.nan, f"ece_{form}": np.nan})
                        continue
                    error.value[f"brier_{form}"] = calibration.brier(truth, probability)
                    error.value[f"ece_{form}"] = calibration.ece(truth, probability, settings.bins)
                    replicates = calibration.bootstrap(truth, probability, settings.bins, mine)
                    error.replicates.update(zip((f"brier_{form}", f"ece_{form}"), replicates, strict=True))
                    curve = calibration.reliability(truth, probability, settings.bins, mine, settings.confidence)
                    curves.append(curve.assign(model=model, finding=finding, form=form))
                if not np.isnan(limit):
                    _rates(point, truth, scores[known, k] >= limit, mine)
            rows.append(error)
            found.append(point)
        head = {"model": model, "patients": len(draws.counts)}
        errors += _lines(head, rows, len(test), names, settings)
        points += _lines(head, found, len(test), ("sensitivity", "specificity"), settings)
    columns = ["model", "finding", "form", "bin", "n", "predicted", "observed", "low", "high"]
    curve = pd.concat(curves, ignore_index=True)[columns] if curves else pd.DataFrame(columns=columns)
    whole = dict.fromkeys(("n", "positives", "negatives", "valid_positives", "valid_negatives", "findings"), "Int64")
    calibrated, operating = (pd.DataFrame(lines).astype(whole) for lines in (errors, points))
    return {"calibration": calibrated, "operating": operating, "reliability": curve}


def _rates(row: _Row, truth: np.ndarray, called: np.ndarray, draws: metrics.Draws) -> None:
    for name, of, right in (("sensitivity", truth == 1, called), ("specificity", truth == 0, ~called)):
        hits, all_of = metrics.bootstrap_sums(np.stack([of & right, of], axis=1), draws)
        row.value[name] = float(right[of].mean())
        with np.errstate(invalid="ignore"):
            row.replicates[name] = hits / all_of


def summary(tables: Mapping[str, pd.DataFrame], floor: str, baseline: str) -> dict:
    """What metrics.json says of this, means over the findings on test: floor, its AUC; above_floor, calibration and
    operating: of the baseline and of final. What has no value is absent.
    """
    area = tables["auc"].query("split == 'test' and finding == 'macro'").set_index("model")
    result: dict = {"floor": {"macro_auc": numbers(area.loc[floor], ("auc", "low", "high"))}}
    shown = {
        "above_floor": ("floor", ("difference", "low", "high", "detectable")),
        "calibration": ("calibration", ("ece_raw", "ece_prior", "ece_calibrated", "brier_raw", "brier_calibrated")),
        "operating": ("operating", ("sensitivity", "specificity")),
    }
    for key, (name, columns) in shown.items():
        means = tables[name].query("finding == 'macro'").set_index("model")
        result[key] = {as_: numbers(means.loc[m], columns) for as_, m in (("baseline", baseline), ("final", "final"))}
    return without_empty(result)
