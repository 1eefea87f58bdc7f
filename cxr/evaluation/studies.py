"""Scores per study, CheXpert's protocol, beside those per image; the competition's five findings beside the fourteen.

CheXpert's labels are of a study, which may hold several views, and its protocol takes the maximum of a study's
probabilities (Irvin et al. 2019, section 6). A study is positive for a finding if one of its images is, uncertain if
none is and one is uncertain, else negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS
from cxr.evaluation import intervals, metrics
from cxr.evaluation.classifiers import (
    Areas,
    Models,
    Settings,
    auc_rows,
    mean_known,
    model_areas,
    numbers,
    without_empty,
)
from cxr.evaluation.names import FIVE, frame

WAYS = ("max", "mean")


def per_study(predicted: pd.DataFrame, studies: pd.Series, way: str) -> pd.DataFrame:
    """A classifier's predictions, one row a study: study_id, patient_id, split, then score.<slug> and truth.<slug>.

    studies: study_id of each image (image_id -> study_id); way: max or mean of the images' scores. An image that was
    not predicted (another view, say) plays no part.
    """
    assert way in WAYS, way
    keys = ["split", "patient_id", "study_id"]
    table = predicted.assign(study_id=studies.loc[predicted["image_id"]].to_numpy())
    groups = [table[key] for key in keys]
    scores = table[[f"score.{name}" for name in SLUGS]].groupby(groups).agg(way)
    truth = table[[f"truth.{name}" for name in SLUGS]]
    positive, unknown = ((mask).groupby(groups).any() for mask in (truth == 1, truth.isna()))
    values = np.where(positive, 1.0, np.where(unknown, np.nan, 0.0)).astype(np.float32)
    return pd.concat([scores, pd.DataFrame(values, scores.index, truth.columns)], axis=1).reset_index()


def tables(
    models: Models,
    studies: pd.Series,
    curves_of: Sequence[str],
    findings: Sequence[str],
    settings: Settings,
) -> dict[str, pd.DataFrame]:
    """The tables per_study and study_roc (cxr/evaluation/names.py) on test patients.

    per_study: AUCs per image and per study of each model; macro: mean over the findings; five: over those of the
    competition; all are means over the trainings. study_roc: ROC curves per study of the first training of the models
    in `curves_of`, for the competition's findings and `findings`.
    """
    rows, curves = [], []
    for model, trainings in models.items():
        images = [predicted[predicted["split"] == "test"] for predicted in trainings]
        by_study = [per_study(test, studies, settings.study_scores) for test in images]
        for unit, scored in (("image", images), ("study", by_study)):
            draws = metrics.draw_patients(scored[0]["patient_id"], settings.replicates, settings.seed)
            areas = [model_areas(table, draws, settings) for table in scored]
            head = {"unit": unit, "model": model, "patients": len(draws.counts)}
            lines = [*auc_rows(scored[0], areas, settings), five(scored[0], areas)]
            rows += [head | line for line in lines]
            if unit == "study" and model in curves_of:
                curves += _curves(model, scored[0], areas[0].known, {*FIVE, *findings})
    return {
        "per_study": frame("per_study", rows),
        "study_roc": pd.concat(curves, ignore_index=True) if curves else frame("study_roc", []),
    }


def five(table: pd.DataFrame, trainings: Sequence[Areas]) -> dict:
    """The row of the mean over the competition's findings, those with an AUC."""
    known = trainings[0].known & np.isin(FINDINGS, FIVE)
    low, high = intervals.mean_interval([one.finding(int(k)) for one in trainings for k in np.flatnonzero(known)])
    missing = int(np.isnan(np.mean([mean_known(one.replicates, known) for one in trainings], axis=0)).sum())
    auc = float(np.mean([mean_known(one.area, known) for one in trainings]))
    row = {"finding": "five", "n": len(table), "auc": auc, "low": low, "high": high}
    return row | {"missing": missing if known.any() else None, "findings": int(known.sum())}


def _curves(model: str, table: pd.DataFrame, known: np.ndarray, findings: set[str]) -> list[pd.DataFrame]:
    curves = []
    for k, (finding, name) in enumerate(zip(FINDINGS, SLUGS, strict=True)):
        if known[k] and finding in findings:
            fpr, tpr = metrics.roc(table[f"truth.{name}"].to_numpy(), table[f"score.{name}"].to_numpy())
            curves.append(pd.DataFrame({"model": model, "finding": finding, "fpr": fpr, "tpr": tpr}))
    return curves


def summary(areas: pd.DataFrame, baseline: str) -> dict:
    """The part of metrics.json: per_study of the baseline and of final: means over all findings and over the five."""
    table = areas.query("unit == 'study'").set_index(["model", "finding"])
    parts = {
        role: {
            key: numbers(table.loc[(model, finding)], ("auc", "low", "high"))
            for key, finding in (("macro_auc", "macro"), ("five_auc", "five"))
        }
        for role, model in (("baseline", baseline), ("final", "final"))
    }
    return without_empty({"per_study": parts})
