"""Whom a model has seen in training or validation, so that nobody is tested on them.

Patients are compared within the same people (cxr/data/sources/dataset.py): NIH's and RSNA's are the same persons under
the same number. A start may have seen whole data sets (weights of torchxrayvision, by their name).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from cxr.data.sources.registry import DATASETS
from cxr.training.pretrained import trained_on

TRAINED, CHOSEN = "trained on", "validated on"  # what a model knows a patient from
# people -> what was done with each of them; None: any of them may have been trained on
Seen = Mapping[str, Mapping[str, str] | None]


class Left(NamedTuple):
    """How many patients and images were left out."""

    patients: int
    images: int


class Refused(NamedTuple):
    """rows: of records whose patient the model has not seen; trained, chosen: who was left out because the model was
    trained on them, or because its epoch, scaling and operating points were chosen on them.
    """

    rows: pd.DataFrame
    trained: Left
    chosen: Left


def seen_by(
    starts: Sequence[str], people: str, trained: pd.Series, chosen: pd.Series
) -> dict[str, dict[str, str] | None]:
    """Whom a model has seen. starts: classifier.weights of its training and of those before it; people: of the images;
    trained, chosen: the patients of its training and of its validation images.
    """
    known = dict.fromkeys(chosen.astype(str), CHOSEN) | dict.fromkeys(trained.astype(str), TRAINED)
    seen: dict[str, dict[str, str] | None] = {people: known}
    return seen | {DATASETS[one].people: None for start in starts for one in trained_on(start)}


def also(seen: Seen, people: str, patients: pd.Series, patient_key: str) -> Seen:
    """Whom a model has seen that was trained on these patients, too. patient_key: patient or image; of images nobody
    can say whose they are, so that any of the people may have been seen.
    """
    known = seen.get(people, {})
    if known is None or patient_key == "image":
        return {**seen, people: None}
    return {**seen, people: {**known, **dict.fromkeys(patients.astype(str), TRAINED)}}


def refuse(rows: pd.DataFrame, people: str, patient_key: str, seen: Seen, what: str) -> Refused:
    """The rows of patients whom the model has not seen. patient_key: patient or image. Raises ValueError, with the
    reason, where nobody is left, and where images can't be told by patient among people of whom some were seen.
    """
    if people not in seen:
        return Refused(rows, Left(0, 0), Left(0, 0))
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
    how = rows["patient_id"].astype(str).map(known)
    if how.notna().all():
        raise ValueError(
            f"external {what}: all {rows['patient_id'].nunique():,} patients were trained or validated on: it is no "
            f"external data set; remove it from external"
        )
    left = [Left(rows.loc[how == one, "patient_id"].nunique(), int((how == one).sum())) for one in (TRAINED, CHOSEN)]
    return Refused(rows[how.isna()], *left)
