"""Predictions, the border between training and numbers: read and checked before any number is computed.

A classifier's: image_id, patient_id, split, then score.<slug> in [0, 1] and truth.<slug> (1, 0, NaN) of 14 findings.
An ADGM's: image_id, patient_id, split, label (place in CLASS_NAMES), then prob_last.<i> and prob_best.<i> of class i.
Both: split_sha256 of the split's file. Every error is a ValueError with the file, the image and the command that makes
the file again; `stage` is the stage that makes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.adgm.variants import Run
from cxr.core.files import read_table
from cxr.core.findings import SLUGS

IDENTITY = ("image_id", "patient_id", "split", "split_sha256")


def _cure(stage: str) -> str:
    return f"`dvc repro -f {stage}` makes it again"


def _read(path: str | os.PathLike, columns: Sequence[str], stage: str, optional: str = "") -> pd.DataFrame:
    columns = [*IDENTITY, *columns]
    table, cure = read_table(path, stage, columns), _cure(stage)
    columns += [optional] if optional in table else []
    if not len(table):
        raise ValueError(f"{path}: no rows; {cure}")
    if table[list(IDENTITY)].isna().any(axis=None):
        raise ValueError(f"{path}: a row without image_id, patient_id or split; {cure}")
    if table["split_sha256"].nunique() > 1:
        raise ValueError(f"{path}: its rows come from several splits; {cure}")
    table = table[columns].sort_values("image_id", kind="stable", ignore_index=True)
    if (twice := table["image_id"].duplicated()).any():
        raise ValueError(f"{path}: image_id {table['image_id'][twice.argmax()]!r} occurs twice; {cure}")
    return table


def _within(
    path: str | os.PathLike,
    table: pd.DataFrame,
    columns: Sequence[str],
    allowed: Callable[[np.ndarray], np.ndarray],
    wanted: str,
    cure: str,
) -> None:
    for name in columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"{path}: column {name} is not numeric; {cure}")
        wrong = ~allowed(table[name].to_numpy(np.float64))
        if wrong.any():
            row = int(wrong.argmax())
            image = table["image_id"][row]
            raise ValueError(f"{path}: {name} is {table[name][row]} for {image!r}, must be {wanted}; {cure}")


def _probability(values: np.ndarray) -> np.ndarray:
    return (values >= 0) & (values <= 1)  # false for NaN too


def _truth(values: np.ndarray) -> np.ndarray:
    return np.isnan(values) | np.isin(values, (0, 1))


def read_classifier(path: str | os.PathLike, stage: str) -> pd.DataFrame:
    """A classifier's predictions in the order of image_id; at least one row is of the test split."""
    scores, truths = [f"score.{name}" for name in SLUGS], [f"truth.{name}" for name in SLUGS]
    table = _read(path, [*scores, *truths], stage)
    cure = _cure(stage)
    _within(path, table, scores, _probability, "within 0 and 1", cure)
    _within(path, table, truths, _truth, "1, 0 or blank", cure)
    if not (table["split"] == "test").any():
        raise ValueError(f"{path}: no row of the test split; {cure}")
    return table


def read_adgm(path: str | os.PathLike, classes: int, stage: str) -> pd.DataFrame:
    """An ADGM's predictions in the order of image_id; each row's probabilities sum to 1.

    Where a column `rows` gives the number of rows that the split has of an image (splits.file_order), the image has as
    many rows here.
    """
    sets = {which: [f"prob_{which}.{i}" for i in range(classes)] for which in ("last", "best")}
    table = _read(path, ["label", *sets["last"], *sets["best"]], stage, "rows")
    cure = _cure(stage)
    wanted = f"a whole number from 0 to {classes - 1}"
    _within(path, table, ["label"], lambda values: np.isin(values, range(classes)), wanted, cure)
    for which, columns in sets.items():
        _within(path, table, columns, _probability, "within 0 and 1", cure)
        total = table[columns].to_numpy(np.float64).sum(axis=1)
        if (wrong := np.abs(total - 1) > 0.01).any():
            row = int(wrong.argmax())
            image = table["image_id"][row]
            raise ValueError(f"{path}: prob_{which} of {image!r} sums to {total[row]:.3g}, not to 1; {cure}")
    if "rows" in table:
        _within(path, table, ["rows"], lambda n: (n >= 1) & (n == np.floor(n)), "a whole number from 1 on", cure)
        table = table.loc[table.index.repeat(table["rows"].astype(np.int64))].drop(columns="rows")
        return table.reset_index(drop=True)
    return table


def same_images(tables: Mapping[str | os.PathLike, pd.DataFrame]) -> None:
    """Raises ValueError unless the tables (by file) hold the same images, patients, splits and, if any, truth."""
    if not tables:
        return
    (first_path, first), *others = tables.items()
    columns = [*IDENTITY, *(f"truth.{name}" for name in SLUGS if f"truth.{name}" in first)]
    cure = "make both from the same split and labels: dvc repro"
    for path, table in others:
        if table["split_sha256"].iloc[0] != first["split_sha256"].iloc[0]:
            raise ValueError(f"{path} and {first_path} were made under different splits; {cure}")
        if only := sorted(set(table["image_id"]) ^ set(first["image_id"])):
            raise ValueError(
                f"{path} and {first_path}: {len(only)} image(s) are in only one of them, such as {only[0]!r}; {cure}"
            )
        for name in columns:
            differs = (table[name] != first[name]) & ~(table[name].isna() & first[name].isna())
            if differs.any():
                image = table["image_id"][differs.argmax()]
                raise ValueError(f"{path} and {first_path}: {name} of {image!r} differs; {cure}")


def read_classifiers(files: Mapping[Hashable, tuple[Path, str]]) -> dict[Hashable, pd.DataFrame]:
    """Predictions of the same images by several classifiers. files: key -> (file, the stage that makes it)."""
    models = {key: read_classifier(path, stage) for key, (path, stage) in files.items()}
    same_images({path: models[key] for key, (path, _) in files.items()})
    return models


def read_runs(folder: Path, runs: Sequence[Run]) -> dict[Run, pd.DataFrame]:
    """Predictions of the same images by several ADGMs, each in `folder` under its run's name.

    These are the test images, or the validation images where the split has no test part.
    """
    files = {run: folder / f"{run.name}.parquet" for run in runs}
    tables = {run: _reported(read_adgm(path, run.classes, run.stage)) for run, path in files.items()}
    same_images({path: tables[run] for run, path in files.items()})
    return tables


def _reported(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that a result is reported on: those of the test part, where there is one."""
    test = table["split"] == "test"
    return table[test].reset_index(drop=True) if test.any() else table
