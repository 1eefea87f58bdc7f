"""Reads CheXpert (Irvin et al. 2019), v1.0-small or the full v1.0, as records.

The Path column starts with the release's folder name, which may differ on disk. So a file is looked up from 'train/' or
'valid/' on, beside the CSV, and else by patient, study and file name below the root. So the four archives of the full
release may lie unpacked side by side, in folders of any name.

train.csv's labels were read from reports by a program, the CheXpert labeller. train_cheXbert.csv and
train_visualCheXbert.csv label the same images by other programs. The official test set has a reader of its own
(cxr/data/sources/chexpert_test.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS
from cxr.data.sources import chexpert_test, layout, pieces
from cxr.data.sources.archive import DEPTHS, Tree
from cxr.data.sources.dataset import Dataset, Given, Reading
from cxr.data.sources.label_csv import first_few, measures, none_understood, numbers, says_something, without_rows
from cxr.data.sources.schema import VIEWS, conform

TABLES = ("train.csv", "valid.csv")
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
LABEL_COLUMNS = ("Path", *FINDINGS)
# Columns whose cells may be unknown, but not all of a table: the words that mean unknown, and what a cell should hold.
PERSON = {
    "Sex": (("unknown", "other", "u", "o", "x", "0", "0.0"), "Female or Male"),
    "Age": (("unknown",), "an age in years"),
}
UNREAD = {column: f"unread_{column.lower()}" for column in PERSON}  # what was not understood of them, for the message
PATH = re.compile(r"(?:.*/)?((?:train|valid)/(patient\d+)/(study\d+)/[^/]+?)(\.\w+)")


def tables(tree: Tree, labels: str = TABLES[0]) -> list[str]:
    """The names of the tables that the records are read from, train.csv and valid.csv first.

    labels: the table that gives the training images their labels. Raises ValueError when the tree holds no CheXpert, or
    several, and when `labels` is not there.
    """
    names = _tables(tree, labels)
    if labels != TABLES[0]:
        names.append(_label_table(tree, labels, names[-1]))
    if held_out := chexpert_test.label_tables(tree):
        names += [held_out[0].name, *chexpert_test.reader_tables(tree)]
    return list(dict.fromkeys(names))


def _tables(tree: Tree, labels: str = TABLES[0]) -> list[str]:
    """train.csv and valid.csv; valid.csv alone where another table has the labels and train.csv is not there."""
    folders = tree.folder_of(*TABLES)
    if len(folders) == 1:
        return [folders[0] + name for name in TABLES]
    if folders:
        raise ValueError(f"{tree.root} holds several CheXperts ({first_few(folders)}): give the folder of one of them")
    for here, lacking in (TABLES, TABLES[::-1]):
        if halves := tree.folder_of(here):
            if here == TABLES[1] and labels != TABLES[0]:
                return [halves[0] + here]
            raise ValueError(f"{tree.root}: {halves[0]}{here} lacks {lacking} beside it: restore it from the data set")
    raise ValueError(
        f"no CheXpert here: {tree.root} has no train.csv and valid.csv, nor have the folders up to {DEPTHS[-1]} levels "
        f"below{layout.tables_above(tree, *TABLES)}"
    )


def _label_table(tree: Tree, labels: str, valid: str) -> str:
    """The name in the tree of the table `labels`: beside valid.csv, else the only one. Raises ValueError."""
    names = sorted(name for name in tree.names() if name == labels or name.endswith(f"/{labels}"))
    beside = valid.removesuffix(TABLES[1]) + labels
    if beside in names or len(names) == 1:
        return beside if beside in names else names[0]
    if names:
        raise ValueError(f"data.chexpert_labels = {labels!r} stands in several places ({first_few(names)}): name one")
    others = sorted({name.rsplit("/", 1)[-1] for name in tree.names() if re.search(r"(^|/)train[^/]*\.csv$", name)})
    raise ValueError(
        f"data.chexpert_labels = {labels!r}: no such table below {tree.root}; choose one of those there: "
        f"{first_few(others) or 'none'}"
    )


def images_and_labels(tree: Tree, labels: str = TABLES[0]) -> tuple[str, str | None, str]:
    """The names of the table of the training images, of another one that gives these their labels, and of valid.csv.

    Raises ValueError as `tables` does.
    """
    *train, valid = _tables(tree, labels)
    other = _label_table(tree, labels, valid) if labels != TABLES[0] else None
    return (train[0], other, valid) if train else (str(other), None, valid)


def read(tree: Tree, labels: str = TABLES[0]) -> pd.DataFrame:
    """The records of a CheXpert tree: train's rows, valid's, then the official test set's, each in file order.

    labels: the table that gives the training images their labels, of exactly train.csv's images; sex, age and view stay
    train.csv's. Raises ValueError, naming the file, the line, the value and the cure: a CSV that is not there, an empty
    file, a missing column, a label outside {1, 0, -1, blank}, a Path that stands twice, names no file, or has another
    form, a patient in two tables.
    """
    train, relabel, valid = images_and_labels(tree, labels)
    parts = [_read_table(tree, train, "train")]
    if relabel:
        parts = [_relabelled(parts[0], tree, relabel)]
    parts.append(_read_table(tree, valid, "valid"))
    held_out, _ = chexpert_test.read(tree)
    parts += [] if held_out is None else [held_out]
    _check_patients(parts)
    table = pd.concat(parts, ignore_index=True)
    _check_unique(table)
    _check_files(tree, table)
    return conform(table, "chexpert")


def _check_patients(parts: Sequence[pd.DataFrame]) -> None:
    """Raise ValueError for a patient in two of train.csv, valid.csv and the official test set."""
    for first, second in combinations(parts, 2):
        if shared := sorted(set(first["patient_id"]) & set(second["patient_id"])):
            one, other = (part["official_split"].iloc[0] for part in (first, second))
            raise ValueError(in_both(one, other, shared, len(shared)))


def in_both(one: str, other: str, patients: Sequence[str], n: int) -> str:
    """The message for n patients in two official splits. patients: the first ten."""
    names = {"train": "train.csv", "valid": "valid.csv", "test": "the official test set"}
    return (
        f"{n:,} patients are in both {names[one]} and {names[other]} ({first_few(patients, count=n)}): "
        f"{one} would leak into {other}; remove their rows from one of the two"
    )


def _relabelled(train: pd.DataFrame, tree: Tree, name: str) -> pd.DataFrame:
    """train.csv's rows with the findings of another table. Raises ValueError unless both list the same images."""
    labels = _rows(tree, name, LABEL_COLUMNS, label_rows)
    if (twice := labels["image_id"].duplicated()).any():
        line = twice.idxmax()
        raise ValueError(label_twice(name, line, labels.at[line, "image_id"]))
    rows = labels.set_index("image_id")
    lacking = train.loc[~train["image_id"].isin(rows.index), "image_id"]
    others = rows.index[~rows.index.isin(train["image_id"])]
    if len(lacking) or len(others):
        raise ValueError(other_images(name, len(train), (lacking, len(lacking)), (others, len(others))))
    return train.assign(**{finding: rows.loc[train["image_id"], finding].to_numpy() for finding in FINDINGS})


