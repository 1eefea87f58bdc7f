"""Checks the columns, types and values that every source gives its records (cxr/core/records.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.core.findings import CLASSES, FINDINGS
from cxr.core.records import COLUMNS, COMMON

VIEWS = ("AP", "PA", "LL", "RL")


def conform(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """The table with the columns of `dataset`, in their order and types. Asserts the values."""
    table = table[list(COLUMNS[dataset])].reset_index(drop=True)
    for name in COMMON:
        table[name] = table[name].astype(np.float32 if name == "age" else "str")
    if dataset == "chexpert":
        table = table.astype(dict.fromkeys(FINDINGS, np.float32))
        values = table[list(FINDINGS)].to_numpy()
        assert np.isin(values[~np.isnan(values)], (-1, 0, 1)).all()
    else:
        table["class_name"] = table["class_name"].astype("str")
        assert table["class_name"].isin(CLASSES).all()
    _check(table)
    return table


def conform_findings(table: pd.DataFrame, findings: Sequence[str], boxes: bool = False) -> pd.DataFrame:
    """The records of a data set with findings of its own: the columns COMMON, a float32 column for each finding, and
    with `boxes` a column of lists of {finding, x, y, width, height, reader} in pixels of the original. Asserts the
    values.
    """
    table = table[[*COMMON, *findings, *(["boxes"] if boxes else [])]].reset_index(drop=True)
    for name in COMMON:
        table[name] = table[name].astype(np.float32 if name == "age" else "str")
    table = table.astype(dict.fromkeys(findings, np.float32))
    values = table[list(findings)].to_numpy()
    assert np.isin(values[~np.isnan(values)], (-1, 0, 1)).all()
    _check(table)
    return table


def _check(table: pd.DataFrame) -> None:
    assert len(table) and table["image_id"].is_unique and table["path"].is_unique
    assert table[["image_id", "patient_id", "study_id", "path", "projection", "official_split"]].notna().all(axis=None)
    assert (
        table["projection"].isin(("frontal", "lateral")).all()
        and table["official_split"].isin(("train", "valid", "test")).all()
    )
    assert table["sex"].dropna().isin(("F", "M")).all() and table["view"].dropna().isin(VIEWS).all()
