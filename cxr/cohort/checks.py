"""Data checks: each counts odd records, names the first few of them and says what to do.

Severity counts from one record on: a 'note' is as published and harmless, a 'warning' changes numbers, an 'error' makes
results wrong. A check without a case is 'ok'. The cases are looked for here in a table in memory, by
cxr/spark/checks.py in one that no machine's memory holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.cohort.describe import OLDEST, patients
from cxr.core.findings import CLASSES, FINDINGS

EXAMPLES = 5
NOT_PATHOLOGY = ("No Finding", "Support Devices")


class Check(NamedTuple):
    """What is looked for. examples: how many cases are named at most."""

    name: str
    severity: str
    advice: str
    examples: int = EXAMPLES


class Cases(NamedTuple):
    """What was found. first: the first of them in the order of the records, enough for the examples."""

    count: int
    first: Sequence[str]


PEOPLE = (
    Check("impossible age", "warning", f"below 0 or above {OLDEST}: treat as unknown"),
    Check("age 0", "note", "an infant or a placeholder: look, or leave out where age matters"),
    Check("unknown age", "note", "left out of ages"),
    Check("unknown sex", "note", "left out of comparisons by sex"),
    Check("every patient has exactly one image", "warning",
          "does the patient's key name patients, or images? If images, a patient can stand in training and test"),
    Check("patient's sex changes", "warning", "not that of the patient's first image: ask"),
    Check("frontal without AP or PA", "note", "left out of comparisons by view"),
)  # fmt: skip
CHEXPERT = (
    *PEOPLE,
    Check("No Finding with a pathology", "warning",
          "contradiction (Support Devices may stand with No Finding): mask one of the two"),
    Check("No Finding with an uncertain pathology", "note", "a policy that takes uncertain as positive contradicts it"),
    Check("duplicate path", "error", "one image counts several times"),
    Check("study with differing labels", "warning", "labels come from the study's report: ask"),
    Check("file name says another projection", "warning", "look at the image"),
    Check("frontal with a lateral view", "warning", "Frontal/Lateral and AP/PA disagree: look"),
    Check("lateral", "note", "another picture altogether: projection selects"),
    Check("study without a frontal", "note", "counts studies: gone where only frontals are used"),
    Check("patient in train and valid", "error", "leak: drop the patient from one of them"),
    Check("finding without positives", "warning", "counts findings in train: nothing to learn, no AUC", len(FINDINGS)),
    Check("finding with more uncertain than positives", "note",
          "counts findings in train: the policy decides more than the labels do", len(FINDINGS)),
)  # fmt: skip
RSNA = (
    *PEOPLE,
    Check("opacity without a box", "warning", "class and boxes disagree: ask the source"),
    Check("box without opacity", "warning", "class and boxes disagree: ask the source"),
    Check("impossible box", "warning", "no area, or outside the image: drop the box"),
)


def table(checks: Sequence[Check], found: dict[str, Cases]) -> pd.DataFrame:
    """A row per check: check, count (images, or as advice says), severity, examples, advice."""
    return pd.DataFrame(
        {
            "check": check.name,
            "count": found[check.name].count,
            "severity": check.severity if found[check.name].count else "ok",
            "examples": ", ".join(found[check.name].first[: check.examples]),
            "advice": check.advice,
        }
        for check in checks
    )


def counted(cases: dict[str, Sequence]) -> dict[str, Cases]:
    """All cases of each check, as Cases."""
    return {name: Cases(len(ids), list(ids[: len(FINDINGS)])) for name, ids in cases.items()}


def by_finding(positives: Sequence[int], uncertain: Sequence[int]) -> dict[str, Sequence]:
    """The cases among findings, from each one's images in train."""
    return {
        "finding without positives": [f for f, n in zip(FINDINGS, positives, strict=True) if not n],
        "finding with more uncertain than positives": [
            f for f, n, u in zip(FINDINGS, positives, uncertain, strict=True) if u > n
        ],
    }


def _people(records: pd.DataFrame) -> dict[str, Sequence]:
    age, ids = records["age"], records["image_id"]
    first = patients(records).set_index("patient_id")["sex"]
    changed = records["sex"].fillna("unknown") != records["patient_id"].map(first).fillna("unknown")
    return {
        "impossible age": ids[(age < 0) | (age > OLDEST)],
        "age 0": ids[age == 0],
        "unknown age": ids[age.isna()],
        "unknown sex": ids[records["sex"].isna()],
        "every patient has exactly one image": ids[:0] if records["patient_id"].duplicated().any() else ids,
        "patient's sex changes": ids[changed],
        "frontal without AP or PA": ids[_frontal(records) & ~records["view"].isin(("AP", "PA"))],
    }


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
    cases = _people(records) | {
        "No Finding with a pathology": ids[normal & (pathology == 1).any(axis=1)],
        "No Finding with an uncertain pathology": ids[normal & (pathology == -1).any(axis=1)],
        "duplicate path": ids[records["path"].duplicated(keep=False)],
        "study with differing labels": ids[differing],
        "file name says another projection": ids[named_otherwise],
        "frontal with a lateral view": ids[lateral_view],
        "lateral": ids[~_frontal(records)],
        "study without a frontal": without_frontal,
        "patient in train and valid": ids[both_splits],
    }
    return table(CHEXPERT, counted(cases | by_finding((train == 1).sum(), (train == -1).sum())))


def rsna(records: pd.DataFrame) -> pd.DataFrame:
    """The checks of RSNA's records; columns as chexpert's. Without RSNA's mapping every patient has one image."""
    ids, boxes = records["image_id"], records["boxes"]
    opacity, boxed = records["class_name"] == CLASSES[0], boxes.map(len) > 0
    empty = boxes.map(lambda one: any(w <= 0 or h <= 0 or x < 0 or y < 0 for x, y, w, h in one))
    cases = _people(records) | {
        "opacity without a box": ids[opacity & ~boxed],
        "box without opacity": ids[boxed & ~opacity],
        "impossible box": ids[empty],
    }
    return table(RSNA, counted(cases))
