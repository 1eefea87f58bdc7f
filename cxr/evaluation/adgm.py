"""Does the unlabelled data help? Tables of the ADGM, its variants and its control arms, made from their predictions.

Every number of a run has a percentile interval over resampled patients. Over label draws it is averaged, with two
separate spreads: over patients with the draws fixed (the same resampled patients in every run), and the standard
deviation over draws, which contains everything that a training draws: labels, initial weights, batches.

A difference between two variants pairs the runs of the same classes, labels and draw, patient by patient;
cxr/evaluation/repeated.py combines patients and draws. A variant is compared in the same way with the classifier that
always names the commonest class: its share is counted on the same images, so that it is no constant.

Shapes: N images, K classes, B replicates, D draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, recall_score

from cxr.adgm.variants import Run, leaders, leading
from cxr.core.findings import CLASS_NAMES
from cxr.evaluation import efficiency, intervals, metrics, repeated
from cxr.evaluation.classifiers import Settings, numbers
from cxr.evaluation.names import MAJORITY, SCORES, frame

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


def commonest(label: np.ndarray, classes: int) -> np.ndarray:
    """The probabilities, N x K, of a classifier that always names the commonest class of these labels, N."""
    return np.tile(np.eye(classes)[np.bincount(label, minlength=classes).argmax()], (len(label), 1))


class Judged(NamedTuple):
    """One run: its SCORES, B replicates of each, and each class's AUC against the rest, where every class is there."""

    value: dict[str, float]
    replicates: dict[str, np.ndarray]
    areas: list[intervals.Area]


def judge(label: np.ndarray, probability: np.ndarray, draws: metrics.Draws, confidence: float) -> Judged:
    """label N, probability N x K, draws of the N images' patients."""
    K = probability.shape[1]
    cell = label * K + probability.argmax(1)
    matrix = metrics.bootstrap_sums((cell[:, None] == np.arange(K * K)).astype(np.float64), draws).reshape(K, K, -1)
    truth, areas = (label[:, None] == np.arange(K)).astype(np.float64), []
    if truth.any(axis=0).all() and not truth.all(axis=0).any():
        areas = [intervals.area(t, p, draws, confidence) for t, p in zip(truth.T, probability.T, strict=True)]
    drawn = _of_counts(matrix)
    drawn["macro_auc"] = (
        np.mean([one.replicates for one in areas], axis=0) if areas else np.full(matrix.shape[-1], np.nan)
    )
    return Judged(scores(label, probability), drawn, areas)


def _with_intervals(value: Mapping[str, float], drawn: Mapping, areas: Sequence, confidence: float) -> dict:
    """The columns of SCORES with the ends of their intervals. areas: those that macro_auc is the mean of."""
    row: dict = {}
    for name in SCORES:
        row |= metrics.with_interval(name, value[name], drawn[name], confidence)
    return row | dict(zip(("macro_auc_low", "macro_auc_high"), intervals.mean_interval(areas), strict=True))


def tables(runs: Mapping[Run, pd.DataFrame], settings: Settings) -> dict[str, pd.DataFrame]:
    """The tables adgm, confusion, adgm_arms, adgm_compare and adgm_efficiency (cxr/evaluation/names.py) of the runs'
    predictions.

    which: last or best epoch; _low and _high: over patients; wilson_low and wilson_high: Wilson's interval of the
    accuracy over images, as the papers print it; mcnemar_p: exact, against the commonest class; recall.<i>: of class i.
    adgm_arms, adgm_compare and adgm_efficiency are of the last epoch.
    """
    rows, cells, judged, constant = [], [], {}, {}
    for run, table in runs.items():
        label = table["label"].to_numpy(np.int64)
        draws = metrics.draw_patients(table["patient_id"], settings.replicates, settings.seed)
        for which in ("last", "best"):
            probability = table[[f"prob_{which}.{i}" for i in range(run.classes)]].to_numpy()
            predicted, names = probability.argmax(1), CLASS_NAMES[run.classes]
            head = run._asdict() | {"which": which}
            matrix = confusion_matrix(label, predicted, labels=range(run.classes))
            one, always = (
                judge(label, p, draws, settings.confidence) for p in (probability, commonest(label, run.classes))
            )
            wilson = metrics.wilson(int(np.trace(matrix)), len(table), settings.confidence)
            recalls = recall_score(label, predicted, labels=range(run.classes), average=None, zero_division=np.nan)
            row = head | {
                "n": len(table),
                "patients": len(draws.counts),
                "wilson_low": wilson[0],
                "wilson_high": wilson[1],
            }
            row |= {"majority_share": always.value["accuracy"]}
            row["mcnemar_p"] = metrics.mcnemar(label == np.bincount(label).argmax(), label == predicted, draws.owner)
            row |= {f"recall.{i}": value for i, value in enumerate(recalls)}
            rows.append(row | _with_intervals(one.value, one.replicates, one.areas, settings.confidence))
            cells += [head | {"true": names[i], "predicted": names[j], "n": int(n)}
                      for (i, j), n in np.ndenumerate(matrix)]  # fmt: skip
            if which == "last":
                judged[run], constant[run] = one, always
    recalls = [f"recall.{i}" for i in range(max(run.classes for run in runs))]
    found = {"adgm": frame("adgm", rows, *recalls), "confusion": frame("confusion", cells)}
    found["adgm_efficiency"] = efficiency.table(by_draw(judged), settings)
    return found | {"adgm_arms": arms(judged, settings), "adgm_compare": compare(judged, constant, settings)}


