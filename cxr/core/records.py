"""The canonical table of radiographs, one row per image, that every source is read into and every stage starts from.

Both datasets have COMMON. CheXpert's records add the 14 findings as float32 columns: 1 present, 0 absent, -1
uncertain, NaN blank (not mentioned). RSNA's add class_name (one of CLASSES) and boxes (a list of [x, y, width,
height] in pixels of the original image, empty when there are none). Ages are kept as the source gives them,
impossible ones too, so that they can be reported; NaN is unknown.
"""

from __future__ import annotations

import os

import pandas as pd

from cxr.core.files import read_table
from cxr.core.findings import FINDINGS

COMMON = (
    "image_id",  # unique
    "patient_id",
    "study_id",
    "path",  # posix, relative to the source's root
    "sex",  # F, M or null
    "age",  # years, float32
    "projection",  # frontal or lateral
    "view",  # AP, PA, LL, RL or null
    "official_split",  # train or valid, as published
)
COLUMNS = {"chexpert": (*COMMON, *FINDINGS), "rsna": (*COMMON, "class_name", "boxes")}


def load(path: str | os.PathLike, dataset: str) -> pd.DataFrame:
    """The records that the download stage wrote to a parquet file. Raises ValueError when it holds none."""
    table = read_table(path, f"download@{dataset}", COLUMNS[dataset])
    if not table["image_id"].is_unique:
        twice = table.loc[table["image_id"].duplicated(), "image_id"].iloc[0]
        raise ValueError(f"{path}: image_id {twice!r} stands twice; `dvc repro -f download@{dataset}` makes it again")
    return table
