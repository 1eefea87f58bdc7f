"""The 14 CheXpert findings, RSNA's classes, and the columns of a label table.

A record's label is 1 (present), 0 (absent), -1 (uncertain) or NaN (blank: the report does not mention the finding).
A policy (cxr/cohort/policies.py) decides what an uncertain label is to a training. Every policy is scored against the
same truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
# RSNA's classes, and the classes of the ADGM's tasks by their number, in the order of its outputs.
CLASSES = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
CLASS_NAMES = {2: ("Abnormal", "Normal"), 3: CLASSES}


def slug(name: str) -> str:
    """'Lung Lesion' -> 'lung_lesion': the form in file names, stage instances and table columns."""
    return name.lower().replace(" ", "_")


SLUGS = tuple(slug(name) for name in FINDINGS)


# The columns of a label table.
COLUMNS = (
    *("image_id", "patient_id", "split", "projection"),
    *(f"{kind}.{name}" for kind in ("target", "weight", "truth") for name in SLUGS),
)
# Columns (1 or 0) of a label table whose policy makes uncertain a class of its own. Such a label has weight 0.
UNCERTAIN = tuple(f"uncertain.{name}" for name in SLUGS)


def finding(name: str) -> str:
    """The official name of a finding, from its slug or itself. Raises ValueError with the 14 choices."""
    for official in FINDINGS:
        if name in (official, slug(official)):
            return official
    raise ValueError(f"unknown finding {name!r}: choose from {', '.join(SLUGS)}")


def truth(labels: np.ndarray) -> np.ndarray:
    """The truth that every policy is scored against: 1 present, 0 absent or blank, NaN uncertain. float32, shape of
    labels.
    """
    result = (labels == 1).astype(np.float32)
    result[labels == -1] = np.nan
    return result


def in_view(table: pd.DataFrame, view: str) -> pd.DataFrame:
    """The rows with projection `view` (frontal or lateral); every row for 'all'."""
    return table if view == "all" else table[table["projection"] == view]


def matrix(records: pd.DataFrame) -> np.ndarray:
    """The labels of records as N x 14 float32 in the order of FINDINGS."""
    return records[list(FINDINGS)].to_numpy(np.float32)


def columns_of(table: pd.DataFrame, kind: str) -> np.ndarray:
    """N x 14 float32 of one kind of column (score | target | weight | truth | uncertain) in the order of SLUGS."""
    return table[[f"{kind}.{name}" for name in SLUGS]].to_numpy(np.float32, copy=True)


def with_probabilities(
    table: pd.DataFrame, places: np.ndarray, scores: np.ndarray, names: Iterable[str]
) -> pd.DataFrame:
    """The label table with probabilities as targets, at weight 1, where the report calls one of `names` uncertain.

    places: of N rows, int64; scores: their probabilities, N x 14.
    """
    result = table.copy()
    for name in names:
        uncertain = table[f"truth.{name}"].isna().to_numpy()[places]
        for kind, values in (("target", scores[uncertain, SLUGS.index(name)]), ("weight", 1.0)):
            column = result[f"{kind}.{name}"].to_numpy(np.float32, copy=True)
            column[places[uncertain]] = values
            result[f"{kind}.{name}"] = column
    return result
