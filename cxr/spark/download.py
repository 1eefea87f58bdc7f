"""Reading a data set's tables on Spark: the records of cxr/data/sources, byte for byte, where no memory holds them.

The driver cuts each table into pieces of whole rows, and executors read the pieces by the functions that read a whole
table. To find what stands twice, one column is shuffled. The records then pass the driver in order, some at a time: it
has the list of the source's files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from cxr.core.findings import FINDINGS
from cxr.core.records import COLUMNS
from cxr.data.sources import chexpert, chexpert_test, dicom_headers, label_csv, layout, pieces, registry, rsna
from cxr.data.sources.archive import Tree
from cxr.data.sources.chexpert import UNREAD
from cxr.data.sources.dataset import Dataset, Given, Reading
from cxr.data.sources.schema import conform
from cxr.spark.session import cause

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

HEADERS = 256  # DICOM headers of a task
SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST, LABELS = range(4)  # the tables; the last only gives labels
LINE = 40  # bits of `at` for the line in its table
ROW = COLUMNS["chexpert"]
# What an executor makes of a row: its record, where it stands, and UNREAD. Of a piece with a fault it makes one row.
READ = (*ROW, "at", *UNREAD.values(), "fault")
CELL = 10_000  # rows packed in a cell
FEW = 10  # images or patients that a message names
PACKED = "rows binary"


def read(spark: SparkSession, dataset: Dataset, tree: Tree, given: Given) -> Reading | OnCluster:
    """As registry.read, for CheXpert and RSNA. The executors must reach what the tree reads.

    Of RSNA the executors read the images' headers; its tables have 30,227 rows. The records are there as long as the
    session. Raises ValueError as the local reader does, in its words.
    """
    registry.check(dataset, tree, given)
    with _failures():
        if dataset is rsna.DATASET:
            table = rsna.tables(tree)[0]
            return rsna.read_all(tree, given, lambda tree, names: _headers(spark, tree, names, table))
        return _chexpert(spark, tree, given)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Raise ValueError for what fails on the cluster."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # Py4J's and Spark's own; an OSError where Java has ended
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            raise
        raise ValueError(f"Spark could not read the tables: {cause(error)}") from error


def _headers(spark: SparkSession, tree: Tree, names: list[str], table: str) -> list[dicom_headers.Header]:
    """dicom_headers.read_headers by the executors. table: a file that can be read. An executor that can't read it does
    not reach the source, and its headers would all seem damaged.
    """

    def read(chunk: list[str]) -> list[dicom_headers.Header]:
        tree.part(table, 0, 1)
        return dicom_headers.headers(tree, chunk)

    chunks = [names[start : start + HEADERS] for start in range(0, len(names), HEADERS)]
    made = spark.sparkContext.parallelize(chunks, len(chunks)).map(read)
    return [header for part in made.collect() for header in part]


# CheXpert -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OnCluster:
    """A data set whose records are on the cluster, and not in this process's memory.

    packed: the records before `conform`, in order; elsewhere: the files of the images that do not lie where their table
    says, by what it says; patients: how many the records show. The rest: as of Reading.
    """

    packed: DataFrame
    elsewhere: dict[str, str]
    patients: int
    tables: list[str]
    notes: list[str]
    manifest: dict[str, str]
    beside: dict[str, pd.DataFrame]

    def parts(self) -> Iterator[pd.DataFrame]:
        for part in _streamed(self.packed, ROW):
            part["path"] = [self.elsewhere.get(path, path) for path in part["path"]]
            yield conform(part, "chexpert")


class Places(NamedTuple):
    """Where each row stands: the names of two tables, and a text for each row of the official test set."""

    train: str
    valid: str
    test: list[str]

    def of(self, at: int) -> str:
        number, line = at >> LINE, at & (1 << LINE) - 1
        return self.test[line] if number == TEST else f"{self[number]} line {line}"


def _chexpert(spark: SparkSession, tree: Tree, given: Given) -> OnCluster:
    """As chexpert.read_all."""
    from pyspark import StorageLevel

    labels = given.labels or chexpert.TABLES[0]
    train, relabel, valid = chexpert.images_and_labels(tree, labels)
    packed = _table(spark, tree, train, TRAIN)
    if relabel:
        packed = _relabelled(packed, _table(spark, tree, relabel, LABELS), relabel)
    packed = packed.union(_table(spark, tree, valid, VALID))
    test, notes = chexpert_test.read(tree)
    if test is not None:
        rows = test.reset_index(drop=True)
        cells = _pack(_batch(rows.assign(at=(TEST << LINE) + rows.index)))
        packed = packed.union(spark.createDataFrame([(cell,) for cell in cells.column(0).to_pylist()], PACKED))
    places = Places(train, valid, [] if test is None else test["place"].tolist())
    rows = _unpacked(packed, "at", "image_id", "patient_id", "path", "official_split").persist(StorageLevel.DISK_ONLY)
    patients = _patients(rows)
    if twice := _twice(rows, "image_id"):  # as every path that stands twice does; the local reader names that first
        value, first, second = _twice(rows, "path") or twice
        raise ValueError(chexpert.stands_twice(value, places.of(first), places.of(second)))
    studies = pd.Series([] if test is None else test["study_id"], dtype="str").drop_duplicates()
    return OnCluster(
        packed,
        _elsewhere(tree, packed, places),
        patients,
        notes=notes,
        **chexpert.beside_records(tree, labels, studies),
    )


def _type(name: str) -> str:
    return "long" if name == "at" else "float" if name in ("age", *FINDINGS) else "string"


def _schema(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}` {_type(name)}" for name in names)


def _table(spark: SparkSession, tree: Tree, name: str, number: int) -> DataFrame:
    """READ of the rows of a table, packed, in order. Raises ValueError for what is wrong with one, or with a column."""
    from pyspark import StorageLevel
    from pyspark.sql import functions as F

    reader = Reader(tree, number, [piece for piece, _ in pieces.each(tree, name, _columns(number))])
    n = len(reader.pieces)
    task = spark.sparkContext.parallelize(range(n), n).map(lambda k: (k,)).toDF("task int")
    packed = task.mapInArrow(reader, PACKED).persist(StorageLevel.DISK_ONLY)
    first = {name: F.min(F.when(F.col(name).isNotNull(), F.struct("at", name))) for name in (*UNREAD.values(), "fault")}
    found = (
        _unpacked(packed, "at", *map(str.lower, UNREAD), *first)
        .agg(
            F.count("*").alias("n"),
            *(F.count(column.lower()).alias(column) for column in UNREAD),
            *(value.alias(cell) for cell, value in first.items()),
        )
        .first()
    )
    if found["fault"]:
        raise ValueError(found["fault"]["fault"])
    if not found["n"]:
        raise ValueError(label_csv.without_rows(name))
    for column, unread in UNREAD.items():
        if found[unread] and not found[column]:
            at, cell = found[unread]
            form = chexpert.PERSON[column][1]
            raise ValueError(label_csv.none_understood(name, at & (1 << LINE) - 1, column, cell, form))
    return packed


def _columns(number: int) -> Sequence[str]:
    return chexpert.LABEL_COLUMNS if number == LABELS else chexpert.COLUMNS


class Reader:
    """What an executor runs: the numbers of pieces -> READ of their rows, packed."""

    def __init__(self, tree: Tree, number: int, table: list[pieces.Piece]) -> None:
        self.tree, self.number, self.pieces = tree, number, table

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column(0).to_pylist():
                yield _pack(_batch(self._read(self.pieces[task])))

    def _read(self, piece: pieces.Piece) -> pd.DataFrame:
        data = self.tree.part(piece.name, piece.start, piece.length)  # what fails here is tried again
        start = self.number << LINE
        try:
            cells = pieces.rows(data, piece, _columns(self.number))
            if cells.empty:
                return pd.DataFrame()
            if self.number == LABELS:
                return chexpert.label_rows(cells, piece.name).assign(at=start + cells.index)
            rows = chexpert.record_rows(cells, piece.name)
            return rows.assign(official_split=SPLITS[self.number], at=start + rows.index)
        except ValueError as error:
            return pd.DataFrame({"at": [start + piece.lines], "fault": [str(error)]})


def _batch(rows: pd.DataFrame) -> pa.RecordBatch:
    """Rows as Arrow, with the columns READ. Those that are not there, and NaN, are null."""
    import pyarrow as pa

    types = {"long": pa.int64(), "float": pa.float32(), "string": pa.string()}
    columns = {}
    for name in READ:
        kind = types[_type(name)]
        if name in rows:
            column = rows[name].astype("float32") if kind == pa.float32() else rows[name]
            columns[name] = pa.array(column, kind, from_pandas=True)
        else:
            columns[name] = pa.nulls(len(rows), kind)
    return pa.RecordBatch.from_pydict(columns)


def _relabelled(train: DataFrame, labels: DataFrame, name: str) -> DataFrame:
    """As chexpert._relabelled, of packed rows."""
    from pyspark import StorageLevel

    images, labelled = (
        _unpacked(packed, "at", "image_id").persist(StorageLevel.DISK_ONLY) for packed in (train, labels)
    )
    if twice := _twice(labelled, "image_id"):
        raise ValueError(chexpert.label_twice(name, twice[2] & (1 << LINE) - 1, twice[0]))
    lacking, others = _without(images, labelled), _without(labelled, images)
    if lacking[1] or others[1]:
        raise ValueError(chexpert.other_images(name, images.count(), lacking, others))
    rows = _unpacked(train, *(column for column in ROW if column not in FINDINGS), "at")
    joined = rows.join(_unpacked(labels, "image_id", *FINDINGS), "image_id").orderBy("at")
    return joined.mapInArrow(_pack_all, PACKED).persist(StorageLevel.DISK_ONLY)


def _without(rows: DataFrame, others: DataFrame) -> tuple[list[str], int]:
    """The first images of rows that others lack, and how many there are."""
    alone = rows.join(others.select("image_id"), "image_id", "left_anti")
    return [row["image_id"] for row in alone.orderBy("at").limit(FEW).collect()], alone.count()


def _patients(rows: DataFrame) -> int:
    """How many patients there are. Raises ValueError, as chexpert._check_patients, for one in two tables."""
    from pyspark.sql import functions as F

    there = [F.max((F.col("official_split") == split).cast("int")).alias(split) for split in SPLITS]
    each, several = rows.groupBy("patient_id").agg(*there), F.expr(f"{' + '.join(SPLITS)} > 1")
    n, shared = each.agg(F.count("*"), F.sum(several.cast("int"))).first()
    for one, other in combinations(SPLITS, 2) if shared else ():
        both = each.where(f"{one} + {other} = 2")
        if patients := [row["patient_id"] for row in both.orderBy("patient_id").limit(FEW).collect()]:
            raise ValueError(chexpert.in_both(one, other, patients, both.count()))
    return n


def _twice(rows: DataFrame, column: str) -> tuple[str, int, int] | None:
    """Of the values that stand twice the one whose second row comes first, and where its first two rows stand."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    several = rows.groupBy(column).agg(F.count("*").alias("n")).where("n > 1").select(column)
    if several.first() is None:
        return None
    in_order = Window.partitionBy(column).orderBy("at")
    pairs = rows.join(several, column, "left_semi").select(
        column, F.lag("at").over(in_order).alias("first"), F.col("at").alias("second")
    )
    value, first, second = pairs.where("first is not null").orderBy("second").first()
    return value, first, second