def by_draw(runs: Mapping[Run, Judged]) -> dict[tuple[str, int, int], dict[int, Judged]]:
    """(variant, classes, labels) -> draw -> one of its runs."""
    cells: dict = {}
    for run, judged in runs.items():
        cells.setdefault(run[:3], {})[run.draw] = judged
    return cells


def arms(runs: Mapping[Run, Judged], settings: Settings) -> pd.DataFrame:
    """The table adgm_arms: the mean of each score over draws, _low and _high (patients), _sd (over draws; blank for
    one)."""
    rows = []
    for cell, of_draw in by_draw(runs).items():
        row = dict(zip(CELL, cell, strict=True)) | {"draws": len(of_draw)}
        values = {name: np.array([judged.value[name] for judged in of_draw.values()]) for name in SCORES}
        drawn = {name: np.mean([judged.replicates[name] for judged in of_draw.values()], axis=0) for name in SCORES}
        areas = [area for judged in of_draw.values() for area in judged.areas]
        row |= _with_intervals({n: float(v.mean()) for n, v in values.items()}, drawn, areas, settings.confidence)
        rows.append(row | {f"{name}_sd": repeated.spread(v) for name, v in values.items()})
    return frame("adgm_arms", rows)


def compare(runs: Mapping[Run, Judged], constant: Mapping[Run, Judged], settings: Settings) -> pd.DataFrame:
    """The table adgm_compare: each of `leaders` minus each variant that is none (control), and the first leader minus
    the others, over the draws that both have, which count as trainings; and every variant minus MAJORITY. constant:
    what MAJORITY scores on each run's images."""
    cells, always, rows = by_draw(runs), by_draw(constant), []
    first, *others = leads = leaders([cell[0] for cell in cells])
    pairs = [
        ((lead, *cell[1:]), cell[0], theirs)
        for lead in leads
        for cell, theirs in cells.items()
        if cell[0] not in leads or (lead == first and cell[0] in others)
    ]
    pairs += [(cell, MAJORITY, theirs) for cell, theirs in always.items()]
    for cell, control, theirs in pairs:
        ours = cells.get(cell, {})
        draws = sorted(set(ours) & set(theirs))
        for name in SCORES if draws else ():
            values = np.array([ours[d].value[name] - theirs[d].value[name] for d in draws])
            drawn = np.stack([ours[d].replicates[name] - theirs[d].replicates[name] for d in draws])
            row = dict(zip(CELL, cell, strict=True)) | {"control": control, "score": name, "draws": len(draws)}
            rows.append(row | repeated.difference(values, drawn, settings.confidence, settings.power))
    return frame("adgm_compare", rows)


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """The part of metrics.json on the ADGM: adgm.<classes>-<labels>, of the leading variant's last epoch.

    The mean of each score over draws, the accuracy with its interval over patients; over_<control>, the commonest class
    (MAJORITY) among them: the difference in accuracy with its intervals over patients (low, high) and over patients and
    draws.
    """
    table = tables["adgm_arms"]
    result: dict = {}
    first = leading(table["variant"].tolist())
    for row in table[table["variant"] == first].to_dict("records"):
        row |= {"low": row["accuracy_low"], "high": row["accuracy_high"]}
        result[f"{row['classes']}-{row['labels']}"] = numbers(row, ("accuracy", "low", "high", *list(SCORES)[1:]))
    for row in tables["adgm_compare"].query("score == 'accuracy' and variant == @first").to_dict("records"):
        place = result[f"{row['classes']}-{row['labels']}"]
        place[f"over_{row['control']}"] = numbers(row, ("difference", "low", "high", "total_low", "total_high", "p"))
    return {"adgm": result}
