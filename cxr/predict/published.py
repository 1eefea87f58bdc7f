"""The rows of a run as every output has them, read from the part file each time: memory holds one row, or a study's."""

from __future__ import annotations

import itertools
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cxr.predict.verdict import HEAD, SEVERAL


class Published:
    """The rows with file names, without predictions of studies with two patients, and with what a yes is worth.

    part: the whole part file (part.py: a head line, then a line of JSON for each image); names: of the files, by their
    number; mixed: numbers of studies with two patients; worth: columns that every predicted image has.
    """

    def __init__(self, part: Path, names: Sequence[str], mixed: set[int], worth: Mapping[str, str | float]) -> None:
        self.part, self.names, self.mixed, self.worth = part, names, mixed, worth

    def __iter__(self) -> Iterator[dict]:
        """All rows, in the order in which they were predicted."""
        return (row for _, row in self._lines())

    def studies(self) -> Iterator[list[dict]]:
        """The rows of each study's predicted images, in their order. Memory holds one study, and some
        40 bytes an image.
        """
        study, start = array("q"), array("q")
        for at, row in self._lines():
            if not row["reason"]:
                study.append(row["study"])
                start.append(at)
        order = np.lexsort((np.asarray(start), np.asarray(study)))
        edges = np.flatnonzero(np.diff(np.asarray(study)[order], prepend=-1, append=-1))
        with open(self.part, "rb") as file:
            for first, end in itertools.pairwise(edges):
                rows = []
                for place in order[first:end]:
                    file.seek(start[place])
                    rows.append(self._row(file.readline()))
                yield rows

    def _lines(self) -> Iterator[tuple[int, dict]]:
        """(byte where it starts, row) of each."""
        with open(self.part, "rb") as file:
            at = len(file.readline())
            for line in file:
                yield at, self._row(line)
                at += len(line)

    def _row(self, line: bytes) -> dict:
        row = json.loads(line)
        row = {"file": self.names[row["number"]], **row}
        if row["reason"]:
            return row
        if row["study"] in self.mixed:
            return {key: row[key] for key in ("number", *HEAD)} | {"reason": SEVERAL}
        return row | self.worth
