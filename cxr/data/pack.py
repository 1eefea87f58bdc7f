"""Packing: a data set's image files, decoded once and in parallel, into one store (cxr/core/store.py) per size.

Each worker process writes its images to their own places in the files. So the bytes do not depend on the number of
processes, and memory stays flat. Workers use pwrite and not a memory map: on a full disk a map kills the process.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cxr.core.files import Progress, atomic, usable_cores, write_table
from cxr.core.resize import resize
from cxr.core.store import checksums, header
from cxr.data.decode import decode

if TYPE_CHECKING:  # a worker process starts without pandas, in a third of the time
    import pandas as pd

CHUNK = 32  # images per task of a worker process
Task = tuple[int, list[str]]  # the first row, and the names of it and the rows after it


class Tree(Protocol):
    """The files of a data set (cxr/data/sources/archive.py). Each worker process unpickles and opens its own."""

    def read(self, name: str) -> bytes: ...


def pack(
    tree: Tree,
    records: pd.DataFrame,
    sizes: Sequence[int],
    folder: str | os.PathLike,
    processes: int | None = None,
    max_rejected: float = 1.0,
) -> pd.DataFrame:
    """Write a store per size, folder/<size>/, and folder/rejected.csv (image_id, path, reason), which is returned too.

    The stores keep the order of the records. processes: default one per core. Raises ValueError, naming the first ten
    images, when all images or more than the share max_rejected can't be read. Nothing is written then.
    """
    sizes = sorted(set(sizes))
    names, n = list(records["path"]), len(records)
    processes = min(processes or usable_cores(), -(-n // CHUNK))
    limit = min(math.floor(max_rejected * n + 1e-9), n - 1)
    reasons: dict[int, str] = {}
    with atomic(folder) as temporary, Progress("resize", n) as progress:
        files = {size: temporary / str(size) / "images.npy" for size in sizes}
        for size, file in files.items():
            file.parent.mkdir(parents=True)
            _reserve(file, len(header(n, size)) + n * size * size)
        tasks = [(start, names[start : start + CHUNK]) for start in range(0, n, CHUNK)]
        for done, failed in _each(tree, files, n, tasks, processes):
            reasons |= failed
            progress.update(done)
            if len(reasons) > limit and len(reasons) >= 10:
                break
        rejected = records.iloc[list(reasons)][["image_id", "path"]].reset_index(drop=True)
        rejected["reason"] = list(reasons.values())
        if len(rejected) > limit:
            first = "; ".join(f"{row.path}: {row.reason}" for row in rejected.head(10).itertuples())
            raise ValueError(
                f"{len(rejected):,} of {n:,} images can't be read (so far), more than the {limit:,} that max_rejected "
                f"{max_rejected:g} allows: mend the files, or raise resize.max_rejected. The first: {first}"
            )
        kept = np.setdiff1d(np.arange(n), np.fromiter(reasons, np.int64))
        for size, file in files.items():
            _close_gaps(file, n, kept, size)
            index = records.iloc[kept][["image_id"]].assign(crc32=checksums(file, len(kept), size))
            write_table(file.with_name("index.parquet"), index)
        write_table(temporary / "rejected.csv", rejected)
    return rejected


def _reserve(file: Path, size: int) -> None:
    """Take the disk space before the work starts. Raises ValueError when the disk has no room."""
    with open(file, "wb") as stream:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)
            else:
                stream.truncate(size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise ValueError(f"the disk of {file.parents[2]} has no room for a store of {size:,} bytes") from error


def _close_gaps(file: Path, n: int, kept: np.ndarray, size: int) -> None:
    """Move images up over the rows of rejected ones, then write the header."""
    head, item = header(len(kept), size), size * size
    assert len(head) == len(header(n, size))
    with open(file, "r+b") as stream:
        for to, row in enumerate(kept.tolist()):
            if to != row:
                os.pwrite(
                    stream.fileno(), os.pread(stream.fileno(), item, len(head) + row * item), len(head) + to * item
                )
        stream.write(head)
        stream.truncate(len(head) + len(kept) * item)


def _each(
    tree: Tree, files: dict[int, Path], n: int, tasks: list[Task], processes: int
) -> Iterator[tuple[int, dict[int, str]]]:
    """The number of images and the rejects {row: reason} of each task, in order."""
    if processes <= 1:
        _prepare(tree, files, n)
        yield from map(_work, tasks)
        return
    # A fork would copy locks that threads of this process may hold.
    with ProcessPoolExecutor(processes, get_context("spawn"), _prepare, (tree, files, n)) as pool:
        try:
            yield from pool.map(_work, tasks)
        except BrokenProcessPool as error:
            raise ValueError(
                "a decoding process was killed, most likely because memory ran out: set CXR_PROCESSES to fewer"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_worker: dict = {}  # the tree, files and offsets of this process


def _prepare(tree: Tree, files: dict[int, Path], n: int) -> None:
    _worker.update(tree=tree, files=files, offsets={size: len(header(n, size)) for size in files})


def _work(task: Task) -> tuple[int, dict[int, str]]:
    """Decode the images of one task and write them. Returns their number and the rejects {row: reason}."""
    start, names = task
    tree, files, offsets = _worker["tree"], _worker["files"], _worker["offsets"]
    failed = {}
    streams = {size: os.open(file, os.O_WRONLY) for size, file in files.items()}
    try:
        for row, name in enumerate(names, start):
            try:
                picture = decode(tree.read(name), name, max(files))
            except ValueError as error:
                reason = " ".join(str(error).split()).replace(f"{tree.root}{os.sep}", "")  # no path of this machine
                failed[row] = reason[:300]
                continue
            for size, stream in streams.items():
                written = os.pwrite(
                    stream, resize(picture.pixels, size, picture.filled), offsets[size] + row * size * size
                )
                if written < size * size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(files[size]))
    finally:
        for stream in streams.values():
            os.close(stream)
    return len(names), failed
