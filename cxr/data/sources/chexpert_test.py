"""Reads CheXpert's official test set: 500 studies, 668 images, labelled by radiologists (Irvin et al. 2019, section 6).

Its labels were published apart from its images. groundtruth.csv (github.com/rajpurkarlab/cheXpert-test-set-labels) has
a row a study; test_labels.csv (CheXlocalize) has a row an image. Both hold the majority of five radiologists and, so
that nobody is recognised, neither sex nor age nor view. Three further radiologists read every study: the benchmark.
Labels, images and readers may lie anywhere in the tree.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS
from cxr.data.sources.archive import Tree
from cxr.data.sources.label_csv import columns_there, first_few, numbers, read_csv
from cxr.data.sources.schema import VIEWS

TABLES = ("groundtruth.csv", "test_labels.csv", "test.csv")  # the first that is there counts
OPTIONAL = ("Sex", "Age", "Frontal/Lateral", "AP/PA")  # in neither published table; in a user's own, perhaps
KEY = re.compile(r"(?:.*/)?test/(patient\d+)/(study\d+)(?:/([^/]+?)(\.\w+))?/?")
IMAGE = re.compile(r"(?:(.*)/)?(patient\d+)/(study\d+)/([^/]+?)(\.(?:jpe?g|png|dcm))", re.IGNORECASE)
READER = re.compile(r"(?:.*/)?benchmark_radiologists/([^/]+)\.csv")


class Labels(NamedTuple):
    """A label table of the test set and its name in the tree.

    rows: study ('patient64741/study1'), stem and suffix of the image (None where the table names studies), the columns
    of OPTIONAL that it has, the findings. The index is the line number.
    """

    name: str
    rows: pd.DataFrame


def label_tables(tree: Tree) -> list[Labels]:
    """The label tables of a test set, the one that counts first; none where the tree has none.

    A table of another form, such as a test.csv of something else, is left out. Raises ValueError, naming the line, when
    a table lists test images among others, or lists one twice.
    """
    found = []
    for table in TABLES:
        names = sorted(name for name in tree.names() if name.rsplit("/", 1)[-1] == table)
        found += [Labels(name, rows) for name in names if (rows := _rows(tree, name)) is not None]
    return found


def _rows(tree: Tree, name: str) -> pd.DataFrame | None:
    data = tree.read(name)
    try:
        there = columns_there(data, name, ("Path", "Study", *OPTIONAL, *FINDINGS))
    except ValueError:
        if name.rsplit("/", 1)[-1] == TABLES[-1]:  # of something else
            return None
        raise
    key = next((column for column in ("Path", "Study") if column in there), None)
    if key is None:
        return None
    table = read_csv(data, name, (key, *(column for column in OPTIONAL if column in there), *FINDINGS))
    matches = [_key(value) for value in table[key]]
    if not any(matches):
        return None
    if None in matches:
        line = table.index[matches.index(None)]
        raise ValueError(
            f"{name} line {line}: {key} is {table.at[line, key]!r}, must be like test/patient64741/study1: restore the "
            f"published file, or correct that cell"
        )
    parts = [match.groups() for match in matches]
    rows = table.drop(columns=key).assign(
        study=[f"{patient}/{study}" for patient, study, *_ in parts],
        stem=[stem for *_, stem, _ in parts],
        suffix=[suffix for *_, suffix in parts],
    )
    for column in FINDINGS:
        rows[column] = numbers(table[column], (1, 0, -1), name)
    if (twice := rows.duplicated(["study", "stem"])).any():
        line = twice.idxmax()
        raise ValueError(f"{name} line {line}: {table.at[line, key]!r} stands twice: remove one of the two rows")
    return rows


def _key(cell: str) -> re.Match | None:
    return KEY.fullmatch(cell.strip().replace("\\", "/"))


def read(tree: Tree) -> tuple[pd.DataFrame | None, list[str]]:
    """(the test set's records, before `conform`; what was left out, a line each). None where the tree has no test set.

    Sex, age and view are unknown unless the table has them; the projection is in the file's name. Raises ValueError,
    naming the file, the line and the cure, for a study without an image, for images in several places, and for a file
    name that says neither frontal nor lateral.
    """
    tables = label_tables(tree)
    if not tables:
        unlabelled = any(re.fullmatch(r"(?:.*/)?test/patient\d+/study\d+/view[^/]+", name) for name in tree.names())
        return None, [f"test images without labels: put {TABLES[0]} beside them to use them"] if unlabelled else []
    labels, *others = tables
    images = _images(tree, labels)
    if not images:
        return None, [f"{labels.name} labels test images that are not there: the official test set is left out"]
    lost = [line for line, study in labels.rows["study"].items() if study not in images]
    if lost:
        studies = first_few([f"line {line} {labels.rows.at[line, 'study']}" for line in lost])
        raise ValueError(
            f"{labels.name}: {len(lost):,} of {len(labels.rows):,} test studies have no image below {tree.root} "
            f"({studies}): complete the download, or remove these rows"
        )
    rows = [row for line in labels.rows.index for row in _of_line(labels, line, images)]
    return pd.DataFrame(rows), [note for other in others if (note := _disagreement(labels, other))]


def _images(tree: Tree, labels: Labels) -> dict[str, dict[str, str]]:
    """study -> stem -> name of every image of the labelled studies. Raises ValueError when they lie in two places."""
    wanted = set(labels.rows["study"])
    places: dict[str, dict[str, dict[str, str]]] = {}
    for name in sorted(tree.names()):
        if (match := IMAGE.fullmatch(name)) is None:
            continue
        folder, study = match[1] or "", f"{match[2]}/{match[3]}"
        if study in wanted and folder.rsplit("/", 1)[-1] not in ("train", "valid"):
            places.setdefault(folder, {}).setdefault(study, {})[match[4]] = name
    beside = f"{labels.name[: labels.name.rfind('/') + 1]}test"
    if len(places) > 1 and beside not in places:
        raise ValueError(
            f"{tree.root} holds the test images in several folders ({first_few(places)}): remove all but one of them"
        )
    return places.get(beside) or next(iter(places.values()), {})


def _of_line(labels: Labels, line: int, images: dict[str, dict[str, str]]) -> list[dict]:
    """The records of one row: its image, or all images of its study."""
    row, place = labels.rows.loc[line], f"{labels.name} line {line}"
    of_study = images[row["study"]]
    if row["stem"] is not None and row["stem"] not in of_study:
        raise ValueError(
            f"{place}: {row['study']}/{row['stem']}{row['suffix']} does not exist: complete the download, or remove "
            f"that row"
        )
    stems = sorted(of_study) if row["stem"] is None else [row["stem"]]
    sex, view = (str(row.get(column, "")).strip().upper() for column in ("Sex", "AP/PA"))
    common = {"patient_id": row["study"].split("/")[0], "study_id": row["study"], "official_split": "test"}
    common |= {"sex": sex[:1] if sex[:1] in ("F", "M") else None, "view": view if view in VIEWS else None}
    common |= {"age": pd.to_numeric(row.get("Age", ""), errors="coerce"), "place": place}
    common |= {finding: row[finding] for finding in FINDINGS}
    return [
        common
        | {"image_id": f"test/{row['study']}/{stem}", "path": of_study[stem]}
        | {"projection": _projection(str(row.get("Frontal/Lateral", "")), stem, place)}
        for stem in stems
    ]


def _projection(cell: str, stem: str, place: str) -> str:
    for text in (cell.strip().lower(), stem.lower()):
        if (kind := re.search("frontal|lateral", text)) is not None:
            return kind[0]
    raise ValueError(
        f"{place}: the file name {stem!r} says neither frontal nor lateral: name it like view1_frontal.jpg, or add a "
        f"column Frontal/Lateral"
    )


def _disagreement(first: Labels, other: Labels) -> str | None:
    """One line on another table of the same test set that says something else."""
    ours, theirs = (one.rows.drop_duplicates("study").set_index("study")[list(FINDINGS)] for one in (first, other))
    common = ours.index.intersection(theirs.index)
    differing = (ours.loc[common].fillna(9) != theirs.loc[common].fillna(9)).any(axis=1)
    alone = len(ours.index.symmetric_difference(theirs.index))
    if not alone and not differing.any():
        return None
    return (
        f"{other.name} differs from {first.name}, which counts: other labels for {int(differing.sum()):,} studies, "
        f"{alone:,} studies in one of them alone"
    )


def reader_tables(tree: Tree) -> list[str]:
    """The names of the benchmark radiologists' tables."""
    return sorted(name for name in tree.names() if READER.fullmatch(name))


def read_readers(tree: Tree, studies: pd.Series) -> pd.DataFrame:
    """study_id, reader, then the findings as float32, 1 present, 0 absent: a row for each reader and study.

    studies: of the official test set; rows of others are left out. A reader is named as its file: bc4. The columns are
    in another order than in groundtruth.csv. Raises ValueError, naming the line, for a label that is neither 0 nor 1,
    a study that stands twice, and a reader who did not read every study.
    """
    parts: dict[str, pd.DataFrame] = {}
    for name in reader_tables(tree) if len(studies) else ():
        rows = _reader(tree, name)
        reader = rows["reader"].iloc[0]
        if unread := sorted(set(studies) - set(rows["study_id"])):
            raise ValueError(
                f"{name} lacks {len(unread):,} test studies ({first_few(unread)}): restore the published file"
            )
        rows = rows[rows["study_id"].isin(studies)].sort_values("study_id", ignore_index=True)
        if reader in parts and not parts[reader].equals(rows):
            raise ValueError(f"{tree.root} holds two different tables of the reader {reader}: remove one of the two")
        parts[reader] = rows
    empty = pd.DataFrame(columns=["study_id", "reader", *FINDINGS])
    table = pd.concat(parts.values(), ignore_index=True) if parts else empty
    return table.astype({"study_id": "str", "reader": "str"} | dict.fromkeys(FINDINGS, np.float32))


def _reader(tree: Tree, name: str) -> pd.DataFrame:
    """One reader's table as it is. Raises ValueError, naming the line."""
    table = read_csv(tree.read(name), name, ("Study", *FINDINGS))
    keys = [_key(value) for value in table["Study"]]
    labels = pd.DataFrame({finding: numbers(table[finding], (1, 0), name) for finding in FINDINGS})
    wrong = np.array([key is None for key in keys]) | labels.isna().any(axis=1).to_numpy()
    if wrong.any():
        raise ValueError(
            f"{name} line {table.index[wrong.argmax()]}: must be a study like test/patient64741/study1 and fourteen "
            f"labels, 0 or 1: restore the published file"
        )
    studies = pd.Series([f"{key[1]}/{key[2]}" for key in keys], table.index)
    if (twice := studies.duplicated()).any():
        line = twice.idxmax()
        raise ValueError(f"{name} line {line}: {studies[line]} stands twice: restore the published file")
    reader = name.rsplit("/", 1)[-1].removesuffix(".csv")
    return labels.assign(study_id=studies, reader=reader)[["study_id", "reader", *FINDINGS]]
