"""The descriptions of cxr/cohort/describe.py for tables on Spark: Spark counts, the same functions do the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.cohort import describe
from cxr.core.findings import FINDINGS
from cxr.spark.records import Records, collected

if TYPE_CHECKING:
    from pyspark.sql import Column

STATE = {"positive": 1, "uncertain": -1, "negative": 0}


def table1(records: Records) -> pd.DataFrame:
    """As cohort.describe.table1."""
    counts = label_counts(records)
    return describe.table1_of(counts, int(sum(values[0] for values in counts.values())))


def label_counts(records: Records) -> dict[str, np.ndarray]:
    """The images of each state, an array over FINDINGS."""
    from pyspark.sql import functions as F

    wanted = {(state, f): F.col(f"`{f}`") == value for state, value in STATE.items() for f in FINDINGS}
    wanted |= {("blank", f): F.col(f"`{f}`").isNull() for f in FINDINGS}
    found = records.sums(wanted)
    return {state: np.array([found[state, f] for f in FINDINGS]) for state in describe.STATES}


def cooccurrence(records: Records) -> pd.DataFrame:
    """As cohort.describe.cooccurrence: of at most 2^14 sets of positive findings."""
    from pyspark.sql import functions as F

    bits: Column = sum(
        (F.coalesce((F.col(f"`{f}`") == 1).cast("int"), F.lit(0)) * 2**k for k, f in enumerate(FINDINGS)), F.lit(0)
    )
    sets = collected(records.rows.groupBy(bits.alias("bits")).agg(F.count("*").alias("n")))
    held = (sets["bits"].to_numpy(np.int64)[:, None] >> np.arange(len(FINDINGS))) & 1
    return describe.cooccurrence_of(held.T @ (held * sets["n"].to_numpy(np.int64)[:, None]))


def ages(records: Records) -> pd.DataFrame:
    """As cohort.describe.ages."""
    return describe.ages_of(records.people, records.first)


def summary_chexpert(records: Records) -> dict:
    """As cohort.describe.summary_chexpert."""
    studies = records.rows.select("study_id").where("study_id is not null").distinct().count()
    several = records.patient_sizes[records.patient_sizes.index > 1]
    return describe.summary_chexpert_of(records.people, records.first, studies, int((several.index * several).sum()))


def _boxed(records: Records) -> pd.DataFrame:
    """cohort.describe.boxed."""
    from pyspark.sql import functions as F

    boxes = F.size("boxes")
    return collected(
        records.rows.groupBy("class_name", "view").agg(
            F.count("*").alias("n"),
            F.sum(F.greatest(boxes, F.lit(1))).alias("rows"),
            F.sum(boxes).alias("boxes"),
        )
    )


def rsna_classes(records: Records) -> pd.DataFrame:
    """As cohort.describe.rsna_classes."""
    return describe.rsna_classes_of(_boxed(records))


def summary_rsna(records: Records, patient_key: str) -> dict:
    """As cohort.describe.summary_rsna."""
    sizes = records.patient_sizes if patient_key == "patient" else None
    return describe.summary_rsna_of(records.people, records.first, _boxed(records), sizes)
