"""Training rows of other hospitals, beside those of a label table (the stage extra_data).

The baselines, the final classifier and the study's arms alike are trained on them. Validation and test stay as they
are. No torch here; cxr/classifier/extra_images.py has their images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr.core.files import read_table
from cxr.core.findings import COLUMNS, in_view


def rows(folder: Path, names: Sequence[str], view: str) -> pd.DataFrame:
    """The training rows of one or more data sets, in the order of their names.

    folder: of extra_data's outputs; view: all, frontal or lateral. Raises ValueError for a name that is not there.
    """
    tables = []
    for name in names:
        if not (folder / name).is_dir():
            raise ValueError(f"classifier.extra has {name!r}, which data.extra does not name: add it there")
        tables.append(read_table(folder / name / "table.parquet", f"extra_data@{name}", COLUMNS))
    return in_view(pd.concat(tables, ignore_index=True), view).reset_index(drop=True)


def joined(table: pd.DataFrame, extra: pd.DataFrame) -> pd.DataFrame:
    """A label table with extra rows at its end. No image of theirs is synthetic, and no uncertain label is a class."""
    fill = {name: 0.0 for name in table if name.startswith("uncertain.")}
    fill |= {"synthetic": False} if "synthetic" in table else {}
    return pd.concat([table, extra.assign(**fill)], ignore_index=True)[list(table)]
