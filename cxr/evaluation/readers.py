"""Radiologists beside the classifiers: each reader's sensitivity and specificity on the test studies, and the
classifier's sensitivity at the reader's specificity.

CheXpert's official test set comes with benchmark readers, one row a study (cxr/data/sources). The reference standard is
the majority of other radiologists, so a reader is compared with other people's readings, as the classifier is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.files import read_table
from cxr.core.findings import FINDINGS, SLUGS
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Settings, enough
from cxr.evaluation.names import frame
from cxr.evaluation.ranked import each_once, sensitivity_at, share_interval
from cxr.evaluation.studies import per_study

STAGE = "download@chexpert"


def read(path: str | os.PathLike) -> pd.DataFrame | None:
    """The readers' calls: study_id, reader, then the 14 findings, 1, 0 or NaN (not read). None where the data set has
    no such file.

    Raises ValueError for another value, and for a reader who has a study twice.
    """
    path, cure = Path(path), f"`dvc repro -f {STAGE}` makes it again"
    if not path.exists():
        return None
    table = read_table(path, STAGE, ["study_id", "reader", *FINDINGS])
    for name in FINDINGS:
        wrong = ~(table[name].isna() | table[name].isin((0, 1)))
        if wrong.any():
            row = table[wrong].iloc[0]
            raise ValueError(
                f"{path}: {name} of study {row['study_id']!r} is {row[name]} for reader {row['reader']!r}, "
                f"must be 1, 0 or blank; {cure}"
            )
    if (twice := table.duplicated(["reader", "study_id"])).any():
        row = table[twice].iloc[0]
        raise ValueError(f"{path}: reader {row['reader']!r} has study {row['study_id']!r} twice; {cure}")
    return table


def table(
    models: Mapping[str, pd.DataFrame], studies: pd.Series, calls: pd.DataFrame | None, settings: Settings
) -> pd.DataFrame | None:
    """The table readers (cxr/evaluation/names.py), on the test studies that a reader read. None where there is none.

    models: predictions per image; studies: image_id -> study_id; calls: of `read`. Reader and classifier are scored on
    the same studies and the same draws of patients. at: the highest sensitivity of a threshold whose specificity is at
    least the reader's; difference: it less the reader's sensitivity.
    """
    if calls is None:
        return None
    rows: list[dict] = []
    for model, predicted in models.items():
        test = per_study(predicted[predicted["split"] == "test"], studies, settings.study_scores)
        for reader, of_reader in calls.groupby("reader"):
            both = test.merge(of_reader, on="study_id")
            if len(both):
                rows += _reader({"model": model, "reader": str(reader)}, both, settings)
    return frame("readers", rows) if rows else None


def _reader(head: dict, both: pd.DataFrame, settings: Settings) -> Sequence[dict]:
    """One reader beside one classifier: a row for each finding with enough of both classes."""
    draws, rows = metrics.draw_patients(both["patient_id"], settings.replicates, settings.seed), []
    for finding, name in zip(FINDINGS, SLUGS, strict=True):
        known = (both[f"truth.{name}"].notna() & both[finding].notna()).to_numpy()
        truth, scores, called = (
            both.loc[known, column].to_numpy(np.float64) for column in (f"truth.{name}", f"score.{name}", finding)
        )
        if not enough(truth, settings):
            continue
        drawn = metrics.Draws(draws.owner[known], draws.counts)
        values = _values(truth, scores, called > 0.5, each_once(len(truth)))
        replicates = _values(truth, scores, called > 0.5, drawn)
        row = head | {"finding": finding, "patients": len(draws.counts), **metrics.counts(truth)}
        of_class = {"sensitivity": drawn.owner[truth == 1], "specificity": drawn.owner[truth == 0]}
        for measure, value in values.items():
            one = measure, float(value[0]), replicates[measure]
            row |= (
                share_interval(*one, of_class[measure], settings.confidence)
                if measure in of_class
                else metrics.with_interval(*one, settings.confidence)
            )
        rows.append(row)
    return rows


def _values(truth: np.ndarray, scores: np.ndarray, called: np.ndarray, draws: metrics.Draws) -> dict[str, np.ndarray]:
    """sensitivity and specificity of the reader, at (the classifier's) and difference: B each."""
    columns = [truth == 1, (truth == 1) & called, truth == 0, (truth == 0) & ~called]
    positives, hits, negatives, kept = metrics.bootstrap_sums(np.stack(columns, axis=1).astype(float), draws)
    with np.errstate(invalid="ignore"):
        sensitivity, specificity = hits / positives, kept / negatives
    at = sensitivity_at(truth, scores, specificity, draws)
    return {"sensitivity": sensitivity, "specificity": specificity, "at": at, "difference": at - sensitivity}
