"""Describes the records: Table 1, Figure 1, and who is in the data.

The paper is "Chest X-ray Disease Diagnosis Using Generative Adversarial Networks" (CheXpert). Its Table 1 is given as
printed and corrected. As printed, "Uncertain" is negative and blank together, and "Negative" is uncertain; the row
Support Devices is rotated (uncertain, negative with blank, positive); only No Finding fits the headings.

Each description is made of counts. Here pandas counts a table in memory; cxr/spark/describe.py counts one that no
machine's memory holds. Both hand their counts to the same functions, and sums do not depend on the order of the rows,
so the numbers are the same to the last digit.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cxr.core.findings import CLASSES, FINDINGS, matrix
from cxr.papers import TABLE_1

STATES = ("positive", "uncertain", "negative", "blank")


SWAPPED = "headings swapped: its Uncertain is negative and blank together, its Negative is uncertain"
REMARKS = {
    "No Finding": "not swapped: its Negative is all blank",
    "Edema": f"{SWAPPED}; 4.1 % is printed, 52,246 of 223,414 are 23.4 %",
    "Atelectasis": f"{SWAPPED}; 16.5 % is printed, 33,739 of 223,414 are 15.1 %",
    "Support Devices": "rotated: its Positive is uncertain, its Uncertain negative and blank, its Negative positive",
}


def put_right(finding: str) -> tuple[int, int, int]:
    """The paper's counts of a finding under their true headings: positive, uncertain, negative and blank together."""
    row = TABLE_1[finding]
    if finding == "No Finding":
        return row.positive, row.uncertain, row.negative
    if finding == "Support Devices":
        return row.negative, row.positive, row.uncertain
    return row.positive, row.negative, row.uncertain


def table1(records: pd.DataFrame) -> pd.DataFrame:
    """Each finding's labels: finding, positive, uncertain, negative, blank (images), the same with _percent, rank.

    rank 1 is the finding with the fewest positives. No images: percents are NaN.
    """
    labels = matrix(records)
    counts = {
        "positive": (labels == 1).sum(axis=0),
        "uncertain": (labels == -1).sum(axis=0),
        "negative": (labels == 0).sum(axis=0),
        "blank": np.isnan(labels).sum(axis=0),
    }
    return table1_of(counts, len(records))


def table1_of(counts: dict[str, np.ndarray], images: int) -> pd.DataFrame:
    """Table 1 from the images of each state, an array over FINDINGS, and the number of all."""
    table = pd.DataFrame({"finding": FINDINGS} | counts)
    for state in STATES:
        table[f"{state}_percent"] = 100 * table[state] / images if images else np.nan
    table["rank"] = table["positive"].rank(method="min").astype(int)
    return table


def beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 with the paper's beside it.

    paper_<state> and paper_<state>_percent: as printed. right_positive, right_uncertain, right_rest (negative and blank
    together): the printed counts put right. remark: what is odd in the printed row. agrees: whether the records' counts
    are the paper's put right, as they are for CheXpert's own train.csv.
    """
    rows = []
    for finding in table["finding"]:
        printed = {f"paper_{name}": value for name, value in TABLE_1[finding]._asdict().items()}
        right = dict(zip(("right_positive", "right_uncertain", "right_rest"), put_right(finding), strict=True))
        rows.append(printed | right | {"remark": REMARKS.get(finding, SWAPPED)})
    table = pd.concat([table, pd.DataFrame(rows)], axis=1)
    ours = table["positive"], table["uncertain"], table["negative"] + table["blank"]
    theirs = table["right_positive"], table["right_uncertain"], table["right_rest"]
    table["agrees"] = np.logical_and.reduce([a == b for a, b in zip(ours, theirs, strict=True)])
    return table


def cooccurrence(records: pd.DataFrame) -> pd.DataFrame:
    """Images positive for both findings: finding, then a column per finding; the diagonal is each one's positives."""
    positive = (matrix(records) == 1).astype(np.int64)
    return cooccurrence_of(positive.T @ positive)


