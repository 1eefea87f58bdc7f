"""The data sets that can be read, by name. A new one is a file beside this one and a line here."""

from __future__ import annotations

import os

import pandas as pd

from cxr.core import records as core
from cxr.core.files import read_table
from cxr.data.formats import Manifest
from cxr.data.sources import chexpert, mimic, nih, padchest, rsna, table, vindr
from cxr.data.sources.archive import Tree
from cxr.data.sources.dataset import USUAL, Dataset, Given, Reading

DATASETS: dict[str, Dataset] = {
    module.DATASET.name: module.DATASET for module in (chexpert, rsna, nih, mimic, padchest, vindr, table)
}
AUTO = "auto"  # in place of a name: what the files show


def find(name: str, tree: Tree | None = None, given: Given = USUAL) -> Dataset:
    """The data set of this name; with AUTO the one that the tree holds, with the labels that were chosen. Raises
    ValueError with the choices.
    """
    if name == AUTO and tree is not None:
        there = recognise(tree, given)
        if len(there) == 1:
            return DATASETS[there[0]]
        seen = f"could be {' or '.join(there)}" if there else "holds none that is recognised by its files"
        raise ValueError(f"{tree.root} {seen}: name the data set: {', '.join(DATASETS)}")
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}: choose from {', '.join((*DATASETS, AUTO))}")
    return DATASETS[name]


def recognise(tree: Tree, given: Given = USUAL) -> list[str]:
    """The names of the data sets whose files the tree holds, with the labels that were chosen. `table` is never among
    them.
    """
    names = []
    for name, dataset in DATASETS.items():
        try:
            if name != table.DATASET.name and dataset.tables(tree, given):
                names.append(name)
        except ValueError:
            continue
    return names


def read(dataset: Dataset, tree: Tree, given: Given) -> Reading:
    """A data set as read. Raises ValueError as its reader does, and as `check`."""
    check(dataset, tree, given)
    return dataset.read(tree, given)


def check(dataset: Dataset, tree: Tree, given: Given) -> None:
    """Raise ValueError, with what else the tree holds, where the data set's tables are not there."""
    try:
        if dataset.name != table.DATASET.name:
            dataset.tables(tree, given)
    except ValueError as error:
        if others := [name for name in recognise(tree, given) if name != dataset.name]:
            raise ValueError(f"{error}; its files are those of {' and '.join(others)}") from None
        raise


def load(path: str | os.PathLike, name: str, stage: str | None = None) -> pd.DataFrame:
    """The records of a data set that a stage wrote. Raises ValueError for a missing, damaged or wrong file."""
    if name in core.COLUMNS and stage is None:
        return core.load(path, name)
    dataset = find(name)
    own = core.COLUMNS.get(name, (*core.COMMON, *dataset.findings))
    return read_table(path, stage, own)


def share_patients(first: str, second: str) -> bool:
    """Whether two data sets, by name, may show the same person."""
    return find(first).people == find(second).people


def people_of(dataset: Dataset, manifest: Manifest) -> str:
    """Whose patients a data set shows. Each phantom hospital has patients of its own."""
    if manifest.kind != "phantom":
        return dataset.people
    return f"phantom {getattr(manifest.recipe, 'site', None) or 1}"
