"""Whom a model has seen in training, so that nobody is tested on them.

Patients are compared within the same people (cxr/data/sources/dataset.py): NIH's and RSNA's are the same persons under
the same number. A start may have seen whole data sets (weights of torchxrayvision, by their name).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from cxr.data.sources.registry import DATASETS
from cxr.training.pretrained import trained_on

Seen = Mapping[str, frozenset[str] | None]  # people -> patients, None: any of them may have been seen


class Refused(NamedTuple):
    """rows: of records whose patient was not trained on; patients, images: how many were left out."""

    rows: pd.DataFrame
    patients: int
    images: int


def seen_by(start: str, people: str, patients: pd.Series) -> dict[str, frozenset[str] | None]:
    """Whom a model has seen. start: classifier.weights; people and patients: of its training images."""
    seen: dict[str, frozenset[str] | None] = {people: frozenset(patients.astype(str))}
    return seen | {DATASETS[one].people: None for one in trained_on(start)}


def also(seen: Seen, people: str, patients: pd.Series, patient_key: str) -> Seen:
    """Whom a model has seen that was trained on these patients, too. patient_key: patient or image; of images nobody
    can say whose they are, so that any of the people may have been seen.
    """
    known = seen.get(people, frozenset())
    if known is None or patient_key == "image":
        return {**seen, people: None}
    return {**seen, people: known | frozenset(patients.astype(str))}


def refuse(rows: pd.DataFrame, people: str, patient_key: str, seen: Seen, what: str) -> Refused:
    """The rows of patients who were not trained on. patient_key: patient or image. Raises ValueError, with the reason,
    where nobody is left, and where images can't be told by patient among people of whom some were trained on.
    """
    if people not in seen:
        return Refused(rows, 0, 0)
    known = seen[people]
    if known is None:
        raise ValueError(
            f"external {what}: the model's initial weights or classifier.extra were trained on these patients: choose "
            f"others, or remove {what} from external"
        )
    if patient_key == "image":
        raise ValueError(
            f"external {what}: some of these patients were trained on, and nothing says whose image is whose: give the "
            f"mapping of images to patients"
        )
    trained = rows["patient_id"].astype(str).isin(known)
    if trained.all():
        raise ValueError(
            f"external {what}: all {rows['patient_id'].nunique():,} patients were trained on: it is no external data "
            f"set; remove it from external"
        )
    return Refused(rows[~trained], rows.loc[trained, "patient_id"].nunique(), int(trained.sum()))
