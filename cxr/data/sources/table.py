"""Reads any folder of X-rays with one CSV, whose columns the user names: what a hospital has.

The CSV may come from Excel in any language: a byte order mark, semicolons, an encoding of Windows (cp1252), decimal
commas, dates as 31.12.2020 or as the number of a day. `columns` says what is in which column:

    csv                     the CSV's name in the folder; may be left out where there is one alone
    path, patient           the image file, and whose it is; both must be there
    study, view, sex, age   may be left out: every image is then a study of its own, frontal, and the rest unknown
    birth, date             in place of age: the age is the time between them
    <finding>               one of CheXpert's fourteen findings, by its name or slug: 1, 0, -1 or blank

A finding without a label is unknown here, not absent: a hospital's table says no by a 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, finding
from cxr.data.sources.archive import Tree
from cxr.data.sources.dataset import USUAL, Dataset, Given, Reading
from cxr.data.sources.dicom_headers import years
from cxr.data.sources.label_csv import MARKS, check_some, first_few, is_blank, read_csv
from cxr.data.sources.schema import conform_findings
from cxr.data.sources.spreadsheet import check_ids, read_dates

PLAIN = ("path", "patient", "study", "view", "sex", "age", "birth", "date")
VIEWS = {
    "AP": ("frontal", "AP"), "PA": ("frontal", "PA"), "FRONTAL": ("frontal", None), "LL": ("lateral", "LL"),
    "RL": ("lateral", "RL"), "LATERAL": ("lateral", None), "LAT": ("lateral", None),
}  # fmt: skip
WORDS = {
    **dict.fromkeys("1 1.0 yes true positive pos ja wahr oui vrai si sí verdadero".split(), 1.0),
    **dict.fromkeys("0 0.0 no false negative neg nein falsch non faux falso".split(), 0.0),
    **dict.fromkeys("-1 -1.0 uncertain unclear unklar".split(), -1.0),
}
SEXES = {**dict.fromkeys(("f", "female", "w", "weiblich", "femme", "mujer"), "F"),
         **dict.fromkeys(("m", "male", "männlich", "maennlich", "homme", "hombre"), "M")}  # fmt: skip


def tables(tree: Tree, given: Given = USUAL) -> list[str]:
    """The name of the CSV. Raises ValueError for none, or for several without one named."""
    names = sorted(name for name in tree.names() if name.lower().endswith((".csv", ".tsv")))
    if chosen := given.columns.get("csv"):
        names = [name for name in names if name == chosen or name.endswith(f"/{chosen}")]
    if len(names) != 1:
        raise ValueError(
            f"{tree.root} has {first_few(names, 4) or 'no CSV'}{f' called {chosen}' if chosen else ''}: name one table "
            f"by columns: [csv=labels.csv, ...]"
        )
    return names


def read(tree: Tree, given: Given) -> Reading:
    """The records in the order of the CSV. Raises ValueError, naming the file, the line, the value and the cure."""
    columns = dict(given.columns)
    (name,) = tables(tree, given)
    columns.pop("csv", None)
    labels = {finding(key): column for key, column in columns.items() if key not in PLAIN}
    for needed in ("path", "patient"):
        if needed not in columns:
            raise ValueError(
                f"table: columns does not say which column of {name} is the {needed}: write {needed}=<column>; the "
                f"keys are csv, {', '.join(PLAIN)}, and {', '.join(SLUGS)}"
            )
    if not labels:
        raise ValueError(f"table: columns names no finding: write <finding>=<column>, of {', '.join(SLUGS)}")
    if len(set(columns.values())) < len(columns):
        raise ValueError("table: columns gives one column of the CSV two meanings: remove one")
    cells = read_csv(_utf8(tree.read(name)), name, tuple(columns.values()))
    table = cells.rename(columns={column: key for key, column in columns.items() if key in PLAIN}).map(str.strip)
    patients, rows = table["patient"], pd.DataFrame(index=table.index)
    if (blank := patients.map(is_blank)).any():
        raise ValueError(f"{name} line {blank.idxmax()}: {columns['patient']} is blank: say whose image it is")
    for key in ("patient", "study"):
        if key in columns:
            check_ids(table[key].rename(columns[key]), name)
    rows["path"] = _paths(tree, table["path"], name)
    rows["image_id"] = rows["path"]
    rows["patient_id"] = patients.str.removesuffix(".0")
    rows["study_id"] = table["study"] if "study" in table else rows["path"]
    rows["projection"], rows["view"] = _views(table, name, columns)
    rows["sex"] = _sexes(table, name, columns)
    rows["age"] = _ages(table, name, columns)
    rows["official_split"] = "train"
    for one in FINDINGS:
        rows[one] = _labels(table[labels[one]], name) if one in labels else np.nan
    notes = [] if "view" in columns else ["columns names no view: every image counts as frontal"]
    return Reading(conform_findings(rows, FINDINGS), [name], notes)


def _utf8(data: bytes) -> bytes:
    """The table as UTF-8: what is not, is taken for Windows' own encoding (cp1252), as Excel writes it."""
    if any(data.startswith(mark) for mark in MARKS):
        return data
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace").encode()
    return data


