"""Packing: a data set's image files, read once and decoded in parallel, into one store (cxr/core/store.py) per size.

The bytes of a store depend on its own size alone, and on no other that is packed beside it.

A shard is made in three steps: `reserve` its files, `fill` their rows, `close` the gaps that unreadable images left.
Here each worker process of a pool fills some rows of a shard; on a Spark cluster an executor takes a whole shard
(`pack_shard`). A shard depends on its rows of the records alone, so the bytes depend neither on the engine nor on the
number of processes, and memory stays flat. Workers use pwrite and not a memory map: on a full disk a map kills the
process.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from cxr.core.files import Progress, atomic, usable_cores, write_table
from cxr.core.resize import resize
from cxr.core.store import SHARD, Shard, header, seal, shard_file, summed
from cxr.data.decode import decode_for

if TYPE_CHECKING:  # a worker process starts without pandas, in a third of the time
    import pandas as pd

CHUNK = 32  # images per task of a worker process
Files = dict[int, Path]  # a shard's file of each size


class Task(NamedTuple):
    """Some rows of a shard. first: the first of them, counted from the shard's; names: of their images."""

    shard: int
    first: int
    names: list[str]


class Tree(Protocol):
    """The files of a data set (cxr/data/sources/archive.py). Each worker process unpickles and opens its own."""

    @property
    def root(self) -> object: ...

    def read(self, name: str) -> bytes: ...


