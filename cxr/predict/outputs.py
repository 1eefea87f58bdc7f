"""What predict writes into its output folder: no run reads that as a source, nor leaves an earlier run's part of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

# The folders that an option asks for, by the option's name: what the files in them are called.
FOLDERS = {"dicom": r"(?:image|study)-\d{6,}\.dcm", "fhir": r"study-\d{6,}\.json"}
LOCK = ".predictions.lock"
WRITTEN = re.compile(
    r"predictions\.(?:csv|parquet|html)|findings\.csv|\.predictions\.(?:part|lock)"
    + "".join(f"|{folder}/{file}" for folder, file in FOLDERS.items())
    + rf"|\.(?:predictions|findings|{'|'.join(FOLDERS)})-\d+-[0-9a-f]{{8}}(?:\.\w+)?(?:/.*)?"  # of a killed run
)


def is_written(name: str) -> bool:
    """Whether predict calls a file so. name: posix, relative to the output folder."""
    return bool(WRITTEN.fullmatch(name))


def check_earlier(out: Path, **asked: bool) -> None:
    """Refuse an output folder where files of an earlier run, which may name patients, would stay beside this run's.

    asked: whether this run writes a folder, by its name in FOLDERS; then it replaces the earlier one. Raises
    ValueError.
    """
    for name, file in FOLDERS.items():
        folder = out / name
        if asked[name] or not folder.is_dir():
            continue
        if any(re.fullmatch(file, path.name) for path in folder.iterdir()):
            raise ValueError(
                f"{folder}: is of an earlier run with --{name}, and would stay beside what this run writes: delete it, "
                f"give another --out, or add --{name}"
            )


def check_replaceable(folder: Path, files: Iterable[Path]) -> None:
    """Raises ValueError where replacing `folder`, of FOLDERS, would lose what no run of predict wrote, or one of the
    source's files.
    """
    if not os.path.lexists(folder):
        return
    cure = "give another --out, or move it"
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"{folder}: is no folder, and a folder of this name is to be written: {cure}")
    others = [path.name for path in folder.iterdir() if not re.fullmatch(FOLDERS[folder.name], path.name)]
    if others:
        raise ValueError(f"{folder}: would be replaced, and holds {min(others)}, which predict did not write: {cure}")
    target = os.path.realpath(folder)
    for parent in {file.parent for file in files}:
        if os.path.commonpath([target, os.path.realpath(parent)]) == target:
            raise ValueError(f"{folder}: would be replaced, and holds files of the source: {cure}")


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other runs out of the output folder, which is made, and removed where nothing is written into it. Raises
    ValueError where one writes into it now.
    """
    from filelock import FileLock, Timeout

    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{out}: another run of predict writes into it: wait until it ends, or give another --out"
        ) from None
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)  # while it is held: filelock notices that its file has gone
        lock.release()
        if is_new:
            with contextlib.suppress(OSError):  # it holds what the run wrote
                out.rmdir()