def _paths(tree: Tree, cells: pd.Series, name: str) -> list[str]:
    """The file of each row: by its path, by the end of it, or by its name alone, with or without suffix."""
    names, by_end = tree.names(), dict[str, list[str]]()
    for file in sorted(names - {name}):
        path = PurePosixPath(file)
        for end in (path.name, path.stem):
            by_end.setdefault(end.casefold(), []).append(file)
    result = []
    for line, cell in cells.items():
        parts = [part for part in re.split(r"[\\/]+", cell) if part not in ("", ".", "..") and not part.endswith(":")]
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        exact = next((tail for tail in tails if tail in names), None)
        files = [exact] if exact else list(dict.fromkeys(by_end.get(parts[-1].casefold(), []))) if parts else []
        if len(files) != 1:
            what = f"could be {first_few(files, 3)}" if files else f"does not exist below {tree.root}"
            raise ValueError(f"{name} line {line}: the image {cell!r} {what}: correct that cell, or add the file")
        result.append(files[0])
    lines = pd.Series(cells.index, result)
    if (twice := lines.index.duplicated()).any():
        file = lines.index[twice][0]
        raise ValueError(f"{name} lines {first_few(lines[file])}: the image {file} stands twice: keep one row")
    return result


def _views(table: pd.DataFrame, name: str, columns: Mapping[str, str]) -> tuple[list[str], list[str | None]]:
    if "view" not in columns:
        return ["frontal"] * len(table), [None] * len(table)
    plain = table["view"].str.upper().str.replace(r"[.\s_-]", "", regex=True)
    if (wrong := ~plain.isin(VIEWS)).any():
        line = wrong.idxmax()
        raise ValueError(
            f"{name} line {line}: {columns['view']} is {table.at[line, 'view']!r}, must be one of {', '.join(VIEWS)}: "
            f"correct that cell, or remove the row"
        )
    projections, views = zip(*plain.map(VIEWS), strict=True)
    return list(projections), list(views)


def _sexes(table: pd.DataFrame, name: str, columns: Mapping[str, str]) -> pd.Series:
    if "sex" not in columns:
        return pd.Series(None, table.index, dtype=object)
    sexes = table["sex"].str.casefold().map(SEXES)
    check_some(sexes, table["sex"].rename(columns["sex"]), ("d", "divers", "o", "u", "x"), "F or M", name)
    return sexes


def _ages(table: pd.DataFrame, name: str, columns: Mapping[str, str]) -> pd.Series:
    """Years. From birth and date where both are named; else 67, 67,5, 067Y or 006M."""
    if "birth" in columns and "date" in columns:
        born, taken = (read_dates(table[key].rename(columns[key]), name) for key in ("birth", "date"))
        return (taken - born).dt.days / 365.25
    if "age" not in columns:
        return pd.Series(np.nan, table.index)
    plain = table["age"].str.replace(",", ".", regex=False)
    ages = pd.to_numeric(plain, errors="coerce").fillna(plain.str.upper().map(years))
    check_some(ages, table["age"].rename(columns["age"]), ("unknown",), "an age in years", name)
    return ages


def _labels(column: pd.Series, name: str) -> pd.Series:
    plain = column.str.casefold().str.replace(",", ".", regex=False)
    values = plain.map(WORDS)
    if (wrong := values.isna() & ~column.map(is_blank)).any():
        line = wrong.idxmax()
        raise ValueError(
            f"{name} line {line}: {column.name} is {column[line]!r}, must be 1, 0, -1, yes, no or blank: correct that "
            f"cell"
        )
    return values


def columns_of(texts: tuple[str, ...] | list[str]) -> dict[str, str]:
    """['path=Datei', 'edema=Ödem'] as a mapping. Raises ValueError for a text without = and for a key that is unknown
    or stands twice.
    """
    result: dict[str, str] = {}
    for text in texts:
        key, separator, column = (part.strip() for part in text.partition("="))
        if not separator or not key or not column:
            raise ValueError(f"columns: {text!r} must be <key>=<column of the CSV>, such as path=file")
        key = key if key in ("csv", *PLAIN) else finding(key)
        if key in result:
            raise ValueError(f"columns: {key} stands twice: remove one")
        result[key] = column
    return result


DATASET = Dataset(
    name="table",
    title="a hospital's own table",
    findings=FINDINGS,
    views="as the table says; frontal where it does not",
    patient_key="patient",
    people="own",
    labelled_by="whoever made the table",
    terms="those of the hospital",
    where="your own folder",
    recognised_by="nothing: name it, and its columns",
    tables=tables,
    read=read,
)
