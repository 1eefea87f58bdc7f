"""predictions.csv and predictions.parquet, written in blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core.files import atomic
from cxr.predict.worth import columns

BLOCK = 2000  # rows held in memory


class Written(NamedTuple):
    """captures, reports: files written. uncaptured, unreported: predicted images and their studies that have none: no
    DICOM, text burned in, no study named, or a header that can't be copied.
    """

    captures: int
    reports: int
    uncaptured: int
    unreported: int


class Counts(NamedTuple):
    """refused: number of images by the first words of their reason; dicom: what was written for a PACS; fhir: number of
    FHIR reports written.
    """

    images: int
    refused: dict[str, int]
    dicom: Written | None = None
    fhir: int | None = None

    @property
    def accepted(self) -> int:
        return self.images - sum(self.refused.values())


def write(folder: Path, rows: Iterable[dict], models: Sequence[str]) -> Counts:
    """Write both tables of rows (as of published.py), whole or not at all. models: names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = columns(models)
    schema = pa.schema([(name, _type(name)) for name in wanted])
    images, refused = 0, dict[str, int]()
    rows = iter(rows)
    with atomic(folder / "predictions.csv") as csv, atomic(folder / "predictions.parquet") as parquet:
        with pq.ParquetWriter(parquet, schema) as writer, open(csv, "w", encoding="utf-8", newline="") as text:
            head = True
            while block := list(itertools.islice(rows, BLOCK)):
                images += len(block)
                for reason in (row["reason"] for row in block if row["reason"]):
                    kind = reason.partition(":")[0]
                    refused[kind] = refused.get(kind, 0) + 1
                plain = [{name: row.get(name) for name in wanted} for row in block]
                writer.write_table(pa.Table.from_pylist(plain, schema))
                frame = pd.DataFrame(plain, columns=wanted)
                frame.to_csv(text, index=False, header=head, float_format="%.6g", lineterminator="\n")
                head = False
    return Counts(images, refused)


def _type(column: str):
    import pyarrow as pa

    kind = column.rpartition("/")[2].partition(".")[0]
    shares = dict.fromkeys(("probability", "sensitivity", "specificity"), pa.float64())
    return (shares | {"study": pa.int64(), "score": pa.float32()}).get(kind, pa.string())
