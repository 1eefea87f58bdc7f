"""The reference standard: who labelled the images that CheXpert's scores are of. Every table of scores says so."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from cxr.cohort.formats import ChexpertSplit
from cxr.core.files import read_json
from cxr.data.formats import Manifest
from cxr.report import page
from cxr.report.inputs import Artefacts

# Sections whose tables and pictures show scores on CheXpert's labels, and the tables there that are of RSNA alone.
SCORED = ("baseline", "labels", "final", "study", "reliability", "scoring", "errors")
RSNA = {"floor_rsna"}
PUBLISHED = ("groundtruth.csv", "test_labels.csv")  # the official test set's labels as published


class By(StrEnum):
    """Who gave an image its labels."""

    SIMULATED = "simulated"
    LABELLER = "labeller"  # a program, from the report
    RADIOLOGISTS = "radiologists"
    SOURCE = "source"  # a table of the user's own


class Standard(NamedTuple):
    """Who labelled CheXpert's test and validation images. table: of a labeller that is not train.csv's."""

    test: By
    valid: By
    table: str | None = None


def standard(run: Artefacts) -> Standard:
    """The reference standard of this run."""
    manifest = read_json(run.chexpert / "manifest.json", "download@chexpert", Manifest)
    split = read_json(run.splits / "chexpert" / "split.json", "split@chexpert", ChexpertSplit)
    if manifest.kind == "phantom":
        return Standard(By.SIMULATED, By.SIMULATED)
    tables = {name.rsplit("/", 1)[-1] for name in manifest.tables}
    held_out = By.RADIOLOGISTS if tables.intersection(PUBLISHED) else By.SOURCE
    by = {"train": By.LABELLER, "valid": By.RADIOLOGISTS, "test": held_out}
    return Standard(by[split.official["test"][0]], by[split.official["valid"][0]], manifest.labels)


def mark(context: dict, chosen: Standard) -> None:
    """Give every table and picture of a scored section its reference standard."""
    for name in SCORED:
        for item in _items(context.get(name)):
            if not isinstance(item, page.Table) or item.name not in RSNA:
                item.standard = chosen


def _items(value) -> Iterator[page.Table | page.Picture]:
    if isinstance(value, page.Table | page.Picture):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _items(inner)
