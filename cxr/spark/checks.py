"""The data checks of cxr/cohort/checks.py for tables on Spark.

What a row says of itself is counted in one pass for all checks. What a patient, a study or a path says needs the rows
of each together: one shuffle, of numbers and the key. Only where something is found is the table read again, for the
first examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from cxr.cohort import checks
from cxr.cohort.checks import Cases
from cxr.cohort.describe import OLDEST
from cxr.core.findings import CLASSES, FINDINGS
from cxr.spark.describe import label_counts
from cxr.spark.records import SEX, SPLITS, Records

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def chexpert(records: Records) -> pd.DataFrame:
    """As cohort.checks.chexpert."""
    from pyspark.sql import functions as F

    label = {f: F.col(f"`{f}`") for f in FINDINGS}
    pathology = [label[f] for f in FINDINGS if f not in checks.NOT_PATHOLOGY]
    frontal = F.col("projection").eqNullSafe("frontal")
    normal = label["No Finding"] == 1
    found = _people(records) | _rows(
        records,
        {
            "No Finding with a pathology": normal & _any(value == 1 for value in pathology),
            "No Finding with an uncertain pathology": normal & _any(value == -1 for value in pathology),
            "file name says another projection": F.when(frontal, F.col("image_id").contains("lateral")).otherwise(
                F.col("image_id").contains("frontal")
            ),
            "frontal with a lateral view": frontal & F.col("view").isin("LL", "RL"),
            "lateral": ~frontal,
        },
    )
    differ = _any(F.min(known) != F.max(known) for known in (F.coalesce(value, F.lit(9)) for value in label.values()))
    found["study with differing labels"] = _groups(records, "study_id", differ)
    found["duplicate path"] = _groups(records, "path", F.count("*") > 1)
    split = _code("official_split", SPLITS)
    found["patient in train and valid"] = _groups(records, "patient_id", F.min(split) != F.max(split))
    without = records.rows.groupBy("study_id").agg(F.min("at").alias("at"), F.max(frontal.cast("int")).alias("frontal"))
    found["study without a frontal"] = _cases(without.where("frontal = 0"), "study_id")
    counts = label_counts(records.part("train"))
    found |= checks.counted(checks.by_finding(counts["positive"], counts["uncertain"]))
    return checks.table(checks.CHEXPERT, found)


def rsna(records: Records) -> pd.DataFrame:
    """As cohort.checks.rsna."""
    from pyspark.sql import functions as F

    opacity, boxed = F.col("class_name").eqNullSafe(CLASSES[0]), F.size("boxes") > 0
    found = _people(records) | _rows(
        records,
        {
            "opacity without a box": opacity & ~boxed,
            "box without opacity": ~opacity & boxed,
            "impossible box": F.exists("boxes", lambda b: (b[2] <= 0) | (b[3] <= 0) | (b[0] < 0) | (b[1] < 0)),
        },
    )
    return checks.table(checks.RSNA, found)


def _people(records: Records) -> dict[str, Cases]:
    from pyspark.sql import functions as F

    age, frontal = F.col("age"), F.col("projection").eqNullSafe("frontal")
    found = _rows(
        records,
        {
            "impossible age": (age < 0) | (age > OLDEST),
            "age 0": age == 0,
            "unknown age": age.isNull(),
            "unknown sex": F.col("sex").isNull(),
            "frontal without AP or PA": frontal & ~F.coalesce(F.col("view").isin("AP", "PA"), F.lit(False)),
        },
    )
    alone = records.patient_sizes.index.max() <= 1
    found["every patient has exactly one image"] = _cases(records.rows) if alone else Cases(0, [])
    sex = _code("sex", SEX)
    each = records.rows.groupBy("patient_id").agg(F.min(sex).alias("low"), F.max(sex).alias("high"))
    changing = records.rows.join(each.where("low != high").select("patient_id"), "patient_id", "left_semi")
    first = changing.groupBy("patient_id").agg(F.min(F.struct("at", sex.alias("sex")))["sex"].alias("first"))
    found["patient's sex changes"] = _cases(changing.join(first, "patient_id").where(sex != F.col("first")))
    return found


def _code(name: str, values: Sequence[str]) -> Column:
    """A text of few values as a number, so that groups are hashed and not sorted; another, or null, comes last."""
    from pyspark.sql import functions as F

    coded = F.lit(len(values))
    for number, value in enumerate(values):
        coded = F.when(F.col(name) == value, number).otherwise(coded)
    return coded


def _any(conditions) -> Column:
    """True where a condition is; null is false."""
    from pyspark.sql import functions as F

    whole = F.lit(False)
    for condition in conditions:
        whole = whole | F.coalesce(condition, F.lit(False))
    return whole


def _rows(records: Records, conditions: dict[str, Column]) -> dict[str, Cases]:
    """The images for which each condition is true: counted in one pass."""
    counts = records.sums(conditions)
    return {
        name: Cases(counts[name], _first(records.rows.where(condition)) if counts[name] else [])
        for name, condition in conditions.items()
    }


def _groups(records: Records, key: str, condition: Column) -> Cases:
    """The images of the groups for which a condition over the group is true."""
    from pyspark.sql import functions as F

    odd = records.rows.groupBy(key).agg(F.count("*").alias("n"), condition.alias("odd")).where("odd").persist()
    count = odd.agg(F.sum("n")).first()[0] or 0
    first = _first(records.rows.join(odd.select(key), key, "left_semi")) if count else []
    odd.unpersist()
    return Cases(count, first)


def _cases(rows: DataFrame, name: str = "image_id") -> Cases:
    count = rows.count()
    return Cases(count, _first(rows, name) if count else [])


def _first(rows: DataFrame, name: str = "image_id") -> list[str]:
    """The names of the first rows in the order of the table."""
    return [row[0] for row in rows.orderBy("at").select(name).limit(len(FINDINGS)).collect()]