def pack(
    tree: Tree,
    records: pd.DataFrame,
    sizes: Sequence[int],
    folder: str | os.PathLike,
    processes: int | None = None,
    max_rejected: float = 1.0,
    shard: int = SHARD,
) -> pd.DataFrame:
    """Write a store per size, folder/<size>/, and folder/rejected.csv (image_id, path, reason), which is returned too.

    The stores keep the order of the records. processes: default one per core. shard: rows of the records in one.
    Raises ValueError, naming the first ten images, when all images or more than the share max_rejected can't be read.
    Nothing is written then.
    """
    sizes = sorted(set(sizes))
    names, n = list(records["path"]), len(records)
    processes = min(processes or usable_cores(), -(-n // CHUNK))
    limit, starts = most_rejected(n, max_rejected), range(0, n, shard)
    reasons: dict[int, str] = {}
    with atomic(folder) as temporary, Progress("resize", n) as progress:
        for number, start in enumerate(starts):
            reserve(shard_files(temporary, sizes, number), min(shard, n - start))
        tasks = [
            Task(number, row - start, names[row : min(row + CHUNK, start + shard)])
            for number, start in enumerate(starts)
            for row in range(start, min(start + shard, n), CHUNK)
        ]
        for task, failed in zip(tasks, _each(tree, temporary, sizes, tasks, processes), strict=True):
            reasons |= {starts[task.shard] + row: reason for row, reason in failed.items()}
            progress.update(len(task.names))
            if len(reasons) > limit and len(reasons) >= 10:
                break
        rejected = rejects(records, reasons, limit, max_rejected)

        def closed(number: int) -> dict[int, Shard]:
            ours = {row - starts[number] for row in reasons if row // shard == number}
            return close(shard_files(temporary, sizes, number), min(shard, n - starts[number]), ours)

        with ThreadPoolExecutor(processes) as pool:
            shards = list(pool.map(closed, range(len(starts))))
        kept = records.iloc[np.setdiff1d(np.arange(n), np.fromiter(reasons, np.int64))]
        for size in sizes:
            seal(temporary / str(size), kept[["image_id"]], size, [made[size] for made in shards if made])
        write_table(temporary / "rejected.csv", rejected)
    return rejected


def most_rejected(n: int, max_rejected: float) -> int:
    """How many of n images may be unreadable: never all."""
    return min(math.floor(max_rejected * n + 1e-9), n - 1)


def rejects(records: pd.DataFrame, reasons: dict[int, str], limit: int, max_rejected: float) -> pd.DataFrame:
    """The table of rejected images: image_id, path, reason. reasons: by row of the records.

    Raises ValueError, naming the first ten, when there are more than `limit`.
    """
    rejected = records.iloc[list(reasons)][["image_id", "path"]].reset_index(drop=True)
    rejected["reason"] = list(reasons.values())
    if len(rejected) > limit:
        first = "; ".join(f"{row.path}: {row.reason}" for row in rejected.head(10).itertuples())
        raise ValueError(
            f"{len(rejected):,} of {len(records):,} images can't be read (so far), more than the {limit:,} that "
            f"max_rejected {max_rejected:g} allows: mend the files, or raise resize.max_rejected. The first: {first}"
        )
    return rejected


# One shard ------------------------------------------------------------------------------------------------------------


def pack_shard(
    tree: Tree, folder: Path, sizes: Sequence[int], number: int, names: list[str]
) -> tuple[dict[int, Shard], dict[int, str]]:
    """Make a whole shard in folder/<size>/: the shard of each size, none where no image can be read, and the rejects
    {row of the shard: reason}.
    """
    files = shard_files(folder, sizes, number)
    reserve(files, len(names))
    failed: dict[int, str] = {}
    for first in range(0, len(names), CHUNK):
        failed |= fill(tree, files, first, names[first : first + CHUNK])
    return close(files, len(names), failed), failed


def shard_files(folder: Path, sizes: Sequence[int], number: int) -> Files:
    """Where a shard's files lie, by size."""
    return {size: folder / str(size) / shard_file(number) for size in sizes}


def reserve(files: Files, n: int) -> None:
    """Take the disk space of n images before the work starts. Raises ValueError when the disk has no room."""
    for size, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        _reserve(file, len(header(n, size)) + n * size * size)


def fill(tree: Tree, files: Files, first: int, names: list[str]) -> dict[int, str]:
    """Decode images and write them to their rows, from `first` on. Returns the rejects {row: reason}."""
    failed = {}
    streams = {size: os.open(file, os.O_WRONLY) for size, file in files.items()}
    offsets = {size: len(header(1, size)) for size in files}
    try:
        for row, name in enumerate(names, first):
            try:
                pictures = decode_for(tree.read(name), name, files)
            except ValueError as error:
                reason = " ".join(str(error).split()).replace(f"{tree.root}{os.sep}", "")  # no path of this machine
                failed[row] = reason[:300]
                continue
            for size, stream in streams.items():
                pixels = resize(pictures[size].pixels, size, pictures[size].filled)
                if os.pwrite(stream, pixels, offsets[size] + row * size * size) < size * size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(files[size]))
    finally:
        for stream in streams.values():
            os.close(stream)
    return failed


def close(files: Files, n: int, failed: Collection[int]) -> dict[int, Shard]:
    """Move the images of a shard of n rows up over those of rejected ones, and write the headers. Returns the shard of
    each size; none where nothing is left, and no file then.
    """
    kept = [row for row in range(n) if row not in failed]
    if not kept:
        for file in files.values():
            file.unlink()
        return {}
    for size, file in files.items():
        _close_gaps(file, kept, size)
    return {size: summed(file, len(kept), size) for size, file in files.items()}


def _reserve(file: Path, size: int) -> None:
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


def _close_gaps(file: Path, kept: list[int], size: int) -> None:
    head, item = header(len(kept), size), size * size
    with open(file, "r+b") as stream:
        for to, row in enumerate(kept):
            if to != row:
                os.pwrite(
                    stream.fileno(), os.pread(stream.fileno(), item, len(head) + row * item), len(head) + to * item
                )
        stream.write(head)
        stream.truncate(len(head) + len(kept) * item)


# The pool of this machine ---------------------------------------------------------------------------------------------


def _each(
    tree: Tree, folder: Path, sizes: Sequence[int], tasks: list[Task], processes: int
) -> Iterator[dict[int, str]]:
    """The rejects {row of the shard: reason} of each task, in order."""
    if processes <= 1:
        _prepare(tree, folder, sizes)
        yield from map(_work, tasks)
        return
    # A fork would copy locks that threads of this process may hold.
    with ProcessPoolExecutor(processes, get_context("spawn"), _prepare, (tree, folder, sizes)) as pool:
        try:
            yield from pool.map(_work, tasks)
        except BrokenProcessPool as error:
            raise ValueError(
                "a decoding process was killed, most likely because memory ran out: set CXR_PROCESSES to fewer"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_worker: dict = {}  # the tree, folder and sizes of this process


def _prepare(tree: Tree, folder: Path, sizes: Sequence[int]) -> None:
    _worker.update(tree=tree, folder=folder, sizes=sizes)


def _work(task: Task) -> dict[int, str]:
    files = shard_files(_worker["folder"], _worker["sizes"], task.shard)
    return fill(_worker["tree"], files, task.first, task.names)