def label_rows(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """image_id and the findings of rows of a table of LABEL_COLUMNS, by line. Raises ValueError for a wrong cell."""
    images = [match[1] for match in _parsed(table, name)]
    return pd.DataFrame(
        {"image_id": pd.Series(images, table.index, dtype="str")}
        | {finding: numbers(table[finding], (1, 0, -1), name) for finding in FINDINGS}
    )


def label_twice(name: str, line: int, image: str) -> str:
    return f"{name} line {line}: the image {image!r} stands twice: remove one row"


def other_images(name: str, n: int, lacking: tuple[Sequence[str], int], others: tuple[Sequence[str], int]) -> str:
    """The message for a label table that is not of the n training images. lacking, others: the first three images that
    it lacks, and that are no training images; how many there are.
    """
    (lost, n_lost), (more, n_more) = lacking, others
    return (
        f"{name} is not of train.csv's {n:,} images: it lacks {n_lost:,} ({first_few(lost, 3, n_lost) or 'none'}) and "
        f"has {n_more:,} others ({first_few(more, 3, n_more) or 'none'}): give the table that was published with these "
        f"images"
    )


def read_labels(tree: Tree, name: str) -> pd.DataFrame:
    """The records of one published train.csv, whether its images are there or not. name: of the CSV in the tree.

    Raises ValueError as `read` does for what the table holds.
    """
    table = _read_table(tree, name, TABLES[0][:-4])
    _check_unique(table)
    return conform(table, "chexpert")


def _rows(
    tree: Tree, name: str, columns: Sequence[str], make: Callable[[pd.DataFrame, str], pd.DataFrame]
) -> pd.DataFrame:
    """What `make` makes of a table's cells and name, by line. The table is read in pieces."""
    read = (pieces.rows(data, piece, columns) for piece, data in pieces.each(tree, name, columns))
    parts = [make(cells, name) for cells in read if len(cells)]
    if not parts:
        raise ValueError(without_rows(name))
    return pd.concat(parts)


def _read_table(tree: Tree, name: str, split: str) -> pd.DataFrame:
    rows = _rows(tree, name, COLUMNS, record_rows)
    for column, unread in UNREAD.items():
        if rows[column.lower()].isna().all() and (line := rows[unread].first_valid_index()) is not None:
            raise ValueError(none_understood(name, line, column, rows.at[line, unread], PERSON[column][1]))
    return rows.assign(official_split=split, place=[f"{name} line {line}" for line in rows.index])


def record_rows(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The records of rows of train.csv or valid.csv, before `conform`, by line, and UNREAD. table: COLUMNS as text, of
    at least one row.

    Nothing is checked but the cells of each row: not its file, nor that its image stands once. Raises ValueError,
    naming the line, for a wrong cell.
    """
    image, patient, study, suffix = zip(*(match.groups() for match in _parsed(table, name)), strict=True)
    folder = name[: name.rfind("/") + 1]
    projection = table["Frontal/Lateral"].str.strip().str.lower()
    if (wrong := ~projection.isin(("frontal", "lateral"))).any():
        row = wrong.idxmax()
        value = table.at[row, "Frontal/Lateral"]
        raise ValueError(
            f"{name} line {row}: Frontal/Lateral is {value!r}, must be Frontal or Lateral: correct that cell"
        )
    view = table["AP/PA"].str.strip().str.upper()
    sex = table["Sex"].str.strip().str[:1].str.upper().where(lambda sex: sex.isin(("F", "M")))
    rows = pd.DataFrame(
        {
            "image_id": image,
            "patient_id": patient,
            "study_id": [f"{one}/{other}" for one, other in zip(patient, study, strict=True)],
            "path": [f"{folder}{stem}{end}" for stem, end in zip(image, suffix, strict=True)],
            "sex": sex,
            "age": measures(table["Age"]),
            "projection": projection,
            "view": view.where(view.isin(VIEWS)),
            **{label: numbers(table[label], (1, 0, -1), name) for label in FINDINGS},
        },
        table.index,
    )
    for column, (unknown, _) in PERSON.items():
        cells = table.loc[rows[column.lower()].isna(), column]
        rows[UNREAD[column]] = cells[says_something(cells, unknown)]
    return rows


def _parsed(table: pd.DataFrame, name: str) -> list[re.Match]:
    """Each row's Path, matched by PATH. Raises ValueError with the line of one of another form."""
    matches = [PATH.fullmatch(path.strip().replace("\\", "/")) for path in table["Path"].tolist()]
    if None in matches:
        row = table.index[matches.index(None)]
        raise ValueError(
            f"{name} line {row}: Path is {table.at[row, 'Path']!r}, must end like "
            f"train/patient00001/study1/view1_frontal.jpg: restore the published file, or correct that cell"
        )
    return matches


def _check_unique(table: pd.DataFrame) -> None:
    for column in ("path", "image_id"):
        if (repeated := table[column].duplicated()).any():
            value = table.loc[repeated.idxmax(), column]
            raise ValueError(stands_twice(value, *table.loc[table[column] == value, "place"][:2]))


def stands_twice(image: str, first: str, second: str) -> str:
    return f"{second}: the image {image!r} already stands in {first}: remove one of the two rows"


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
        there = "train" in table.loc[~missing, "official_split"].tolist()
        raise ValueError(
            no_files(tree, lost["path"].tolist(), (lost["place"] + " " + lost["image_id"]).head(10), len(table), there)
        )


def no_files(tree: Tree, lost: Sequence[str], first: Sequence[str], n: int, train: bool) -> str:
    """The message for images of n that are not there. lost: their paths; first: what to call the first ten; train:
    whether a training image is there.
    """
    why = layout.why_missing(tree, lost, layout.study_key) or ("" if train else layout.batches_above(tree, lost[0]))
    seen = "" if why else layout.nearest(tree, lost[0])
    return (
        f"{len(lost):,} of {n:,} images in the tables do not exist below {tree.root}: "
        f"{first_few(first, count=len(lost))}: "
        f"{why or 'complete the download, or remove these rows'}{seen}"
    )


def tables_of(tree: Tree, given: Given) -> list[str]:
    """As `tables`, with the label table that was chosen."""
    return tables(tree, given.labels or TABLES[0])


def read_all(tree: Tree, given: Given) -> Reading:
    """The records, and readers.parquet: what the benchmark radiologists said of the official test set."""
    labels = given.labels or TABLES[0]
    records = read(tree, labels)
    studies = records.loc[records["official_split"] == "test", "study_id"].drop_duplicates()
    return Reading(records, notes=chexpert_test.read(tree)[1], **beside_records(tree, labels, studies))


def beside_records(tree: Tree, labels: str, studies: pd.Series) -> dict:
    """The tables, the manifest and what lies beside the records: fields of a Reading. studies: of the test set."""
    return {
        "tables": tables(tree, labels),
        "manifest": {"labels": labels} if labels != TABLES[0] else {},
        "beside": {"readers.parquet": chexpert_test.read_readers(tree, studies)},
    }


DATASET = Dataset(
    name="chexpert",
    title="CheXpert",
    findings=FINDINGS,
    views="frontal and lateral",
    patient_key="patient",
    people="stanford",
    labelled_by="the CheXpert labeller, from reports; radiologists in valid.csv and the official test set",
    terms="for research, after registration; no image may be given to others",
    where="https://stanfordaimi.azurewebsites.net/datasets/8cbd9ed4-2eb9-4565-affc-111cf4f7ebe2",
    recognised_by="train.csv and valid.csv side by side",
    tables=tables_of,
    read=read_all,
    blank_is_negative=True,
)
