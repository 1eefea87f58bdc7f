"""Reads a published label table (CSV) as text columns, also as spreadsheets and other tools rewrite it.

What they change without a change of meaning is read: the separator, decimal commas, quotes, the case of the header,
empty rows and columns. Where a cell could mean two things the error names the line and the trouble.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xef\xbb\xbf": "utf-8"}
BLANK = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none")  # as pandas, R, Excel and databases write no value
COMMA = re.compile(r"[+\-\u2212]?\d+,\d*")
MINUS = "\u2212"  # as word processors write it
SURROGATE = re.compile("[\udc80-\udcff]")  # a byte that is no UTF-8


class Gap(NamedTuple):
    """Lines of a CSV that are not in `data`, between its first `head` lines and the rest."""

    head: int
    lines: int

    def line(self, number: int) -> int:
        """The number in the whole file of a line of `data`."""
        return number + self.lines if number > self.head else number


WHOLE = Gap(0, 0)


def read_csv(data: bytes, name: str, columns: Sequence[str], gap: Gap = WHOLE) -> pd.DataFrame:
    """The named columns of a CSV as text ('' when blank), in this order; the index is the line number (header = 1).

    gap: where `data` is a piece of a larger table (cxr/data/sources/pieces.py), which may have no rows.

    Takes a byte order mark, commas, semicolons, tabs or bars, any mixture of line ends, quotes, blank lines, further
    columns, headers in another case or with other signs between their words. Outside a table with commas 1,5 is 1.5.
    Raises ValueError, naming the file, for an empty one, a column that is missing or stands twice, text of another
    encoding, a NUL byte, and lines of uneven length.
    """
    text = _decoded(data, name, gap)
    first, separator = _separator(text, columns)
    rows = _rows(text, name, separator, gap)
    places, width = _header(rows, name, columns, first, separator)
    lines: list[int] = []
    cells: dict[str, list[str]] = {column: [] for column in columns}
    add = [(cells[column].append, place) for column, place in zip(columns, places, strict=True)]
    for line, row in rows:
        if not "".join(row).strip():
            continue
        if len(row) != width and (len(row) < width or "".join(row[width:]).strip()):
            raise ValueError(
                f"{name} line {line} has {len(row)} cells, the header {width}: download the dataset again, or "
                f"give that line as many {SEPARATORS.get(separator, separator)} as the header has"
            )
        lines.append(line)
        for append, place in add:
            append(row[place])
    if not lines and gap == WHOLE:
        raise ValueError(without_rows(name))
    if not text.isascii() and SURROGATE.search(text):
        _check_text(cells, lines, name)
    table = pd.DataFrame({column: pd.array(values, "str") for column, values in cells.items()}, lines)
    return table if separator == "," else table.map(_with_point)


def without_rows(name: str) -> str:
    return f"{name} has a header but no rows: download the dataset again"


def header(data: bytes, name: str, columns: Sequence[str]) -> tuple[int, str]:
    """The number of the header's last line and the separator, as `read_csv` finds them. data: the start of a CSV.

    Raises ValueError as that does, for a wrong header and for one without a line after it.
    """
    text = _decoded(data, name)
    first, separator = _separator(text, columns)
    rows = _rows(text, name, separator)
    _header(rows, name, columns, first, separator)
    for line, _ in rows:
        return line - 1, separator
    raise ValueError(without_rows(name))


def _header(
    rows: Iterator[tuple[int, list[str]]], name: str, columns: Sequence[str], first: int, separator: str
) -> tuple[list[int], int]:
    """The places of the columns in the header, and how many cells it has. Raises ValueError for a column that is
    missing or stands twice.
    """
    line, head = _head(rows, first)
    heads = [cell.strip() for cell in head]
    places = [_place(column, heads, columns, separator.join(head), f"{name} line {line}") for column in columns]
    return places, len(heads)


def _head(rows: Iterator[tuple[int, list[str]]], first: int) -> tuple[int, list[str]]:
    """The first row that is not blank from the line `first` on, and its line; 0 and [] where none is."""
    return next(((line, row) for line, row in rows if line >= first and any(row)), (0, []))


def columns_there(data: bytes, name: str, columns: Sequence[str]) -> list[str]:
    """Which of the columns the header of a CSV has, as `read_csv` finds them. Raises ValueError for what is no text."""
    text = _decoded(data, name)
    first, separator = _separator(text, columns)
    _, head = _head(_rows(text, name, separator), first)
    heads = {_plain(cell) for cell in head}
    return [column for column in columns if _plain(column) in heads]


def _decoded(data: bytes, name: str, gap: Gap = WHOLE) -> str:
    """The text of a CSV in UTF-8, or in UTF-16 with its mark. A byte that is no UTF-8 becomes a lone surrogate."""
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    encoding = MARKS.get(mark, "utf-8")
    text = data.removeprefix(mark).decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
    if not text.strip():
        raise ValueError(f"{name} is empty: download the dataset again")
    if (at := text.find("\0")) >= 0:
        line = gap.line(len(re.findall(r"\r\n|\r|\n", text[:at])) + 1)
        raise ValueError(f"{name} line {line} holds a NUL byte, so it is no UTF-8 text: download the dataset again")
    return text


def _separator(text: str, columns: Sequence[str]) -> tuple[int, str]:
    """The first line of the table itself and its separator: the one that finds most of the columns in the header.

    Excel may write the separator into a line of its own before the table (sep=;).
    """
    lines = io.StringIO(text, newline=None)
    number, line = next((number, line) for number, line in enumerate(lines, 1) if line.strip())
    if stated := re.fullmatch(r'"?sep=(.)"?\s*', line, re.IGNORECASE):
        return number + 1, stated[1]
    wanted = {_plain(column) for column in columns}
    shared = {mark: len(wanted & {_plain(cell) for cell in line.split(mark)}) for mark in SEPARATORS}
    return number, max(SEPARATORS, key=shared.__getitem__)


def _rows(text: str, name: str, separator: str, gap: Gap = WHOLE) -> Iterator[tuple[int, list[str]]]:
    """The line number and the cells of every row. Raises ValueError where quotes don't fit."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for row in reader:
            yield gap.line(line), row
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{name} is no readable CSV (line {gap.line(line)}: {error}): download the dataset again"
        ) from error


