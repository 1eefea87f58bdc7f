"""Does the unlabelled data help? The ADGM, its variants and its control arms, from their predictions alone.

Every number of a run has a percentile interval from resampled patients. Over label draws it is averaged, and two
spreads are kept apart: that over patients, with the draws as they are (the same resampled patients in every run), and
the standard deviation over draws, which holds everything that a training draws: labels, initial weights, batches.

A difference between two variants pairs the runs of the same classes, labels and draw, patient by patient, and combines
patients and draws as cxr/evaluation/repeated.py says.

Shapes: N images, K classes, B replicates, D draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.adgm.variants import Run, leading
from cxr.core.findings import CLASS_NAMES
from cxr.evaluation import metrics, repeated
from cxr.evaluation.classifiers import Settings, numbers

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
CELL = ["variant", "classes", "labels"]
COMPARE = ("variant", "control", "classes", "labels", "score", "draws")


def scores(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """SCORES of N images: labels N, probabilities N x K; NaN where a class has no image (but accuracy)."""
    matrix = metrics.confusion(label, probability.argmax(1), probability.shape[1])
    found = {name: float(v[0]) for name, v in _of_counts(matrix[..., None]).items()}
    return found | {"macro_auc": metrics.one_against_rest(label, probability)}


def _of_counts(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """K x K x B counts [true, predicted] -> B of each score that a confusion matrix gives."""
    right, true, said = np.einsum("kkb->kb", matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, f1 = right / true, np.where(true > 0, 2 * right / (true + said), np.nan)
        return {
            "accuracy": right.sum(0) / true.sum(0), "balanced_accuracy": recall.mean(0), "macro_f1": f1.mean(0),
        }  # fmt: skip


def replicates(label: np.ndarray, probability: np.ndarray, draws: metrics.Draws) -> dict[str, np.ndarray]:
    """SCORES in each replicate of the patients: B each."""
    K = probability.shape[1]
    cell = label * K + probability.argmax(1)
    matrix = metrics.bootstrap_sums((cell[:, None] == np.arange(K * K)).astype(np.float64), draws).reshape(K, K, -1)
    truth = (label[:, None] == np.arange(K)).astype(np.float64)
    return _of_counts(matrix) | {"macro_auc": metrics.bootstrap_auc(truth, probability, draws).mean(axis=0)}


class Judged(NamedTuple):
    """A run's SCORES, and the B replicates of each; patients: how many there are."""

    value: dict[str, float]
    replicates: dict[str, np.ndarray]
    patients: int


def tables(runs: Mapping[Run, pd.DataFrame], settings: Settings) -> dict[str, pd.DataFrame]:
    """The tables adgm, confusion, adgm_arms and adgm_compare of the runs' predictions.

    adgm: of each run and of its last and best epoch (`which`): n, patients, SCORES with _low and _high (patients),
    wilson_low and wilson_high of the accuracy (images, as printed papers have it), majority_share, recall.<i>.
    confusion: counts. adgm_arms and adgm_compare, of the last epoch: as `arms` and `compare` give them.
    """
    rows, cells, judged = [], [], {}
    for run, table in runs.items():
        label = table["label"].to_numpy(np.int64)
        draws = metrics.draw_patients(table["patient_id"], settings.replicates, settings.seed)
        for which in ("last", "best"):
            probability = table[[f"prob_{which}.{i}" for i in range(run.classes)]].to_numpy()
            matrix = metrics.confusion(label, probability.argmax(1), run.classes)
            found = Judged(scores(label, probability), replicates(label, probability, draws), len(draws.counts))
            wilson = metrics.wilson(int(np.trace(matrix)), len(table), settings.confidence)
            row = run._asdict() | {"which": which, "n": len(table), "patients": found.patients}
            for name in SCORES:
                low, high, _ = metrics.interval(found.replicates[name], settings.confidence)
                row |= {name: found.value[name], f"{name}_low": low, f"{name}_high": high}
            row |= {"wilson_low": wilson[0], "wilson_high": wilson[1]}
            row["majority_share"] = matrix.sum(axis=1).max() / len(table)
            rows.append(row | {f"recall.{i}": value for i, value in enumerate(metrics.recalls(matrix))})
            names = CLASS_NAMES[run.classes]
            cells += [(*run, which, names[i], names[j], int(n)) for (i, j), n in np.ndenumerate(matrix)]
            if which == "last":
                judged[run] = found
    confusion = pd.DataFrame(cells, columns=[*Run._fields, "which", "true", "predicted", "n"])
    found = {"adgm": pd.DataFrame(rows), "confusion": confusion}
    return found | {"adgm_arms": arms(judged, settings), "adgm_compare": compare(judged, settings)}


