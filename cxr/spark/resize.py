"""Packing on a Spark cluster: each executor makes whole shards (cxr/data/pack.py), with the bytes of the local pool.

Nothing is shuffled: a task is a shard's names, its result the shard's sums and rejects. Images are read and shards
written where the executor is, by fsspec, so a source and a store at s3:// need no Hadoop library.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cxr.core.files import Progress, atomic, write_table
from cxr.core.store import INDEX, MANIFEST, SHARD, Shard, seal
from cxr.data.pack import Tree, most_rejected, pack_shard, rejects
from cxr.spark.session import cause

if TYPE_CHECKING:
    import pandas as pd
    from pyspark import Accumulator
    from pyspark.sql import SparkSession

Rejects = dict[int, str]  # row of the shard: reason
SCRATCH = ".shard-"  # start of the name of a folder whose files go elsewhere as a whole
# What a stage's stores consist of, by path. images-2.npy: a shard (cxr.core.store.shard_file)
OWN = re.compile(rf"rejected\.csv|\d+/({re.escape(INDEX)}|{re.escape(MANIFEST)}|images(-\d+)?\.npy)")
POLL = 0.5  # seconds between two looks at how far the job is


class Task(NamedTuple):
    """A shard to make: its number, and the names of its images."""

    shard: int
    names: list[str]


class Made(NamedTuple):
    """What an executor says of a shard. by_size: none where no image of it can be read."""

    shard: int
    by_size: dict[int, Shard]
    failed: Rejects


def pack(
    spark: SparkSession,
    tree: Tree,
    records: pd.DataFrame,
    sizes: Sequence[int],
    out: str | os.PathLike,
    max_rejected: float = 1.0,
    shard: int = SHARD,
) -> pd.DataFrame:
    """As cxr.data.pack.pack, on a cluster. out: a folder that the executors share, or an address of fsspec (s3://...).

    Raises ValueError as that does, with the cause when a shard fails on every try, and for an address that holds other
    files than stores. A folder is then as it was; at an address the old stores are gone once the job has begun, and the
    new ones have no manifest, so that nothing opens them.
    """
    sizes, n, limit = sorted(set(sizes)), len(records), most_rejected(len(records), max_rejected)
    names, starts = list(records["path"]), range(0, len(records), shard)
    tasks = [Task(number, names[start : start + shard]) for number, start in enumerate(starts)]
    with _place(os.fspath(out)) as place:
        made = _job(spark, tasks, Maker(tree, place, sizes), n, limit)
        if not is_address(place):
            for left in Path(place).glob(f"{SCRATCH}*"):  # by an executor that died
                shutil.rmtree(left, ignore_errors=True)
        reasons = {starts[m.shard] + row: reason for m in made for row, reason in m.failed.items()}
        rejected = rejects(records, reasons, limit, max_rejected)
        kept = records.iloc[np.setdiff1d(np.arange(n), np.fromiter(reasons, np.int64))][["image_id"]]
        with _scratch(place) as scratch:
            for size in sizes:
                (scratch / str(size)).mkdir()
                seal(scratch / str(size), kept, size, [m.by_size[size] for m in made if m.by_size])
            write_table(scratch / "rejected.csv", rejected)
            deliver(scratch, place)
    return rejected


class Maker:
    """What an executor runs for each task."""

    def __init__(self, tree: Tree, place: str, sizes: Sequence[int]) -> None:
        self.tree, self.place, self.sizes = tree, place, sizes
        self.heard: Accumulator[dict[int, Made]] | None = None

    def __call__(self, task: Task) -> Made:
        with _scratch(self.place) as scratch:
            made = Made(task.shard, *pack_shard(self.tree, scratch, self.sizes, task.shard, task.names))
            deliver(scratch, self.place)
        if self.heard is not None:
            self.heard.add({task.shard: made})
        return made


def _job(spark: SparkSession, tasks: list[Task], maker: Maker, n: int, limit: int) -> list[Made]:
    """Make all shards; they come back in order. Ends early, with what is made, when there are too many rejects."""
    from pyspark.accumulators import AccumulatorParam

    class Union(AccumulatorParam):
        """Of dictionaries: a task that ran twice counts once."""

        def zero(self, value: dict) -> dict:
            return {}

        def addInPlace(self, value1: dict, value2: dict) -> dict:  # noqa: N802
            return value1 | value2

    context, group = spark.sparkContext, f"resize {uuid.uuid4().hex}"
    maker.heard = context.accumulator({}, Union())

    def run() -> list[Made]:
        context.setJobGroup(group, "resize", interruptOnCancel=True)
        return context.parallelize(tasks, len(tasks)).map(maker).collect()

    sizes_of = {task.shard: len(task.names) for task in tasks}
    with ThreadPoolExecutor(1) as pool, Progress("resize", n) as progress:
        job: Future[list[Made]] = pool.submit(run)
        while True:
            ended = wait([job], POLL).done
            heard = maker.heard.value
            progress.update(sum(sizes_of[number] for number in heard) - progress.n)
            failed = sum(len(made.failed) for made in heard.values())
            if not ended and failed > limit and failed >= 10:
                context.cancelJobGroup(group)
                wait([job])
                return [heard[number] for number in sorted(heard)]
            if ended:
                break
    try:
        return job.result()
    except Exception as error:  # Py4J's, whose text is a Java trace around that of Python
        raise ValueError(
            f"Spark could not make a shard: {cause(error)}; the shards of {maker.place} are not whole"
        ) from error


# Where the shards go --------------------------------------------------------------------------------------------------


def is_address(place: str) -> bool:
    """Whether fsspec reaches it, and not the file system."""
    return "://" in place


@contextlib.contextmanager
def _place(out: str) -> Iterator[str]:
    """Where executors write: beside a folder, which is replaced when the block ends; at an address itself, emptied."""
    if not is_address(out):
        with atomic(Path(out).absolute()) as temporary:
            temporary.mkdir()
            yield str(temporary)
        return
    empty(out.rstrip("/"))
    yield out.rstrip("/")


def empty(place: str) -> None:
    """Delete the stores at an address, of any size, manifests first. Raises ValueError, and deletes nothing, for a file
    of something else; and for one that stays.
    """
    import fsspec

    remote, root = fsspec.url_to_fs(place)

    def names() -> list[str]:
        remote.invalidate_cache()
        below = (path.removeprefix(root).lstrip("/") for path in remote.find(root))
        return [name for name in below if name and not name.endswith("/")]  # which marks a folder

    there = names()
    if others := [name for name in there if not OWN.fullmatch(name)]:
        raise ValueError(
            f"{place}/{min(others)} is no part of a store, and what is there is replaced: give an address of its own"
        )
    manifests = [name for name in there if name.endswith(MANIFEST)]
    for part in (manifests, sorted(set(there) - set(manifests))):
        if part:
            remote.rm([f"{root}/{name}" for name in part])
    if left := names():  # s3fs says nothing of a refusal
        raise ValueError(f"{place}/{min(left)}: can't be deleted: check the rights, or give another address")


@contextlib.contextmanager
def _scratch(place: str) -> Iterator[Path]:
    """A folder of this process for files that `deliver` then brings to the place."""
    with TemporaryDirectory(prefix=SCRATCH, dir=None if is_address(place) else place) as folder:
        yield Path(folder)


def deliver(scratch: Path, place: str) -> None:
    """Bring the files of a scratch folder to the place, each as a whole. Manifests come last."""
    files = sorted((file for file in scratch.rglob("*") if file.is_file()), key=lambda file: file.name == MANIFEST)
    if is_address(place):
        import fsspec

        remote, root = fsspec.url_to_fs(place)
        for file in files:
            remote.put_file(str(file), f"{root}/{file.relative_to(scratch).as_posix()}")
        return
    for file in files:
        target = Path(place) / file.relative_to(scratch)
        target.parent.mkdir(exist_ok=True)
        file.replace(target)
