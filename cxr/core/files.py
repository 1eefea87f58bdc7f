"""Atomic writes, readers whose errors name the stage to rerun, checksums, and the progress of a loop.

No torch here: a stage without a network starts at once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import reprlib
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    import pandas as pd
    from pydantic_core import ErrorDetails

    from cxr.core.formats import Format

Model = TypeVar("Model", bound="Format")


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space left, a quota, a limit on the size of a file


class DiskFull(ValueError):
    """The disk has no room to write `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path}: no room left to write it; free some space and run the same command again. "
            f"What was there before is unchanged"
        )


_in_flight: set[Path] = set()  # this process's temporary files; a restarted container may reuse a process id


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, to write a file or a folder to.

    It is renamed to `path` when the block ends without an error, and removed otherwise. Until then `path` keeps its
    old content. Several in one `with` are all renamed or none. Temporary files of a killed process are removed first.
    Raises DiskFull when there is no room to write.
    """
    path = Path(path)
    # numpy and PIL choose the format by the suffix, so the temporary name keeps it.
    stem = f".{path.stem}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(stem + path.suffix)
    _in_flight.add(temporary)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        yield temporary
        if path.is_dir():
            old = path.with_name(stem + ".old")
            path.rename(old)
            try:
                temporary.rename(path)
            except OSError:
                old.rename(path)
                raise
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFull(path) from error
    except DiskFull as error:
        if temporary != error.path and temporary not in error.path.parents:
            raise  # another path of the same `with`
        raise DiskFull(path) from error  # the user does not know the temporary name
    finally:
        _remove(temporary)
        _in_flight.discard(temporary)


def _sweep(path: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(path.stem)}-(\d+)-[0-9a-f]{{8}}({re.escape(path.suffix)}|\.old)")
    for left in path.parent.iterdir():
        if (match := pattern.fullmatch(left.name)) and left not in _in_flight:
            if int(match[1]) == os.getpid() or not _runs(int(match[1])):
                _remove(left)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Format | dict) -> None:
    """Write a model, or nested dicts and lists, as JSON, atomically. The order of the keys is kept.

    Fields of a model that were not set are left out. Raises ValueError for NaN and infinity.
    """
    if not isinstance(value, dict):
        value = value.model_dump(exclude_unset=True)
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write a table without its index as .parquet or .csv, atomically. A CSV has six significant digits."""
    path = Path(path)
    assert path.suffix in (".parquet", ".csv"), path
    with atomic(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def _cure(stage: str | None) -> str:
    return f"`dvc repro -f {stage}` makes it again" if stage else "run the stage that makes it again"


def unreadable(path: Path, kind: str, stage: str | None, error: Exception) -> ValueError:
    """The ValueError for a missing or damaged file of an earlier stage. It names the file and the stage to rerun."""
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{path}: no such file; " + (f"`dvc repro {stage}` makes it" if stage else _cure(stage)))
    return ValueError(f"{path}: no readable {kind}; {_cure(stage)}")


def read_table(
    path: str | os.PathLike, stage: str | None = None, columns: Sequence[str] = (), **options
) -> pd.DataFrame:
    """A .parquet or .csv table of an earlier stage. options: of pandas.read_csv.

    Raises ValueError when the file is missing, unreadable, or lacks one of `columns`. It names the file and the stage.
    """
    import pandas as pd

    path = Path(path)
    kind = "CSV" if path.suffix == ".csv" else "parquet file"
    try:
        table = pd.read_csv(path, **options) if kind == "CSV" else pd.read_parquet(path)
    except (OSError, ValueError) as error:  # the errors of pyarrow and pandas are ValueErrors
        raise unreadable(path, kind, stage, error) from error
    if lacking := [name for name in columns if name not in table]:
        raise ValueError(f"{path}: column {lacking[0]!r} is missing; {_cure(stage)}")
    return table


def read_json(path: str | os.PathLike, stage: str | None, model: type[Model]) -> Model:
    """A JSON file of an earlier stage, as an instance of its format.

    Raises ValueError when the file is missing, no JSON, or has a wrong key. It names the file, the first wrong key and
    the stage to rerun.
    """
    from pydantic import ValidationError

    path = Path(path)
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise unreadable(path, "JSON", stage, error) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise unreadable(path, "JSON", stage, error) from error
        raise ValueError(f"{path}: {wrong_key(first)}; {_cure(stage)}") from error


def wrong_key(error: ErrorDetails) -> str:
    """What is wrong with a value of a Format, with its key."""
    if error["type"] == "value_error":  # a validator of ours has named the key
        return str(error["ctx"]["error"])
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{key!r} is missing"
    if error["type"] == "extra_forbidden":
        return f"{key!r} is not a key of it"
    return f"{key or 'the file'} is {reprlib.repr(error['input'])}; {error['msg'].replace('Input', 'it', 1)}"


def usable_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file, or of a folder: the names and bytes of its files, sorted by name."""
    path = Path(path)
    if path.is_dir():
        whole = hashlib.sha256()
        for member in sorted(p for p in path.rglob("*") if p.is_file()):
            whole.update(f"{member.relative_to(path).as_posix()} {sha256(member)}\n".encode())
        return whole.hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Progress(tqdm):
    """A loop's progress on stderr: a bar on a terminal, elsewhere a plain line every ten seconds and one at the end."""

    monitor_interval = 0  # no thread beside the loop: it may fork

    def __init__(self, label: str, total: int, unit: str = "images") -> None:
        self.label, self.terminal = label, sys.stderr.isatty()
        options: dict = {"mininterval": 0.2} if self.terminal else {"mininterval": 10, "file": io.StringIO()}
        head = "{desc}: {percentage:3.0f}%|{bar}| " if self.terminal else "{desc}: "
        options["bar_format"] = head + "{n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
        super().__init__(
            desc=label, total=total, unit=f" {unit}", miniters=1, smoothing=0, unit_scale=unit == "bytes", **options
        )

    def skip(self, n: int) -> None:
        """Count n units as done before this run. They do not count into the rate."""
        self.initial += n
        self.n += n

    def line(self, text: str) -> None:
        """Print a line of its own, such as an epoch's result, above the bar."""
        self.write(f"{self.label}: {text}", file=sys.stderr)
        sys.stderr.flush()

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the state. tqdm calls it."""
        if self.terminal:
            super().display(msg, pos)
        elif self.n > self.initial:
            print(self, file=sys.stderr, flush=True)
