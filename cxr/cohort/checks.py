"""Data checks: each counts odd records, names the first few of them and says what to do.

Severity counts from one record on: a 'note' is as published and harmless, a 'warning' changes numbers, an 'error' makes
results wrong. A check without a case is 'ok'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.cohort.describe import OLDEST, patients
from cxr.core.findings import CLASSES, FINDINGS

EXAMPLES = 5
NOT_PATHOLOGY = ("No Finding", "Support Devices")


def _row(check: str, cases: Sequence, severity: str, advice: str, examples: int = EXAMPLES) -> dict:
    return {
        "check": check,
        "count": len(cases),
        "severity": severity if len(cases) else "ok",
        "examples": ", ".join(cases[:examples]),
        "advice": advice,
    }


def _people(records: pd.DataFrame) -> list[dict]:
    age, ids = records["age"], records["image_id"]
    alone = ids[:0] if records["patient_id"].duplicated().any() else ids
    impossible = (age < 0) | (age > OLDEST)
    first = patients(records).set_index("patient_id")["sex"]
    changed = records["sex"].fillna("unknown") != records["patient_id"].map(first).fillna("unknown")
    return [
        _row("impossible age", ids[impossible], "warning", f"below 0 or above {OLDEST}: treat as unknown"),
        _row("age 0", ids[age == 0], "note", "an infant or a placeholder: look, or leave out where age matters"),
        _row("unknown age", ids[age.isna()], "note", "left out of ages"),
        _row("unknown sex", ids[records["sex"].isna()], "note", "left out of comparisons by sex"),
        _row("every patient has exactly one image", alone, "warning",
             "does the patient's key name patients, or images? If images, a patient can stand in training and test"),
        _row("patient's sex changes", ids[changed], "warning", "not that of the patient's first image: ask"),
        _row("frontal without AP or PA", ids[_frontal(records) & ~records["view"].isin(("AP", "PA"))], "note",
             "left out of comparisons by view"),
    ]  # fmt: skip


def _frontal(records: pd.DataFrame) -> pd.Series:
    return records["projection"] == "frontal"


def _several(group: np.ndarray, values: pd.DataFrame) -> np.ndarray:
    """Mask of the rows whose group (codes from 0) holds more than one combination of values."""
    kinds = ~values.assign(group=group).duplicated().to_numpy()
    return (np.bincount(group[kinds]) > 1)[group]


def chexpert(records: pd.DataFrame) -> pd.DataFrame:
    """The checks of CheXpert's records: check, count (images, or as advice says), severity, examples, advice."""
    ids, labels = records["image_id"], records[list(FINDINGS)]
    pathology = labels.drop(columns=list(NOT_PATHOLOGY))
    normal = labels["No Finding"] == 1
    named = {kind: ids.str.contains(kind, regex=False) for kind in ("frontal", "lateral")}
    named_otherwise = named["lateral"].where(_frontal(records), named["frontal"])
    lateral_view = _frontal(records) & records["view"].isin(("LL", "RL"))
    study, studies = pd.factorize(records["study_id"])
    without_frontal = studies[np.bincount(study, _frontal(records), minlength=len(studies)) == 0]
    differing = _several(study, labels.fillna(9))
    both_splits = _several(pd.factorize(records["patient_id"])[0], records[["official_split"]])
    train = labels[(records["official_split"] == "train").to_numpy()]
    positives, uncertain = (train == 1).sum(), (train == -1).sum()
    rows = [
        *_people(records),
        _row("No Finding with a pathology", ids[normal & (pathology == 1).any(axis=1)], "warning",
             "contradiction (Support Devices may stand with No Finding): mask one of the two"),
        _row("No Finding with an uncertain pathology", ids[normal & (pathology == -1).any(axis=1)], "note",
             "a policy that takes uncertain as positive contradicts it"),
        _row("duplicate path", ids[records["path"].duplicated(keep=False)], "error", "one image counts several times"),
        _row("study with differing labels", ids[differing], "warning", "labels come from the study's report: ask"),
        _row("file name says another projection", ids[named_otherwise], "warning", "look at the image"),
        _row("frontal with a lateral view", ids[lateral_view], "warning", "Frontal/Lateral and AP/PA disagree: look"),
        _row("lateral", ids[~_frontal(records)], "note", "another picture altogether: projection selects"),
        _row("study without a frontal", without_frontal, "note",
             "counts studies: gone where only frontals are used"),
        _row("patient in train and valid", ids[both_splits], "error", "leak: drop the patient from one of them"),
        _row("finding without positives", [f for f in FINDINGS if not positives[f]], "warning",
             "counts findings in train: nothing to learn, no AUC", examples=len(FINDINGS)),
        _row("finding with more uncertain than positives", [f for f in FINDINGS if uncertain[f] > positives[f]],
             "note", "counts findings in train: the policy decides more than the labels do", examples=len(FINDINGS)),
    ]  # fmt: skip
    return pd.DataFrame(rows)


def rsna(records: pd.DataFrame) -> pd.DataFrame:
    """The checks of RSNA's records; columns as chexpert's. Without RSNA's mapping every patient has one image."""
    ids, boxes = records["image_id"], records["boxes"]
    opacity, boxed = records["class_name"] == CLASSES[0], boxes.map(len) > 0
    empty = boxes.map(lambda one: any(w <= 0 or h <= 0 or x < 0 or y < 0 for x, y, w, h in one))
    rows = [
        *_people(records),
        _row("opacity without a box", ids[opacity & ~boxed], "warning", "class and boxes disagree: ask the source"),
        _row("box without opacity", ids[boxed & ~opacity], "warning", "class and boxes disagree: ask the source"),
        _row("impossible box", ids[empty], "warning", "no area, or outside the image: drop the box"),
    ]  # fmt: skip
    return pd.DataFrame(rows)
