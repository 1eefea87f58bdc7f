"""Cuts a label table into pieces of whole rows, so that nobody holds all its cells, and several processes can read it.

A piece is read as the whole table is (label_csv.read_csv), with the table's header before it: the same cells, the same
line numbers, the same errors.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from cxr.data.sources.archive import Tree
from cxr.data.sources.label_csv import MARKS, WHOLE, Gap, header, read_csv

HEAD = 1 << 20  # bytes in which a header and a row lie
SIZE = 4 << 20  # bytes of a piece: 38,000 rows of train.csv, whose cells need 60 MB
WIDE = tuple(mark for mark, encoding in MARKS.items() if encoding.startswith("utf-16"))


class Piece(NamedTuple):
    """Some rows of a table.

    name: of the table in the tree; head: its lines up to the header; start, length: where the rows lie, in bytes;
    lines: of the table before them.
    """

    name: str
    head: bytes
    start: int
    length: int
    lines: int


def each(tree: Tree, name: str, columns: Sequence[str], size: int = SIZE) -> Iterator[tuple[Piece, bytes]]:
    """The pieces of a table, in order, each with its bytes. The table is read once, `size` bytes at a time.

    columns: that will be read; they show the header and the separator. A table in UTF-16 is one piece: Excel writes
    that, a million rows at most. Raises ValueError as read_csv does for a table without a header, and as Tree.blocks
    for one that can't be read.
    """
    first = tree.part(name, 0, HEAD)
    last, separator = header(first, name, columns)
    if first.startswith(WIDE):
        data = tree.read(name)
        yield Piece(name, b"", 0, len(data), 0), data
        return
    head = b"".join(first.splitlines(keepends=True)[:last])
    start = lines = 0
    waiting = b""
    for block in tree.blocks(name, size):
        waiting += block
        if not start and len(waiting) >= len(head):
            start, lines, waiting = len(head), last, waiting[len(head) :]
        if start and (end := _whole_rows(waiting, separator)):
            data, waiting = waiting[:end], waiting[end:]
            yield Piece(name, head, start, end, lines), data
            start, lines = start + end, lines + _lines(data)
    if waiting:
        yield Piece(name, head, start, len(waiting), lines), waiting


def rows(data: bytes, piece: Piece, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a piece's rows, as read_csv reads them; of none where it has blank lines alone.

    data: the piece's bytes, from `each` or Tree.part.
    """
    head = len(piece.head.splitlines())
    gap = Gap(head, piece.lines - head) if piece.head else WHOLE
    return read_csv(piece.head + data, piece.name, columns, gap)


def _lines(data: bytes) -> int:
    """Line ends, of any kind, in bytes that end with one."""
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _whole_rows(data: bytes, separator: str) -> int:
    """The bytes of the rows that surely end in `data`, which begins with a row; 0 where none does.

    Behind a fault, such as a wrong quote, no end of a row is certain. There every line counts as a row, and the reader
    of that piece reports the fault.
    """
    end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1  # after a last \r there may be a \n
    if b'"' not in data[:end]:
        return end
    lines = data[:end].splitlines(keepends=True)  # of bytes: at \n, \r and \r\n alone
    reader = csv.reader((line.decode("utf-8", "surrogateescape") for line in lines), delimiter=separator, strict=True)
    ended = 0
    try:
        for _ in reader:
            ended = reader.line_num
    except csv.Error as error:
        if "unexpected end of data" not in str(error):  # which is a quoted cell that goes on in the next block
            return len(b"".join(lines[:ended])) or end
    return len(b"".join(lines[:ended]))
