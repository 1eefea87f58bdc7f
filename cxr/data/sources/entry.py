"""Another hospital's data set, as an entry of params.yaml names it, read as records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.data.formats import Manifest, Recipe
from cxr.data.sources import registry
from cxr.data.sources.address import describe, open_source, read_patients
from cxr.data.sources.archive import Tree
from cxr.data.sources.dataset import Dataset, Given
from cxr.data.sources.table import columns_of


class Entry(NamedTuple):
    """section: the key of params.yaml that holds it; name: the user's; the others as stages/options.py says."""

    section: str
    name: str
    dataset: str
    source: str
    labels: str = ""
    columns: Sequence[str] = ()
    part: str = "all"
    mapping: str = ""
    site: int = 2
    patients: int = 100
    seed: int = 0


class Opened(NamedTuple):
    """records: a row per image (cxr/data/sources/schema.py); notes: a line each on what was left out."""

    dataset: Dataset
    tree: Tree
    records: pd.DataFrame
    manifest: Manifest
    notes: list[str]

    @property
    def patient_key(self) -> str:
        """What patient_id names: patient or image."""
        return self.manifest.patient_key or "patient"

    def size(self, images: int) -> str:
        """So many images, and the patients of all, in words."""
        whose = f" of {self.records['patient_id'].nunique():,} patients" if self.patient_key == "patient" else ""
        return f"{images:,} images{whose} of {self.dataset.title} from a {self.manifest.kind} source"


def read(entry: Entry, downloads: Path) -> Opened:
    """The data set of an entry. downloads: folder that keeps downloads and phantoms.

    Raises ValueError, in one line with the cure, for a wrong entry, and as the data set's reader does.
    """
    what = f"{entry.section} {entry.name}"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", entry.name):
        raise ValueError(f"{entry.section}: name = {entry.name!r}: use letters, digits, _ and - alone")
    phantom = entry.source == "phantom"
    if phantom and entry.dataset != "chexpert":
        raise ValueError(f"{what}: the phantom is a chexpert, not a {entry.dataset}: set dataset to chexpert")
    given, site = columns_of(entry.columns), entry.site if entry.site > 1 else None
    recipe = Recipe(patients=entry.patients, seed=entry.seed, site=site) if phantom else None
    tree, kind = open_source(entry.source, entry.dataset, downloads, recipe)
    dataset = registry.find(entry.dataset, tree, Given(entry.labels))
    for key, given_for, value in (("mapping", "rsna", entry.mapping), ("columns", "table", given)):
        if value and dataset.name != given_for:
            raise ValueError(f"{what}: {key} is for {given_for} alone, and this is {dataset.name}: leave it out")
    of_images, more = None, {}
    if entry.mapping:
        of_images, more["mapping"] = read_patients(entry.mapping, downloads)
    reading = registry.read(dataset, tree, Given(entry.labels, of_images, given))
    records = reading.records
    if entry.part != "all":
        records = records[records["official_split"] == entry.part].reset_index(drop=True)
        if records.empty:
            raise ValueError(f"{what}: {dataset.title} has no image of the official part {entry.part!r} here")
    manifest = describe(tree, kind, reading.tables, list(records["path"]), recipe, **more, **reading.manifest)
    return Opened(dataset, tree, records, manifest, list(reading.notes))
