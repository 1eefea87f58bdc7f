"""A published label table (CSV) as text columns, with the line of whatever is wrong in it."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence

import numpy as np
import pandas as pd


def read_csv(data: bytes, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a CSV as text ('' when blank), in this order; the index is the line number (header = 1).

    Takes a byte order mark, any mixture of line ends, quotes, blank lines and further columns. Raises ValueError,
    naming the file, for an empty one, a column that is missing or stands twice, text that is not UTF-8, a NUL byte, and
    lines of uneven length.
    """
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")
    if not data.strip():
        raise ValueError(f"{name} is empty: download the dataset again")
    if (at := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, at) + 1
        raise ValueError(f"{name} line {line} holds a NUL byte, so it is no UTF-8 text: download the dataset again")
    try:
        lines = _quoted(data, name) if b'"' in data else _plain(data, name)
        # index_col: pandas would take the first of too many cells as names of the rows
        table = pd.read_csv(
            io.BytesIO(data), dtype="str", keep_default_na=False, skip_blank_lines=False, index_col=False
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name} is no readable CSV ({str(error).strip()}): download the dataset again") from error
    table.columns = table.columns.str.strip()
    header = data.split(b"\n", 1)[0].decode(errors="replace")
    heads = [head.strip() for head in next(csv.reader([header]))]  # as they stand: pandas renames the second of a pair
    for column in columns:
        if (n := heads.count(column)) > 1:
            raise ValueError(f"{name} line 1: column {column!r} stands {n} times: remove or rename one")
        if not n:
            near = difflib.get_close_matches(column, [head for head in heads if head not in columns], 1)
            raise ValueError(
                f"{name} line 1: column {column!r} is missing; the header is {header[:300]!r}: restore the published "
                f"file, or rename " + (f"the column {near[0]!r}, the nearest" if near else "the column")
            )
    table.index = lines
    table = table[(table != "").any(axis=1)]
    if not len(table):
        raise ValueError(f"{name} has a header but no rows: download the dataset again")
    return table[list(columns)]


def _plain(data: bytes, name: str) -> pd.RangeIndex:
    """The line numbers of a CSV without quotes. Checks what pandas would fill up or shift: every line has as many
    cells as the header.
    """
    values = np.frombuffer(data + b"\n", np.uint8)
    ends = np.flatnonzero(values == ord("\n"))
    cells = np.diff(np.searchsorted(np.flatnonzero(values == ord(",")), ends), prepend=0) + 1
    blank = np.diff(ends, prepend=-1) == 1
    if (wrong := (cells != cells[0]) & ~blank).any():
        line = int(wrong.argmax())
        raise _uneven(name, line + 1, cells[line], cells[0])
    return pd.RangeIndex(2, len(ends) + 1)


def _quoted(data: bytes, name: str) -> list[int]:
    """As _plain for a CSV with quotes, in which a cell may hold commas and line ends."""
    reader = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    width, lines, last = len(next(reader)), [], reader.line_num
    for row in reader:
        if row and len(row) != width:
            raise _uneven(name, last + 1, len(row), width)
        lines.append(last + 1)
        last = reader.line_num
    return lines


def _uneven(name: str, line: int, cells: int, header: int) -> ValueError:
    return ValueError(f"{name} line {line} has {cells} cells, the header {header}: download the dataset again")


def numbers(column: pd.Series, allowed: Sequence[float], name: str) -> pd.Series:
    """A text column as float32, blank as NaN. Raises ValueError with the line of the first value not in `allowed`."""
    codes, texts = pd.factorize(column)
    values = np.array([_number(text) for text in texts], np.float32)
    known = np.array([not text.strip() for text in texts]) | np.isin(values, np.array(allowed, np.float32))
    if not known.all():
        row = int(np.flatnonzero(~known[codes])[0])
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
    """'a, b, ... and 5 more': the first n of the values, for a message."""
    values = list(values)
    return ", ".join(map(str, values[:n])) + (f", ... and {len(values) - n:,} more" if len(values) > n else "")
