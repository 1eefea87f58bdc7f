"""Reads a published label table (CSV) as text columns. Errors name the line."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as csv_reader


def read_csv(data: bytes, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a CSV as text ('' when blank), in this order; the index is the line number (header = 1).

    Takes a byte order mark, any mixture of line ends, quotes, blank lines and further columns. Raises ValueError,
    naming the file, for an empty one, a column that is missing or stands twice, text that is not UTF-8, a NUL byte, and
    lines of uneven length.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise ValueError(f"{name} is empty: download the dataset again")
    if (at := data.find(b"\0")) >= 0:
        line = len(re.findall(rb"\r\n|\r|\n", data[:at])) + 1
        raise ValueError(f"{name} line {line} holds a NUL byte, so it is no UTF-8 text: download the dataset again")
    header = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode(errors="replace")
    heads = [head.strip() for head in next(csv.reader([header]))]
    places = [_place(column, heads, columns, header, name) for column in columns]
    table = _rows(data, name, len(heads))
    table = table[(table != "").any(axis=1)]  # blank lines
    if not len(table):
        raise ValueError(f"{name} has a header but no rows: download the dataset again")
    return table[places].set_axis(list(columns), axis=1)


def _place(column: str, heads: list[str], columns: Sequence[str], header: str, name: str) -> int:
    """The place of a column in the header. Raises ValueError when it is missing or stands there twice."""
    if (n := heads.count(column)) > 1:
        raise ValueError(f"{name} line 1: column {column!r} stands {n} times: remove or rename one")
    if n:
        return heads.index(column)
    near = difflib.get_close_matches(column, [head for head in heads if head not in columns], 1)
    raise ValueError(
        f"{name} line 1: column {column!r} is missing; the header is {header[:300]!r}: restore the published file, or "
        f"rename {f'the column {near[0]!r}, the nearest' if near else 'the column'}"
    )


def _rows(data: bytes, name: str, width: int) -> pd.DataFrame:
    """Every row below the header as text, columns 0 to width - 1, indexed by line. Raises ValueError for a row of
    another width.
    """
    uneven: list[csv_reader.InvalidRow] = []
    names = [str(k) for k in range(width)]
    try:
        if data.count(b'"') % 2:
            raise pa.ArrowInvalid("a quote is not closed")
        table = csv_reader.read_csv(
            pa.BufferReader(data),
            csv_reader.ReadOptions(use_threads=False, column_names=names),  # threads would not count rows
            csv_reader.ParseOptions(
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=lambda row: uneven.append(row) or "skip",
            ),
            csv_reader.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name} is no readable CSV ({error}): download the dataset again") from error
    breaks = np.zeros(len(table), np.int64)  # line ends inside a row's cells
    if b'"' in data:
        breaks = sum(pc.count_substring_regex(column, r"\r\n|\r|\n").to_numpy() for column in table.columns)
    lines = np.arange(1, len(table) + 1) + np.cumsum(breaks) - breaks
    if uneven:
        row = uneven[0]
        line = row.number + int(breaks[: row.number - 1].sum())
        raise ValueError(
            f"{name} line {line} has {row.actual_columns} cells, the header {width}: download the dataset again"
        )
    rows = table.slice(1).to_pandas().set_axis(range(width), axis=1)
    return rows.set_axis(lines[1:], axis=0)


def numbers(column: pd.Series, allowed: Sequence[float], name: str) -> pd.Series:
    """A text column as float32, NaN where blank. Raises ValueError with the line of a value not in `allowed`."""
    codes, texts = pd.factorize(column)
    values = np.array([_number(text) for text in texts], np.float32)
    valid = np.array([not text.strip() for text in texts]) | np.isin(values, np.array(allowed, np.float32))
    if not valid.all():
        row = int(np.flatnonzero(~valid[codes])[0])
        choices = ", ".join(f"{value:g}" for value in allowed)
        raise ValueError(
            f"{name} line {column.index[row]}: {column.name} is {column.iloc[row]!r}, must be one of {choices} "
            f"or blank: correct that cell"
        )
    return pd.Series(values[codes], column.index, name=column.name)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def first_few(values: Sequence, n: int = 10) -> str:
    """'a, b, ... and 5 more': the first n values, for a message."""
    values = list(values)
    return ", ".join(map(str, values[:n])) + (f", ... and {len(values) - n:,} more" if len(values) > n else "")