def cooccurrence_of(both: np.ndarray) -> pd.DataFrame:
    """The table from the images positive for both: findings x findings, in the order of FINDINGS."""
    return pd.DataFrame(both, columns=list(FINDINGS)).assign(finding=FINDINGS)[["finding", *FINDINGS]]


# People --------------------------------------------------------------------------------------------------------------

SEXES = {"F": "F", "M": "M", "unknown": None}
OLDEST = 110


def patients(records: pd.DataFrame) -> pd.DataFrame:
    """One row per patient, the first in the records' order: sex and age are those of the first image listed."""
    return records.drop_duplicates("patient_id")


def possible(age: pd.Series) -> pd.Series:
    """Ages as given, NaN for those that no patient can have (below 0, above OLDEST)."""
    return age.where(age.between(0, OLDEST))


def _of_sex(rows: pd.DataFrame, sex: str) -> pd.DataFrame:
    return rows[rows["sex"].isna() if SEXES[sex] is None else rows["sex"] == sex]


PERSON = ["sex", "age", "projection", "view"]


def people(rows: pd.DataFrame) -> pd.DataFrame:
    """The distinct combinations of PERSON, NaN and null among them, and n, the rows of each."""
    return rows[PERSON].groupby(PERSON, dropna=False, observed=True, sort=False).size().reset_index(name="n")


def ages(records: pd.DataFrame) -> pd.DataFrame:
    """Figure 1: age_from, age_to (years, not included), patients by sex (F, M, unknown), images by sex (images_F, ...).

    Bins reach from 0 to the oldest patient's; the last row, without ages, counts the unknown and the impossible.
    """
    return ages_of(people(records), people(patients(records)))


def ages_of(images: pd.DataFrame, first: pd.DataFrame, width: int = 5) -> pd.DataFrame:
    """Figure 1 from `people` of all images and of each patient's first."""
    oldest = possible(images["age"]).max()
    edges = np.arange(0, (0 if np.isnan(oldest) else oldest) + width + 1, width, dtype=int)
    table = pd.DataFrame({"age_from": edges[:-1], "age_to": edges[1:]}, dtype="Int64")
    table.loc[len(table)] = [pd.NA, pd.NA]
    for prefix, rows in (("", first), ("images_", images)):
        for sex in SEXES:
            ours = _of_sex(rows, sex)
            age = possible(ours["age"])
            known = age.notna()
            counts = np.histogram(age[known], edges, weights=ours["n"][known].to_numpy(np.int64))[0]
            table[prefix + sex] = [*counts, int(ours["n"][~known].sum())]
    return table


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _people(rows: pd.DataFrame) -> dict:
    """Counts, mean ages and the share aged 50 to 75 (both included) by sex; unknown and impossible ages left out."""
    result = {
        "by_sex": {sex: int(_of_sex(rows, sex)["n"].sum()) for sex in SEXES},
        "mean_age": {},
        "share_50_to_75": {},
    }
    for sex in ("F", "M"):
        known = _of_sex(rows, sex).assign(age=possible(rows["age"]).astype(float)).dropna(subset="age")
        n = int(known["n"].sum())
        years = math.fsum(known["age"] * known["n"])  # exact, so in any order
        result["mean_age"][sex] = round(years / n, 4) if n else None
        result["share_50_to_75"][sex] = _share(int(known["n"][known["age"].between(50, 75)].sum()), n)
    return result


def _views(rows: pd.DataFrame) -> dict:
    counts = {view: int(rows["n"][rows["view"] == view].sum()) for view in ("AP", "PA", "LL", "RL")}
    return counts | {"unknown": int(rows["n"][rows["view"].isna()].sum())}


def summary_chexpert(records: pd.DataFrame) -> dict:
    """Of one official split: images, patients, studies, people per image and per patient, projections, views."""
    whose = records["patient_id"]
    return summary_chexpert_of(
        people(records),
        people(patients(records)),
        records["study_id"].nunique(),
        int(whose.duplicated(keep=False).sum()),
    )