def _plain(head: str) -> str:
    """A header without case and without what stands between its words: Lung_Opacity is LUNG OPACITY."""
    return re.sub(r"[\W_]+", "", head).casefold()


def _place(column: str, heads: list[str], columns: Sequence[str], header: str, place: str) -> int:
    """The place of a column in the header. Raises ValueError when it is missing or stands there twice."""
    for same in (lambda head: head == column, lambda head: _plain(head) == _plain(column)):
        places = [k for k, head in enumerate(heads) if same(head)]
        if len(places) > 1:
            raise ValueError(f"{place}: column {column!r} stands {len(places)} times: remove or rename one")
        if places:
            return places[0]
    if len(heads) == 1 and any(mark in heads[0] for mark in SEPARATORS):
        raise ValueError(f"{place}: the whole line is one quoted cell: save the table again, with commas between cells")
    near = difflib.get_close_matches(column, [head for head in heads if head not in columns], 1)
    raise ValueError(
        f"{place}: column {column!r} is missing; the header is {header[:300]!r}: restore the published file, or "
        f"rename {f'the column {near[0]!r}, the nearest' if near else 'the column'}"
    )


def _check_text(columns: Mapping[str, Sequence[str]], lines: Sequence[int], name: str) -> None:
    """Raise ValueError for a cell whose bytes were no UTF-8."""
    for column, cells in columns.items():
        for line, cell in zip(lines, cells, strict=True):
            if SURROGATE.search(cell):
                raise ValueError(
                    f"{name} line {line}: {column} is no UTF-8 text: save the table as 'CSV UTF-8', or download the "
                    f"dataset again"
                )


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if COMMA.fullmatch(cell.strip()) else cell


def is_blank(text: str) -> bool:
    """Whether a cell holds no value, as a spreadsheet, pandas, R or a database writes it."""
    return text.strip().casefold() in BLANK


def numbers(column: pd.Series, allowed: Sequence[float], name: str) -> pd.Series:
    """A text column as float32, NaN where blank. Raises ValueError with the line of a value not in `allowed`."""
    codes, texts = pd.factorize(column)
    values = np.array([_number(text) for text in texts], np.float32)
    valid = np.array([is_blank(text) for text in texts]) | np.isin(values, np.array(allowed, np.float32))
    if not valid.all():
        row = int(np.flatnonzero(~valid[codes])[0])
        choices = ", ".join(f"{value:g}" for value in allowed)
        raise ValueError(
            f"{name} line {column.index[row]}: {column.name} is {column.iloc[row]!r}, must be one of {choices} "
            f"or blank: correct that cell"
        )
    return pd.Series(values[codes], column.index, name=column.name)


def measures(column: pd.Series) -> pd.Series:
    """A text column as float64, NaN where a cell holds no number."""
    codes, texts = pd.factorize(column)
    return pd.Series(np.array([_number(text) for text in texts], np.float64)[codes], column.index, name=column.name)


def check_some(values: pd.Series, column: pd.Series, unknown: Sequence[str], form: str, name: str) -> None:
    """Raise ValueError when no cell of a column was understood: then it is the column that has another form.

    values: what was read, missing where not understood; unknown: cells, in lower case, that say no more than a blank.
    """
    written = says_something(column, unknown)
    if written.any() and values.isna().all():
        line = written.idxmax()
        raise ValueError(none_understood(name, line, column.name, column[line], form))


def none_understood(name: str, line: int, column: Hashable, cell: str, form: str) -> str:
    """The message for a column of which no cell has the form that it should have. line, cell: the first that says
    something.
    """
    return f"{name} line {line}: {column} is {cell!r}, and no row has {form}: correct that column"


def says_something(column: pd.Series, unknown: Sequence[str]) -> pd.Series:
    """Whether each cell is neither blank nor one of the words, in lower case, that mean unknown."""
    return ~column.map(lambda cell: is_blank(cell) or cell.strip().casefold() in unknown).astype(bool)


def _number(text: str) -> float:
    try:
        value = float(text.replace(MINUS, "-"))
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def first_few(values: Iterable, n: int = 10, count: int | None = None) -> str:
    """'a, b, ... and 5 more': the first n values, for a message. count: how many there are, where `values` are only the
    first n of them.
    """
    values = list(values)
    count = len(values) if count is None else count
    return ", ".join(map(str, values[:n])) + (f", ... and {count - n:,} more" if count > n else "")
