"""Checks the columns, types and values that every source gives its records (cxr/core/records.py)."""

from __future__ import annotations

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
    assert len(table) and table["image_id"].is_unique and table["path"].is_unique
    assert table[["image_id", "patient_id", "study_id", "path", "projection", "official_split"]].notna().all(axis=None)
    assert (
        table["projection"].isin(("frontal", "lateral")).all()
        and table["official_split"].isin(("train", "valid", "test")).all()
    )
    assert table["sex"].dropna().isin(("F", "M")).all() and table["view"].dropna().isin(VIEWS).all()
    return table
