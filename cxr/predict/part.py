"""The rows of a run so far, in a file that only grows, so that an interrupted run continues where it stopped.

The first line says what the run is of; then a line of JSON for each image, by its number. No file name is in it. Rows
of files that could not be read are made again when the run continues, since a disk or a network may be back.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from cxr.core.files import atomic

NAME = ".predictions.part"
AGAIN = "unreadable"  # how the reason of a row begins that is made again


def identity(models: Sequence[str], names: Sequence[str], **more) -> dict:
    """What a run is of: the weights' SHA-256, the files' names, and what else shapes its rows."""
    listing = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    return {"models": list(models), "files": len(names), "listing": listing, **more}


class Part:
    """The part file of a folder, opened. done: the study of each image that need not be predicted again, by number.

    When it is left without an error, it has one row for each image, in the order of the images. Memory: 8 bytes for
    each image, and some 100 for each of an earlier run.
    """

    def __init__(self, folder: Path, run: dict) -> None:
        """Continue the part of the same run, or begin one. A line that was cut off is dropped.

        Raises ValueError when the folder has a part of another run.
        """
        self.path = folder / NAME
        folder.mkdir(parents=True, exist_ok=True)
        head = json.dumps(run, sort_keys=True)
        self.done: dict[int, int] = {}
        self._at = array("q")  # where the last row of each image begins, -1 without one
        self._in_order = True
        keep = 0
        if self.path.is_file():
            with open(self.path, "rb") as file:
                first = file.readline()
                keep = len(first) if first.endswith(b"\n") else 0
                if keep and first.decode(errors="replace").rstrip("\n") != head:
                    raise ValueError(
                        f"{self.path}: is of another run (other models, files or options): give another --out, or "
                        "delete that file"
                    )
                if keep:
                    keep = self._read(file, keep)
        self._file = open(self.path, "r+b" if self.path.is_file() else "w+b")
        self._file.truncate(keep)
        self._file.seek(keep)
        if not keep:
            self._write([head])

    def _read(self, file: BinaryIO, start: int) -> int:
        """Note the whole rows from here on. Returns the byte where they end."""
        for line in file:
            try:
                row = json.loads(line if line.endswith(b"\n") else b"")
                number, study, reason = int(row["number"]), int(row["study"]), row["reason"] or ""
            except (ValueError, KeyError, TypeError):
                break
            self._note(number, start)
            if not reason.startswith(AGAIN):
                self.done[number] = study
            start += len(line)
        return start

    def _note(self, number: int, start: int) -> None:
        self._in_order = self._in_order and number >= len(self._at)
        self._at.extend([-1] * (number + 1 - len(self._at)))
        self._at[number] = start

    def _write(self, lines: Sequence[str]) -> None:
        self._file.write("".join(f"{line}\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def add(self, rows: Sequence[dict]) -> None:
        """Append rows, each with its number, so that they survive the process. A later row replaces an earlier one."""
        lines, start = [json.dumps(row, allow_nan=False) for row in rows], self._file.tell()
        self._write(lines)
        for row, line in zip(rows, lines, strict=True):
            self._note(row["number"], start)
            start += len(line) + 1  # json.dumps gives ASCII

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind, *_) -> None:
        self._file.close()
        if kind is None and not self._in_order:
            self._put_in_order()

    def _put_in_order(self) -> None:
        with atomic(self.path) as temporary, open(self.path, "rb") as old, open(temporary, "wb") as new:
            new.write(old.readline())
            for start in self._at:
                if start >= 0:
                    old.seek(start)
                    new.write(old.readline())

    def remove(self) -> None:
        self.path.unlink()