def _grouped(runs: Mapping[Run, Judged]) -> dict[tuple[str, int, int], dict[int, Judged]]:
    """(variant, classes, labels) -> draw -> run."""
    found: dict = {}
    for run, one in runs.items():
        found.setdefault(run[:3], {})[run.draw] = one
    return found


def arms(runs: Mapping[Run, Judged], settings: Settings) -> pd.DataFrame:
    """variant, classes, labels, draws, then of each of SCORES its mean over the draws, _low and _high (patients), and
    _sd (over draws; blank for one)."""
    rows = []
    for key, by_draw in _grouped(runs).items():
        row = dict(zip(CELL, key, strict=True)) | {"draws": len(by_draw)}
        for name in SCORES:
            values = np.array([one.value[name] for one in by_draw.values()])
            mean = np.mean([one.replicates[name] for one in by_draw.values()], axis=0)
            low, high, _ = metrics.interval(mean, settings.confidence)
            row |= {
                name: values.mean(),
                f"{name}_low": low,
                f"{name}_high": high,
                f"{name}_sd": repeated.spread(values),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def compare(runs: Mapping[Run, Judged], settings: Settings) -> pd.DataFrame:
    """The leading variant less each other one: variant, control, classes, labels, score (of SCORES), draws (that both
    have), and trainings.PARTS, with the draws as trainings."""
    grouped, rows = _grouped(runs), []
    first = leading([key[0] for key in grouped])
    for (control, classes, labels), theirs in grouped.items():
        ours = grouped.get((first, classes, labels), {})
        both = sorted(set(ours) & set(theirs))
        if control == first or not both:
            continue
        for name in SCORES:
            each = np.array([ours[d].value[name] - theirs[d].value[name] for d in both])
            drawn = np.stack([ours[d].replicates[name] - theirs[d].replicates[name] for d in both])
            head = dict(zip(COMPARE, (first, control, classes, labels, name, len(both)), strict=True))
            rows.append(head | repeated.difference(each, drawn, settings.confidence, settings.power))
    return pd.DataFrame(rows, columns=[*COMPARE, *repeated.PARTS])


def summary(found: Mapping[str, pd.DataFrame]) -> dict:
    """adgm.<classes>-<labels> of metrics.json, of the leading variant's last epoch: SCORES' means over draws, the
    accuracy with its interval over patients; over_<control>: the difference in accuracy, over patients (low, high) and
    over draws, too."""
    table, result = found["adgm_arms"], {}
    names = {"low": "accuracy_low", "high": "accuracy_high"}
    for row in table[table["variant"] == leading(table["variant"].tolist())].to_dict("records"):
        shown = numbers(row | {short: row[name] for short, name in names.items()}, ("accuracy", "low", "high"))
        result[f"{row['classes']}-{row['labels']}"] = shown | numbers(row, SCORES[1:])
    for row in found["adgm_compare"].query("score == 'accuracy'").to_dict("records"):
        place = result[f"{row['classes']}-{row['labels']}"]
        place[f"over_{row['control']}"] = numbers(row, ("difference", "low", "high", "total_low", "total_high", "p"))
    return {"adgm": result}