def summary_chexpert_of(images: pd.DataFrame, first: pd.DataFrame, studies: int, repeated: int) -> dict:
    """The summary from `people` of all images and of each patient's first, the number of studies, and that of images
    whose patient has another.
    """
    n = int(images["n"].sum())
    return {
        "images": n,
        "patients": int(first["n"].sum()),
        "studies": studies,
        "frontal": int(images["n"][images["projection"] == "frontal"].sum()),
        "lateral": int(images["n"][images["projection"] == "lateral"].sum()),
        "views": _views(images),
        "share_of_images_with_a_sibling": _share(repeated, n),
        "per_patient": _people(first),
        "per_image": _people(images),
    }


def boxed(records: pd.DataFrame) -> pd.DataFrame:
    """The distinct classes and views of RSNA's images, with their images (n), rows (as the CSVs count) and boxes."""
    boxes = records["boxes"].map(len)
    counted = records[["class_name", "view"]].assign(n=1, rows=boxes.clip(lower=1), boxes=boxes)
    return counted.groupby(["class_name", "view"], dropna=False, observed=True, sort=False).sum().reset_index()


def rsna_classes(records: pd.DataFrame) -> pd.DataFrame:
    """Each class by images and as the CSVs count it, one row per box: class_name, images, rows, both with _percent.

    AP and PA: images of the class with that view. An image without a box has one row.
    """
    return rsna_classes_of(boxed(records))


def rsna_classes_of(counted: pd.DataFrame) -> pd.DataFrame:
    """The table of classes from `boxed`."""
    rows = []
    for name in CLASSES:
        of = counted[counted["class_name"] == name]
        views = {view: int(of["n"][of["view"] == view].sum()) for view in ("AP", "PA")}
        rows.append({"class_name": name, "images": int(of["n"].sum()), "rows": int(of["rows"].sum())} | views)
    table = pd.DataFrame(rows)
    for name in ("images", "rows"):
        table[f"{name}_percent"] = 100 * table[name] / table[name].sum()
    return table[["class_name", "images", "images_percent", "rows", "rows_percent", "AP", "PA"]]


def summary_rsna(records: pd.DataFrame, patient_key: str) -> dict:
    """Images, patients, rows (one per box), boxes, people, views, the opacities' share in each view, children.

    patient_key: what patient_id names, 'patient' or 'image'; with 'image' nothing is counted by patient.
    """
    sizes = records["patient_id"].value_counts().value_counts() if patient_key == "patient" else None
    return summary_rsna_of(people(records), people(patients(records)), boxed(records), sizes)


def summary_rsna_of(images: pd.DataFrame, first: pd.DataFrame, counted: pd.DataFrame, sizes: pd.Series | None) -> dict:
    """The summary from `people` of all images and of each patient's first, `boxed`, and, where patients are known, the
    number of patients by their number of images.
    """
    n, age = int(images["n"].sum()), possible(images["age"])
    result = {"images": n}
    if sizes is not None:
        several = sizes[sizes.index > 1]
        result["patients"], result["most_images"] = int(sizes.sum()), int(sizes.index.max())
        result["share_of_images_with_a_sibling"] = _share(int((several.index * several).sum()), n)
        result["per_patient"] = _people(first)
    at = {view: counted[counted["view"] == view] for view in ("AP", "PA")}
    opacity = {view: int(rows["n"][rows["class_name"] == CLASSES[0]].sum()) for view, rows in at.items()}
    return result | {
        "rows": int(counted["rows"].sum()),
        "boxes": int(counted["boxes"].sum()),
        "views": _views(images),
        "opacity_share": {view: _share(opacity[view], int(rows["n"].sum())) for view, rows in at.items()},
        "under_18": int(images["n"][age < 18].sum()),
        "under_5": int(images["n"][age < 5].sum()),
        "per_image": _people(images),
    }
