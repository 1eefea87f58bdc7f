"""Image files decoded by processes beside the network, a bounded number ahead of it, in the order of the files.

The decoder and the resampling are those of the stage resize. A worker process imports neither torch nor pandas.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from cxr.core.resize import resize
from cxr.data.decode import decode_for
from cxr.data.sources.archive import Tree
from cxr.predict.header import Header, digest, read, study_in, view_in

CHUNK = 16  # files per task
AHEAD = 3  # tasks in flight for each process


class Decoded(NamedTuple):
    """One file. number: its place in the source; images: uint8 S x S by size, empty where it is refused or only its
    header was asked for; named: the view that its name states; reason: why it is refused, or None.
    """

    number: int
    images: dict[int, np.ndarray]
    header: Header
    named: str | None
    reason: str | None


class Work(NamedTuple):
    """What every worker knows. key: of the digests."""

    tree: Tree
    sizes: tuple[int, ...]
    key: bytes


Task = list[tuple[int, str, bool]]  # number, name, and whether it is predicted already, so that its header is enough


def decoded(
    tree: Tree, names: Sequence[str], done: frozenset[int], sizes: Sequence[int], processes: int
) -> Iterator[list[Decoded]]:
    """Every file of the source in order, in lists of at most CHUNK. done: numbers of those predicted already."""
    work = Work(tree, tuple(sorted(set(sizes))), os.urandom(16))
    everything = [(number, name, number in done) for number, name in enumerate(names)]
    tasks = [everything[start : start + CHUNK] for start in range(0, len(everything), CHUNK)]
    if processes <= 1 or len(tasks) <= 2:
        yield from (_chunk(work, task) for task in tasks)
        return
    with ProcessPoolExecutor(min(processes, len(tasks)), get_context("spawn"), _prepare, (work,)) as pool:
        waiting: deque = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(_work, task))
                if len(waiting) > AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ValueError(
                "a decoding process was killed, most likely because memory ran out: set --processes to fewer"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_worker: dict[str, Work] = {}


def _prepare(work: Work) -> None:
    _worker["work"] = work


def _work(task: Task) -> list[Decoded]:
    return _chunk(_worker["work"], task)


def _chunk(work: Work, task: Task) -> list[Decoded]:
    return [_one(work, *file) for file in task]


def _one(work: Work, number: int, name: str, done: bool) -> Decoded:
    header, named, folder = Header(), view_in(name), study_in(name)
    images: dict[int, np.ndarray] = {}
    reason = None
    try:
        if done:
            with work.tree.open(name) as stream:
                header = read(stream, work.key)
        else:
            data = work.tree.read(name)
            header = read(io.BytesIO(data), work.key)
            reason = header.refused
            if not reason:
                pictures, largest = decode_for(data, name, work.sizes), max(work.sizes)
                shorter = int(min(pictures[largest].filled))
                if shorter < largest:
                    reason = f"too small: the shorter side has {shorter} pixels, the model's images {largest}"
                else:
                    images = {size: resize(one.pixels, size, one.filled) for size, one in pictures.items()}
    except (ValueError, OSError) as error:
        reason = f"unreadable: {_public(error, name, work.tree)}"
    if header.study is None and folder:
        header = header._replace(study=digest(f"folder {folder}", work.key))
    return Decoded(number, images, header, named, reason)


def _public(error: ValueError | OSError, name: str, tree: Tree) -> str:
    """The message without the file's name, which the row has or must not have, and without a path of this machine."""
    text = str(error.strerror or "can't be read") if isinstance(error, OSError) else str(error)
    for secret in (str(tree.root / name), name, PurePosixPath(name).name):
        text = text.replace(secret, "the file")
    if tree.root.name:
        text = text.replace(str(tree.root), "the source")
    return " ".join(text.split())[:200]
