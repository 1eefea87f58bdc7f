"""Does the unlabelled data help? Tables of the ADGM, its variants and its control arms, made from their predictions.

Every number of a run has a percentile interval over resampled patients. Over label draws it is averaged, with two
separate spreads: over patients with the draws fixed (the same resampled patients in every run), and the standard
deviation over draws, which contains everything that a training draws: labels, initial weights, batches.

A difference between two variants pairs the runs of the same classes, labels and draw, patient by patient;
cxr/evaluation/repeated.py combines patients and draws.

Shapes: N images, K classes, B replicates, D draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, recall_score

from cxr.adgm.variants import Run, leading
from cxr.core.findings import CLASS_NAMES
from cxr.evaluation import metrics, repeated
from cxr.evaluation.classifiers import Settings, numbers
from cxr.evaluation.names import SCORES, frame

CELL = ("variant", "classes", "labels")


def scores(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """SCORES of N images: labels N, probabilities N x K; all but the accuracy are NaN where a class has no image."""
    matrix = confusion_matrix(label, probability.argmax(1), labels=range(probability.shape[1]))
    values = {name: float(v[0]) for name, v in _of_counts(matrix[..., None]).items()}
    return values | {"macro_auc": metrics.one_against_rest(label, probability)}


def _of_counts(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """K x K x B counts [true, predicted] -> B of each score that a confusion matrix gives."""
    correct, true, predicted = np.einsum("kkb->kb", matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, f1 = correct / true, np.where(true > 0, 2 * correct / (true + predicted), np.nan)
        return {
            "accuracy": correct.sum(0) / true.sum(0), "balanced_accuracy": recall.mean(0), "macro_f1": f1.mean(0),
        }  # fmt: skip


def replicates(label: np.ndarray, probability: np.ndarray, draws: metrics.Draws) -> dict[str, np.ndarray]:
    """SCORES in each replicate of the patients: B each."""
    K = probability.shape[1]
    cell = label * K + probability.argmax(1)
    matrix = metrics.bootstrap_sums((cell[:, None] == np.arange(K * K)).astype(np.float64), draws).reshape(K, K, -1)
    truth = (label[:, None] == np.arange(K)).astype(np.float64)
    return _of_counts(matrix) | {"macro_auc": metrics.bootstrap_auc(truth, probability, draws).mean(axis=0)}


class Judged(NamedTuple):
    """One run: its SCORES, B replicates of each, and the number of patients."""

    value: dict[str, float]
    replicates: dict[str, np.ndarray]
    patients: int


def tables(runs: Mapping[Run, pd.DataFrame], settings: Settings) -> dict[str, pd.DataFrame]:
    """The tables adgm, confusion, adgm_arms and adgm_compare (cxr/evaluation/names.py) of the runs' predictions.

    which: last or best epoch; _low and _high: over patients; wilson_low and wilson_high: Wilson's interval of the
    accuracy over images, as the papers print it; recall.<i>: of class i. adgm_arms and adgm_compare are of the last
    epoch.
    """
    rows, cells, judged = [], [], {}
    for run, table in runs.items():
        label = table["label"].to_numpy(np.int64)
        draws = metrics.draw_patients(table["patient_id"], settings.replicates, settings.seed)
        for which in ("last", "best"):
            probability = table[[f"prob_{which}.{i}" for i in range(run.classes)]].to_numpy()
            predicted, names = probability.argmax(1), CLASS_NAMES[run.classes]
            head = run._asdict() | {"which": which}
            matrix = confusion_matrix(label, predicted, labels=range(run.classes))
            one = Judged(scores(label, probability), replicates(label, probability, draws), len(draws.counts))
            wilson = metrics.wilson(int(np.trace(matrix)), len(table), settings.confidence)
            recalls = recall_score(label, predicted, labels=range(run.classes), average=None, zero_division=np.nan)
            row = head | {"n": len(table), "patients": one.patients, "wilson_low": wilson[0], "wilson_high": wilson[1]}
            row |= {"majority_share": matrix.sum(axis=1).max() / len(table)}
            row |= {f"recall.{i}": value for i, value in enumerate(recalls)}
            for name in SCORES:
                row |= metrics.with_interval(name, one.value[name], one.replicates[name], settings.confidence)
            rows.append(row)
            cells += [head | {"true": names[i], "predicted": names[j], "n": int(n)}
                      for (i, j), n in np.ndenumerate(matrix)]  # fmt: skip
            if which == "last":
                judged[run] = one
    recalls = [f"recall.{i}" for i in range(max(run.classes for run in runs))]
    found = {"adgm": frame("adgm", rows, *recalls), "confusion": frame("confusion", cells)}
    return found | {"adgm_arms": arms(judged, settings), "adgm_compare": compare(judged, settings)}


def _by_draw(runs: Mapping[Run, Judged]) -> dict[tuple[str, int, int], dict[int, Judged]]:
    """(variant, classes, labels) -> draw -> run."""
    cells: dict = {}
    for run, judged in runs.items():
        cells.setdefault(run[:3], {})[run.draw] = judged
    return cells


def arms(runs: Mapping[Run, Judged], settings: Settings) -> pd.DataFrame:
    """The table adgm_arms: the mean of each score over draws, _low and _high (patients), _sd (over draws; blank for
    one)."""
    rows = []
    for cell, by_draw in _by_draw(runs).items():
        row = dict(zip(CELL, cell, strict=True)) | {"draws": len(by_draw)}
        for name in SCORES:
            values = np.array([judged.value[name] for judged in by_draw.values()])
            mean = np.mean([judged.replicates[name] for judged in by_draw.values()], axis=0)
            row |= metrics.with_interval(name, values.mean(), mean, settings.confidence)
            row[f"{name}_sd"] = repeated.spread(values)
        rows.append(row)
    return frame("adgm_arms", rows)


def compare(runs: Mapping[Run, Judged], settings: Settings) -> pd.DataFrame:
    """The table adgm_compare: the leading variant minus each other one (control), over the draws that both have, which
    count as trainings."""
    cells, rows = _by_draw(runs), []
    first = leading([cell[0] for cell in cells])
    for (control, classes, labels), theirs in cells.items():
        ours = cells.get((first, classes, labels), {})
        draws = sorted(set(ours) & set(theirs))
        if control == first or not draws:
            continue
        for name in SCORES:
            values = np.array([ours[d].value[name] - theirs[d].value[name] for d in draws])
            drawn = np.stack([ours[d].replicates[name] - theirs[d].replicates[name] for d in draws])
            row = {"variant": first, "control": control, "classes": classes, "labels": labels, "score": name}
            row |= repeated.difference(values, drawn, settings.confidence, settings.power)
            rows.append(row | {"draws": len(draws)})
    return frame("adgm_compare", rows)


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """The part of metrics.json on the ADGM: adgm.<classes>-<labels>, of the leading variant's last epoch.

    The mean of each score over draws, the accuracy with its interval over patients; over_<control>: the difference in
    accuracy with its intervals over patients (low, high) and over patients and draws.
    """
    table = tables["adgm_arms"]
    result: dict = {}
    for row in table[table["variant"] == leading(table["variant"].tolist())].to_dict("records"):
        row |= {"low": row["accuracy_low"], "high": row["accuracy_high"]}
        result[f"{row['classes']}-{row['labels']}"] = numbers(row, ("accuracy", "low", "high", *list(SCORES)[1:]))
    for row in tables["adgm_compare"].query("score == 'accuracy'").to_dict("records"):
        place = result[f"{row['classes']}-{row['labels']}"]
        place[f"over_{row['control']}"] = numbers(row, ("difference", "low", "high", "total_low", "total_high", "p"))
    return {"adgm": result}
