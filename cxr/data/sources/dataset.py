"""What a data set is to this project: one object for each, defined in the file that reads it (cxr/data/sources/).

cxr/data/sources/registry.py lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from cxr.data.sources.archive import Tree
from cxr.data.sources.rsna_patients import Patients


class Given(NamedTuple):
    """What a user chooses about a data set.

    labels: which of its label tables counts, '' for the usual one; patients: of RSNA's images; columns: of `table`
    alone, what is in which column of the CSV (cxr/data/sources/table.py).
    """

    labels: str = ""
    patients: Patients | None = None
    columns: Mapping[str, str] = MappingProxyType({})


USUAL = Given()


@dataclass(frozen=True)
class Reading:
    """A data set as read.

    records: one row per image (cxr/data/sources/schema.py); tables: names in the tree of what they were read from;
    notes: a line each on what was left out; manifest: further fields of manifest.json; beside: tables to keep beside
    the records, by file name.
    """

    records: pd.DataFrame
    tables: list[str]
    notes: list[str] = field(default_factory=list)
    manifest: dict[str, str] = field(default_factory=dict)
    beside: dict[str, pd.DataFrame] = field(default_factory=dict)

    def parts(self) -> Iterator[pd.DataFrame]:
        """The records in their order, some at a time."""
        yield self.records

    @property
    def patients(self) -> int:
        """How many patients the records show."""
        return self.records["patient_id"].nunique()


def own_columns(records: pd.DataFrame, findings: tuple[str, ...]) -> pd.DataFrame:
    """The labels of records that have a column for each finding."""
    return records[list(findings)]


def own_boxes(records: pd.DataFrame) -> pd.DataFrame:
    """The boxes of records that have a list of them for each image (schema.conform_findings)."""
    rows = [
        {"image_id": image, "label": box["finding"], **{side: box[side] for side in ("x", "y", "width", "height")}}
        for image, boxes in zip(records["image_id"], records["boxes"], strict=True)
        for box in boxes
    ]
    return pd.DataFrame(rows, columns=["image_id", "label", "x", "y", "width", "height"])


@dataclass(frozen=True)
class Dataset:
    """A data set that can be read.

    name: in params.yaml; title: on the page; findings: its own labels, in its own words; views: of its images;
    patient_key: what patient_id names; people: whose patients they are. Two data sets with the same `people` may show
    the same person, under the same patient_id. labelled_by, terms, where: sentences for the user. recognised_by: the
    files that show what it is. blank_is_negative: whether a finding without a label counts as absent, as reports that
    do not mention it do in CheXpert; else it is unknown. tables: the names of the tables that are read for what the
    user chose, ValueError where the tree holds no such data set. labels: the own findings of records, N x findings, 1,
    0, -1 or NaN. boxes: a row for each box of records (cxr/data/boxes.py) in pixels, or None where the data set has
    none.
    """

    name: str
    title: str
    findings: tuple[str, ...]
    views: str
    patient_key: str
    people: str
    labelled_by: str
    terms: str
    where: str
    recognised_by: str
    tables: Callable[[Tree, Given], list[str]] = field(repr=False)
    read: Callable[[Tree, Given], Reading] = field(repr=False)
    boxes: Callable[[pd.DataFrame], pd.DataFrame] | None = field(default=None, repr=False)
    blank_is_negative: bool = False
    labels: Callable[[pd.DataFrame, tuple[str, ...]], pd.DataFrame] = field(default=own_columns, repr=False)
