"""Reads CheXpert (Irvin et al. 2019), v1.0-small or the full v1.0, as records.

The Path column starts with the release's folder name, which may differ on disk. So a file is looked up from 'train/' or
'valid/' on, beside the CSV, and else by patient, study and file name below the root. So the four archives of the full
release may lie unpacked side by side, in folders of any name.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS
from cxr.data.sources import layout
from cxr.data.sources.archive import DEPTHS, Tree
from cxr.data.sources.label_csv import check_some, first_few, measures, numbers, read_csv
from cxr.data.sources.schema import VIEWS, conform

TABLES = ("train.csv", "valid.csv")
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
PATH = re.compile(r"(?:.*/)?((?:train|valid)/(patient\d+)/(study\d+)/[^/]+?)(\.\w+)")


def tables(tree: Tree) -> list[str]:
    """The names of the label tables, train.csv first. Raises ValueError when the tree holds no CheXpert, or several."""
    folders = tree.folder_of(*TABLES)
    if len(folders) == 1:
        return [folders[0] + name for name in TABLES]
    if folders:
        raise ValueError(f"{tree.root} holds several CheXperts ({first_few(folders)}): give the folder of one of them")
    for here, lacking in (TABLES, TABLES[::-1]):
        if halves := tree.folder_of(here):
            raise ValueError(f"{tree.root}: {halves[0]}{here} lacks {lacking} beside it: restore it from the data set")
    raise ValueError(
        f"no CheXpert here: {tree.root} has no train.csv and valid.csv, nor have the folders up to {DEPTHS[-1]} levels "
        f"below{layout.tables_above(tree, *TABLES)}"
    )


def read(tree: Tree) -> pd.DataFrame:
    """The records of a CheXpert tree, train's rows then valid's, each in file order.

    Raises ValueError, naming the file, the line, the value and the cure: neither CSV found, an empty file, a missing
    column, a label outside {1, 0, -1, blank}, a Path that stands twice, names no file, or has another form, a patient
    in both tables.
    """
    parts = [_read_table(tree, name, name.rsplit("/", 1)[-1][:-4]) for name in tables(tree)]
    shared = set(parts[0]["patient_id"]) & set(parts[1]["patient_id"])
    if shared:
        raise ValueError(
            f"{len(shared):,} patients are in both train.csv and valid.csv ({first_few(sorted(shared))}): "
            f"training would leak into validation; remove their rows from one of the two"
        )
    table = pd.concat(parts, ignore_index=True)
    _check_unique(table)
    _check_files(tree, table)
    return conform(table, "chexpert")


def read_labels(tree: Tree, name: str) -> pd.DataFrame:
    """The records of one published train.csv, whether its images are there or not. name: of the CSV in the tree.

    Raises ValueError as `read` does for what the table holds.
    """
    table = _read_table(tree, name, TABLES[0][:-4])
    _check_unique(table)
    return conform(table, "chexpert")


def _read_table(tree: Tree, name: str, split: str) -> pd.DataFrame:
    table = read_csv(tree.read(name), name, COLUMNS)
    matches = [PATH.fullmatch(path.strip().replace("\\", "/")) for path in table["Path"].tolist()]
    if None in matches:
        row = table.index[matches.index(None)]
        raise ValueError(
            f"{name} line {row}: Path is {table.at[row, 'Path']!r}, must end like "
            f"train/patient00001/study1/view1_frontal.jpg: restore the published file, or correct that cell"
        )
    image, patient, study, suffix = zip(*(match.groups() for match in matches), strict=True)
    folder = name.removesuffix(f"{split}.csv")
    projection = table["Frontal/Lateral"].str.strip().str.lower()
    if (wrong := ~projection.isin(("frontal", "lateral"))).any():
        row = wrong.idxmax()
        value = table.at[row, "Frontal/Lateral"]
        raise ValueError(
            f"{name} line {row}: Frontal/Lateral is {value!r}, must be Frontal or Lateral: correct that cell"
        )
    view = table["AP/PA"].str.strip().str.upper()
    sex = table["Sex"].str.strip().str[:1].str.upper().where(lambda sex: sex.isin(("F", "M")))
    age = measures(table["Age"])
    check_some(sex, table["Sex"], ("unknown", "other", "u", "o", "x", "0", "0.0"), "Female or Male", name)
    check_some(age, table["Age"], ("unknown",), "an age in years", name)
    return pd.DataFrame(
        {
            "image_id": image,
            "patient_id": patient,
            "study_id": [f"{one}/{other}" for one, other in zip(patient, study, strict=True)],
            "path": [f"{folder}{stem}{end}" for stem, end in zip(image, suffix, strict=True)],
            "sex": sex,
            "age": age,
            "projection": projection,
            "view": view.where(view.isin(VIEWS)),
            "official_split": split,
            **{label: numbers(table[label], (1, 0, -1), name) for label in FINDINGS},
            "place": [f"{name} line {line}" for line in table.index],
        }
    )


def _check_unique(table: pd.DataFrame) -> None:
    for column in ("path", "image_id"):
        if (repeated := table[column].duplicated()).any():
            first, second = table.loc[table[column] == table.loc[repeated.idxmax(), column], "place"][:2]
            value = table.loc[repeated.idxmax(), column]
            raise ValueError(f"{second}: the image {value!r} already stands in {first}: remove one of the two rows")


def _check_files(tree: Tree, table: pd.DataFrame) -> None:
    """Point every path to an existing file, wherever below the root it lies. Raises ValueError."""
    names = tree.names()
    missing = np.array([path not in names for path in table["path"].tolist()])
    if missing.any():
        elsewhere = layout.find(tree, table.loc[missing, "path"], layout.study_key)
        table.loc[missing, "path"] = [elsewhere.get(path, path) for path in table.loc[missing, "path"]]
        missing = np.array([path not in names for path in table["path"].tolist()])
    if missing.any():
        lost = table[missing]
        why = layout.why_missing(tree, lost["path"].tolist(), layout.study_key)
        if not why and "train" not in table.loc[~missing, "official_split"].tolist():
            why = layout.batches_above(tree, lost["path"].iloc[0])
        seen = "" if why else layout.nearest(tree, lost["path"].iloc[0])
        raise ValueError(
            f"{len(lost):,} of {len(table):,} images in the tables do not exist below {tree.root}: "
            f"{first_few(lost['place'] + ' ' + lost['image_id'])}: "
            f"{why or 'complete the download, or remove these rows'}{seen}"
        )
