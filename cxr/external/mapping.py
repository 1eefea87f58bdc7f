"""Which label of another data set means which of CheXpert's findings: mapping.csv, one row per label, with its source.

answer: same; near, which is scored and marked, because it is a part of the finding or counts a little more; or not the
same, which is never scored. A finding that several labels mean is there where one of them is. A * stands for every
label, each being the finding of its own name.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS
from cxr.data.sources.dataset import Dataset

Answer = Literal["same", "near", "not the same"]
SCORED = ("same", "near")
EVERY = "*"


class Meaning(NamedTuple):
    """label: the data set's; finding: CheXpert's nearest, '' for none; source: where its definition stands; reason: why
    it is not simply the same.
    """

    label: str
    finding: str
    answer: str
    source: str
    reason: str


@cache
def meanings(dataset: Dataset) -> tuple[Meaning, ...]:
    """What each label of a data set means."""
    with open(Path(__file__).with_name("mapping.csv"), encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.pop("dataset") == dataset.name]
    listed = [Meaning(**row) for row in rows]
    if listed and listed[0].label == EVERY:
        return tuple(listed[0]._replace(label=name, finding=name) for name in dataset.findings)
    return tuple(listed)


def truth(labels: pd.DataFrame, dataset: Dataset) -> tuple[np.ndarray, list[Meaning]]:
    """(N x 14 float32 in the order of FINDINGS: 1, 0 or NaN; the meanings that it was made by).

    labels: N x own findings, 1, 0, -1 or NaN. An uncertain label is NaN, as in the project's own truth. A column
    without any label counts as not there. A finding that no label means is NaN throughout.
    """
    present = [one for one in meanings(dataset) if labels[one.label].notna().any()]
    result = np.full((len(labels), len(FINDINGS)), np.nan, np.float32)
    for k, finding in enumerate(FINDINGS):
        names = [one.label for one in present if one.finding == finding and one.answer in SCORED]
        if not names:
            continue
        values = labels[names].to_numpy(np.float32, copy=True)
        if dataset.blank_is_negative:
            values[np.isnan(values)] = 0
        positive, absent = (values == 1).any(axis=1), (values == 0).all(axis=1)
        result[:, k] = np.where(positive, 1, np.where(absent, 0, np.nan))
    return result, present
