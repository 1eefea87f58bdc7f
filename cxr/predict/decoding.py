"""Image files decoded by processes beside the network, a bounded number ahead of it.

The decoder and the resampling are those of the stage resize. A worker process imports neither torch nor pandas.
"""

from __future__ import annotations

import errno
import io
import os
import re
import time
from collections import deque
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr.core.resize import resize
from cxr.data.decode import decode_for
from cxr.data.sources.archive import Tree
from cxr.predict.header import Header, digest, read, study_in, view_in

CHUNK = 16  # files per task
AHEAD = 3  # tasks in flight for each process
UNREAD = (ValueError, OSError)  # what reading a file of a tree raises
# Errors of a disk, a network or this machine that may be gone soon. Others are of the file.
PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN EBUSY ECONNABORTED ECONNRESET EHOSTDOWN EHOSTUNREACH EINTR EIO EMFILE ENETDOWN ENETRESET ENETUNREACH "
        "ENFILE ENOMEM ENOTCONN ENXIO EREMOTEIO ESTALE ETIMEDOUT"
    ).split()
    if hasattr(errno, name)
)
WAITS = (0.5, 2.0)  # seconds before such a file is read again
# What a tree says of a file, without the file's name.
SAID = re.compile(r"has [\d,]+ bytes: more than [\d,]+ are refused|no such file|is a symbolic link")


class Decoded(NamedTuple):
    """One file. number: its place in the source; images: uint8 S x S by size, empty where it is refused or only its
    header was asked for; named: the view that its name states; reason: why it is refused, or None; passing: the
    error of the disk or the network that kept it from being read and may be gone soon, or None.
    """

    number: int
    images: dict[int, np.ndarray]
    header: Header
    named: str | None
    reason: str | None
    passing: str | None = None


class Work(NamedTuple):
    """What every worker knows. key: of the digests."""

    tree: Tree
    sizes: tuple[int, ...]
    key: bytes


Task = list[tuple[int, str, bool]]  # number, name, and whether it is predicted already, so that its header is enough


def decoded(
    tree: Tree, names: Sequence[str], done: Container[int], sizes: Sequence[int], processes: int
) -> Iterator[list[Decoded]]:
    """Every file of the source, in lists of at most CHUNK. done: numbers of those predicted already.

    Those come first, so that all studies known are known before another file is counted to one; each part is in the
    order of the files. Raises ValueError where the source can't be read any more, or memory ran out.
    """
    work = Work(tree, tuple(sorted(set(sizes))), os.urandom(16))
    everything = [(number, name, number in done) for number, name in enumerate(names)]
    everything.sort(key=lambda file: not file[2])
    tasks = [everything[start : start + CHUNK] for start in range(0, len(everything), CHUNK)]
    if processes <= 1 or len(tasks) <= 2:
        yield from (_steady(_chunk(work, task)) for task in tasks)
        return
    with ProcessPoolExecutor(min(processes, len(tasks)), get_context("spawn"), _prepare, (work,)) as pool:
        waiting: deque = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(_work, task))
                if len(waiting) > AHEAD * processes:
                    yield _steady(waiting.popleft().result())
            while waiting:
                yield _steady(waiting.popleft().result())
        except BrokenProcessPool as error:
            raise ValueError(
                "a decoding process was killed, most likely because memory ran out: set --processes to fewer"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _steady(files: list[Decoded]) -> list[Decoded]:
    """The files. Raises ValueError where several of them met an error of the disk or the network: then rows of all the
    files behind them would be wrong, while one file alone may lie on a bad sector.
    """
    if len(errors := [file.passing for file in files if file.passing]) > 1:
        raise ValueError(
            f"the source can't be read now ({errors[-1]}): run the same command again when it can, and it continues "
            "where it stopped"
        )
    return files


_worker: dict[str, Work] = {}


def _prepare(work: Work) -> None:
    _worker["work"] = work


def _work(task: Task) -> list[Decoded]:
    return _chunk(_worker["work"], task)


def _chunk(work: Work, task: Task) -> list[Decoded]:
    return [_one(work, *file) for file in task]


def _one(work: Work, number: int, name: str, done: bool) -> Decoded:
    header, reason, passing = Header(), None, None
    images: dict[int, np.ndarray] = {}
    try:
        if done:
            with work.tree.open(name) as stream:
                header = read(stream, work.key)
        else:
            data = _read(work.tree, name)
            header = read(io.BytesIO(data), work.key)
            reason = header.refused
            if not reason:
                images, reason = _images(data, name, work.sizes)
    except UNREAD as error:
        reason, passing = f"unreadable: {_unread(error)}", None if done else _passing(error, work.tree, name)
    folder = study_in((work.tree.root.absolute() / name).as_posix()) if header.study is None else None
    if folder:
        header = header._replace(study=digest(f"folder {folder}", work.key))
    return Decoded(number, images, header, view_in(name), reason, passing)


def _images(data: bytes, name: str, sizes: Sequence[int]) -> tuple[dict[int, np.ndarray], str | None]:
    """An image file's pixels at each size, or why it is refused."""
    try:
        pictures, largest = decode_for(data, name, sizes), max(sizes)
    except ValueError as error:
        return {}, f"unreadable: {' '.join(str(error).split())[:200]}"
    if (shorter := int(min(pictures[largest].filled))) < largest:
        return {}, f"too small: the shorter side has {shorter} pixels, the model's images {largest}"
    return {size: resize(one.pixels, size, one.filled) for size, one in pictures.items()}, None


def _read(tree: Tree, name: str) -> bytes:
    """The bytes of a file, read again where the error may pass."""
    for wait in WAITS:
        try:
            return tree.read(name)
        except UNREAD as error:
            if _passing(error, tree, name) is None:
                raise
            time.sleep(wait)
    return tree.read(name)


def _passing(error: BaseException, tree: Tree, name: str) -> str | None:
    """In words, an error of PASSING that kept a file from being read; None for another one."""
    error = error.__cause__ or error
    if not isinstance(error, OSError):
        try:  # a tree that looks whether there is a file hears of no error
            os.stat(tree.root if tree.kind == "zip" else tree.root / name)
            return None
        except (OSError, ValueError) as found:
            error = found
    passes = isinstance(error, OSError) and (error.errno in PASSING or (tree.kind != "list" and _gone(tree.root)))
    return os.strerror(error.errno) if passes and error.errno else None


def _gone(root: Path) -> bool:
    """Whether the source that was listed is away, or the empty place where a disk was mounted."""
    try:
        return not root.exists() or (root.is_dir() and not any(root.iterdir()))
    except OSError:
        return True


def _unread(error: BaseException) -> str:
    """Why a file could not be read, in words that hold neither its name, nor a path of this machine, nor anything that
    a .zip says of its members."""
    if said := SAID.search(str(error)):
        return said[0]
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.errno:
        return f"can't be read: {os.strerror(cause.errno)}"
    if isinstance(cause, NotImplementedError):
        return "packed by a method that is not read"
    if isinstance(cause, RuntimeError):
        return "encrypted, or packed by a method that is not read"
    return "damaged, or can't be read" if isinstance(cause, ValueError) else "damaged inside the .zip"
