"""Another hospital's images as training rows of a label table (the stage extra_data).

A finding that its labels do not say has weight 0: the loss leaves it out. Patients who are validated or tested on
anywhere in the pipeline are never among the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import COLUMNS, FINDINGS, SLUGS
from cxr.data.formats import Labelled
from cxr.data.sources.dataset import Dataset
from cxr.external.mapping import Meaning, truth


class HeldOut(NamedTuple):
    """Patients whom nothing may be trained on.

    what: what is done with them, in words; people: whose patients they are (registry.people_of); key: what their ids
    name, patient or image; patients: the ids; cure: what the user can change so that they are not held out.
    """

    what: str
    people: str
    key: str
    patients: frozenset[str]
    cure: str


class Kept(NamedTuple):
    """rows: of records that may be trained on; patients, images: how many were left out."""

    rows: pd.DataFrame
    patients: int
    images: int


def keep(
    rows: pd.DataFrame, people: str, key: str, held_out: Sequence[HeldOut], name: str, leave_out: bool = False
) -> Kept:
    """The rows of patients who are not held out. people, key: of the rows' patients; name: of the data set.

    Raises ValueError, with the cure, where some are held out and leave_out is False, where nobody is left, and where
    images can't be told by patient among the same people.
    """
    what, ids = f"data.extra {name}", rows["patient_id"].astype(str)
    out, why = pd.Series(False, index=rows.index), []
    for other in held_out:
        if other.people != people:
            continue
        if "image" in (key, other.key):
            raise ValueError(
                f"{what}: it may show patients that {other.what}, and nothing says whose image is whose: {other.cure}"
            )
        shared = ids.isin(other.patients)
        if shared.any() and not leave_out:
            raise ValueError(
                f"{what}: {ids[shared].nunique():,} of its {ids.nunique():,} patients are patients that {other.what}: "
                f"write `shared: leave_out` into its entry to train on the others alone, or {other.cure}"
            )
        out |= shared
        why += [other.what] if shared.any() else []
    if out.all():
        raise ValueError(
            f"{what}: all its patients are patients that {' or that '.join(why)}: remove it from data.extra"
        )
    return Kept(rows[~out].reset_index(drop=True), int(ids[out].nunique()), int(out.sum()))


def label_table(rows: pd.DataFrame, dataset: Dataset, name: str) -> tuple[pd.DataFrame, list[Meaning]]:
    """(a label table of the rows, all of them for training; what their labels mean).

    An image and a patient are called <name>/<their id>, so that no other data set has them. An uncertain label counts
    as none, under every policy. Images without any label that means a finding are left out. Raises ValueError where
    that leaves none.
    """
    known, meanings = truth(dataset.labels(rows, dataset.findings), dataset)
    labelled = ~np.isnan(known).all(axis=1)
    if not labelled.any():
        raise ValueError(f"data.extra {name}: no label of {dataset.title} here means one of CheXpert's findings")
    known, kept = known[labelled], rows[labelled]
    columns: dict[str, object] = {key: f"{name}/" + kept[key].astype(str) for key in ("image_id", "patient_id")}
    columns |= {"split": "train", "projection": kept["projection"]}
    certain = (~np.isnan(known)).astype(np.float32)
    for kind, values in (("target", np.nan_to_num(known)), ("weight", certain), ("truth", known)):
        columns |= {f"{kind}.{slug}": values[:, k] for k, slug in enumerate(SLUGS)}
    return pd.DataFrame(columns)[list(COLUMNS)].reset_index(drop=True), meanings


def counts(table: pd.DataFrame, meanings: Sequence[Meaning]) -> dict[str, Labelled]:
    """Slug -> how many images of a label table have that finding's label. Findings without one are left out."""
    near = {one.finding for one in meanings if one.answer == "near"}
    result = {}
    for slug, finding in zip(SLUGS, FINDINGS, strict=True):
        known = table[f"truth.{slug}"].dropna()
        if len(known):
            answer = "near" if finding in near else "same"
            result[slug] = Labelled(images=len(known), positives=int(known.sum()), answer=answer)
    return result
