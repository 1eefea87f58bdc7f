"""The rows of a run so far, in a file that only grows, so that an interrupted run continues where it stopped.

The first line says what the run is of; then a line of JSON for each image, by its number. No file name is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

NAME = ".predictions.part"


def identity(models: Sequence[str], names: Sequence[str], **more) -> dict:
    """What a run is of: the weights' SHA-256, the files' names, and what else shapes its rows."""
    listing = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    return {"models": list(models), "files": len(names), "listing": listing, **more}


class Part:
    """The part file of a folder, opened. done: numbers of the images that it has."""

    def __init__(self, folder: Path, run: dict) -> None:
        """Continue the part of the same run, or begin one. A line that was cut off is dropped.

        Raises ValueError when the folder has a part of another run.
        """
        self.path = folder / NAME
        folder.mkdir(parents=True, exist_ok=True)
        head = json.dumps(run, sort_keys=True)
        self.done: frozenset[int] = frozenset()
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
                    numbers, keep = _whole(file, keep)
                    self.done = frozenset(numbers)
        self._file = open(self.path, "r+b" if self.path.is_file() else "w+b")
        self._file.truncate(keep)
        self._file.seek(keep)
        if not keep:
            self._write([head])

    def _write(self, lines: Sequence[str]) -> None:
        self._file.write("".join(f"{line}\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def add(self, rows: Sequence[dict]) -> None:
        """Append rows, each with its number, so that they survive the process."""
        self._write([json.dumps(row, allow_nan=False) for row in rows])

    def rows(self) -> Iterator[dict]:
        """All rows in the order in which they were added."""
        with open(self.path, "rb") as file:
            file.readline()
            yield from map(json.loads, file)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def remove(self) -> None:
        self.path.unlink()


def _whole(file: BinaryIO, start: int) -> tuple[list[int], int]:
    """(numbers of the whole rows from here on, the byte where they end)."""
    numbers, end = [], start
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            numbers.append(int(json.loads(line)["number"]))
        except (ValueError, KeyError, TypeError):
            break
        end += len(line)
    return numbers, end
