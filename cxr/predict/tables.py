"""predictions.csv and predictions.parquet, written in blocks, and findings.csv: what each yes or no is worth."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core.files import atomic
from cxr.core.findings import FINDINGS
from cxr.predict.formats import Finding, Rate
from cxr.predict.model import Predictor
from cxr.predict.verdict import SEVERAL, columns

BLOCK = 2000  # rows held in memory


class Written(NamedTuple):
    """captures, reports: files written; without: predicted images that have no capture: no DICOM, text burned in, no
    study named, or a header that can't be copied.
    """

    captures: int
    reports: int
    without: int


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


def final(rows: Iterable[dict], names: Sequence[str], mixed: set[int]) -> Iterator[dict]:
    """The rows as they are published: with file names, and without predictions of studies with two patients."""
    for row in rows:
        row = {"file": names[row["number"]], **row}
        if row["study"] in mixed and not row["reason"]:
            row = {key: row[key] for key in ("file", "number", "study", "view", "view_from")} | {"reason": SEVERAL}
        yield row


def write(folder: Path, rows: Iterable[dict], models: Sequence[str]) -> Counts:
    """Write both tables of rows (as of `final`), whole or not at all. models: names."""
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
    return {"study": pa.int64(), "probability": pa.float64(), "score": pa.float32()}.get(kind, pa.string())


def status(finding: Finding) -> str:
    """What a finding's probability is: calibrated, or why there is none."""
    if finding.trained_share is None:
        return "not trained on"
    return "calibrated" if finding.slope is not None else "too few validation images"


def findings(models: Sequence[Predictor]) -> pd.DataFrame:
    """A row for each model and finding: status, threshold (a probability), test sensitivity and specificity."""
    rows = []
    for model in models:
        limits = model.thresholds()
        for k, (name, f) in enumerate(zip(FINDINGS, model.calibration.findings.values(), strict=True)):
            rows.append({"model": model.name, "finding": name, "status": status(f), "threshold": limits[k]})
            rows[-1] |= _ends("sensitivity", f.sensitivity) | _ends("specificity", f.specificity)
            counts = ("test_positives", "test_negatives", "valid_positives", "valid_negatives")
            rows[-1] |= {count: getattr(f, count) for count in counts}
    return pd.DataFrame(rows)


def _ends(name: str, rate: Rate | None) -> dict:
    ends = (rate.value, rate.low, rate.high) if rate else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