def _elsewhere(tree: Tree, packed: DataFrame, places: Places) -> dict[str, str]:
    """The files of the images that do not lie where their table says, by what it says. Raises ValueError for images
    that lie nowhere.
    """
    names = tree.names()
    missing = [path for part in _streamed(packed, ["path"]) for path in part["path"] if path not in names]
    elsewhere = layout.find(tree, missing, layout.study_key) if missing else {}
    if lost := [path for path in missing if path not in elsewhere]:
        n, first, there, gone = 0, list[str](), set[str](), set(lost)
        for part in _streamed(packed, ["at", "image_id", "path", "official_split"]):
            n, away = n + len(part), part["path"].isin(gone)
            few = part.loc[away, ["at", "image_id"]].head(FEW - len(first))
            first += [f"{places.of(at)} {image}" for at, image in few.to_numpy()]
            there |= set(part.loc[~away, "official_split"])
        raise ValueError(chexpert.no_files(tree, lost, first, n, "train" in there))
    return elsewhere


# Rows travel packed: a cell holds some rows as Arrow writes them. So Spark turns no label of an image into an object of
# Java's, and takes out of the cells the few columns that it compares.


def _pack(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows as cells of CELL rows."""
    import pyarrow as pa

    cells, options = [], pa.ipc.IpcWriteOptions(compression="zstd")  # a sixth: labels are few values
    for start in range(0, batch.num_rows, CELL):
        with pa.BufferOutputStream() as sink:
            with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
                stream.write_batch(batch.slice(start, CELL))
            cells.append(sink.getvalue().to_pybytes())
    return pa.RecordBatch.from_pydict({"rows": pa.array(cells, pa.binary())})


def _pack_all(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """As _pack, of several."""
    return map(_pack, batches)


def _open(cell: bytes, columns: Sequence[str]) -> pa.RecordBatch:
    """Columns of the rows in a cell."""
    import pyarrow as pa

    with pa.ipc.open_stream(cell) as stream:
        return stream.read_next_batch().select(list(columns))


def _open_all(columns: Sequence[str], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Columns of the rows in batches of cells."""
    for batch in batches:
        for cell in batch.column(0):
            yield _open(cell.as_buffer(), columns)


def _unpacked(packed: DataFrame, *columns: str) -> DataFrame:
    """Columns of packed rows."""
    return packed.mapInArrow(partial(_open_all, columns), _schema(columns))


def _streamed(packed: DataFrame, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Columns of packed rows in this process, in order, some rows at a time."""

    def fewer(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _pack_all(_open_all(columns, batches))

    with _failures():
        for row in packed.mapInArrow(fewer, PACKED).toLocalIterator():
            yield _open(bytes(row[0]), columns).to_pandas()
