"""Checks the columns, types and values that every source gives its records (cxr/core/records.py)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core.findings import CLASSES, FINDINGS
from cxr.core.records import COLUMNS, COMMON

if TYPE_CHECKING:
    import pyarrow as pa

GROUP = 1 << 18  # rows of a row group of records.parquet
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


def write(path: str | os.PathLike, parts: Iterable[pd.DataFrame]) -> None:
    """Write records as a new .parquet, a row group at a time. parts: tables that `conform` made, at least one; of RSNA
    one, whose boxes show their type.

    The bytes depend on the rows alone, not on the parts in which they come. Half a file is left when a part fails.
    """
    import pyarrow as pa
    from pyarrow import parquet

    groups = _groups(pa.Table.from_pandas(part, preserve_index=False) for part in parts)
    first = next(groups)
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first, GROUP)
        for group in groups:
            writer.write_table(group, GROUP)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables as tables of GROUP rows, the last of fewer. Each column is one array: where a column's arrays
    end decides where its pages do.
    """
    import pyarrow as pa

    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        while rows >= GROUP:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, GROUP).combine_chunks()
            waiting, rows = [whole.slice(GROUP)], rows - GROUP
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def paths(path: str | os.PathLike) -> Iterator[str]:
    """The images' paths in a file of records, in order, some at a time."""
    from pyarrow import parquet

    for batch in parquet.ParquetFile(path).iter_batches(columns=["path"]):
        yield from batch.column(0).to_pylist()
