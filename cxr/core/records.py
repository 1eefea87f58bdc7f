"""Records: the table of radiographs, one row per image, that every source is read into.

Both data sets have the columns COMMON. CheXpert adds the 14 findings, float32: 1 present, 0 absent, -1 uncertain, NaN
blank (not mentioned). RSNA adds class_name (one of CLASSES) and boxes, a list of [x, y, width, height] in pixels of the
original image. Ages are as the source gives them, impossible ones too; NaN is unknown.
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
    "official_split",  # train, valid or test, as published
)
COLUMNS = {"chexpert": (*COMMON, *FINDINGS), "rsna": (*COMMON, "class_name", "boxes")}


def load(path: str | os.PathLike, dataset: str) -> pd.DataFrame:
    """The records that the download stage wrote. Raises ValueError for a missing, damaged or wrong file."""
    table = read_table(path, f"download@{dataset}", COLUMNS[dataset])
    if not table["image_id"].is_unique:
        twice = table.loc[table["image_id"].duplicated(), "image_id"].iloc[0]
        raise ValueError(f"{path}: image_id {twice!r} stands twice; `dvc repro -f download@{dataset}` makes it again")
    return table
