"""Record tables on Spark: the columns of cxr/core/records.py, and `at`, a row's place in the table's order.

NaN and null are both unknown in a record table; here they are null. pandas reads a table of several files in the order
of their names, so `at` counts the files by name, and the rows in each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxr.core.findings import FINDINGS
from cxr.core.records import COLUMNS
from cxr.spark.session import cause

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

ROWS = 36  # bits of `at` for the row in its file
SEX, SPLITS = ("F", "M"), ("train", "valid", "test")


@dataclass(frozen=True)
class Records:
    """Some rows of a table. What several descriptions need is counted once."""

    rows: DataFrame

    def part(self, split: str) -> Records:
        """The rows of one official split."""
        from pyspark.sql import functions as F

        return Records(self.rows.where(F.col("official_split") == split))

    def __len__(self) -> int:
        return int(self.people["n"].sum())

    @cached_property
    def people(self) -> pd.DataFrame:
        """cohort.describe.people of all images."""
        from pyspark.sql import functions as F

        from cxr.cohort.describe import PERSON

        return collected(self.rows.groupBy(*PERSON).agg(F.count("*").alias("n")))

    @cached_property
    def first(self) -> pd.DataFrame:
        """cohort.describe.people of each patient's first image."""
        from pyspark.sql import functions as F

        from cxr.cohort.describe import PERSON

        one = F.min(F.struct("at", *PERSON)).alias("one")
        each = self.rows.groupBy("patient_id").agg(one)
        return collected(
            each.groupBy(*(F.col(f"one.{name}").alias(name) for name in PERSON)).agg(F.count("*").alias("n"))
        )

    @cached_property
    def patient_sizes(self) -> pd.Series:
        """The number of patients by their number of images."""
        from pyspark.sql import functions as F

        each = self.rows.groupBy("patient_id").agg(F.count("*").alias("images"))
        counted = collected(each.groupBy("images").agg(F.count("*").alias("n")))
        return counted.set_index("images")["n"]

    def sums(self, columns: dict[str, Column]) -> dict[str, int]:
        """Of each number or truth, its sum over the rows."""
        from pyspark.sql import functions as F

        row = self.rows.agg(*(F.sum(c.cast("long")).alias(str(k)) for k, c in enumerate(columns.values()))).first()
        return {name: row[k] or 0 for k, name in enumerate(columns)}


def load(spark: SparkSession, path: str | os.PathLike, dataset: str) -> Records:
    """The records that the download stage wrote: a file, or a folder of such files, where Spark reads it.

    Raises ValueError, as cxr.core.records.load does, for a missing, damaged or wrong table.
    """
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    cure = f"`dvc repro -f download@{dataset}` makes it again"
    place = os.fspath(path) if "://" in os.fspath(path) else str(Path(path).absolute())
    try:
        table = spark.read.parquet(place)
        files = sorted(row[0] for row in table.select("_metadata.file_path").distinct().collect())
    except Exception as error:  # Spark's own, and Java's through Py4J
        missing = isinstance(error, AnalysisException) and "PATH_NOT_FOUND" in str(error)
        raise ValueError(
            f"{path}: {'no such file' if missing else f'no readable parquet file ({cause(error)})'}; {cure}"
        ) from error
    if lacking := [name for name in COLUMNS[dataset] if name not in table.columns]:
        raise ValueError(f"{path}: column {lacking[0]!r} is missing; {cure}")
    numbers = ("age", *(FINDINGS if dataset == "chexpert" else ()))
    known = [
        F.when(~F.isnan(name), F.col(name)).alias(name) if name in numbers else F.col(name) for name in COLUMNS[dataset]
    ]
    row = F.col("_metadata.row_index")
    if len(files) == 1:
        rows = table.select(*known, row.alias("at"))
    else:
        named = spark.createDataFrame(list(zip(files, range(len(files)), strict=True)), "file string, number long")
        rows = table.select(*known, row.alias("row"), F.col("_metadata.file_path").alias("file"))
        rows = rows.join(F.broadcast(named), "file").withColumn("at", F.shiftleft("number", ROWS) + F.col("row"))
    records = Records(rows.select(*COLUMNS[dataset], "at"))
    twice = records.rows.groupBy("image_id").agg(F.count("*").alias("n")).where("n > 1").select("image_id").limit(1)
    if name := twice.first():
        raise ValueError(f"{path}: image_id {name[0]!r} stands twice; {cure}")
    return records


def collected(counts: DataFrame) -> pd.DataFrame:
    """A small table of counts in this process's memory."""
    rows = counts.collect()
    return pd.DataFrame({name: column(row[k] for row in rows) for k, name in enumerate(counts.columns)})


def column(values: Iterable) -> list | pd.Series:
    """Values as pandas keeps them: unknown numbers are NaN, unknown texts None."""
    values = list(values)
    numbers = all(value is None or isinstance(value, int | float) for value in values)
    if numbers and any(value is None or isinstance(value, float) for value in values):
        return pd.Series(values, dtype="float64").astype("float32")  # as records.parquet has them
    return pd.Series(values, dtype="int64" if numbers else "object")
