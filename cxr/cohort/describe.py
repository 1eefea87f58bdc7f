"""Describes the records: Table 1, Figure 1, and who is in the data.

The paper is "Chest X-ray Disease Diagnosis Using Generative Adversarial Networks" (CheXpert). Its Table 1 is given as
printed and corrected. As printed, "Uncertain" is negative and blank together, and "Negative" is uncertain; the row
Support Devices is rotated (uncertain, negative with blank, positive); only No Finding fits the headings.
"""

from __future__ import annotations

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
    table = pd.DataFrame({"finding": FINDINGS} | counts)
    for state in STATES:
        table[f"{state}_percent"] = 100 * table[state] / len(records) if len(records) else np.nan
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
    return pd.DataFrame(positive.T @ positive, columns=list(FINDINGS)).assign(finding=FINDINGS)[["finding", *FINDINGS]]


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


def ages(records: pd.DataFrame, width: int = 5) -> pd.DataFrame:
    """Figure 1: age_from, age_to (years, not included), patients by sex (F, M, unknown), images by sex (images_F, ...).

    Bins reach from 0 to the oldest patient's; the last row, without ages, counts the unknown and the impossible.
    """
    oldest = possible(records["age"]).max()
    edges = np.arange(0, (0 if np.isnan(oldest) else oldest) + width + 1, width, dtype=int)
    table = pd.DataFrame({"age_from": edges[:-1], "age_to": edges[1:]}, dtype="Int64")
    table.loc[len(table)] = [pd.NA, pd.NA]
    for prefix, rows in (("", patients(records)), ("images_", records)):
        for sex in SEXES:
            age = possible(_of_sex(rows, sex)["age"])
            table[prefix + sex] = [*np.histogram(age.dropna(), edges)[0], int(age.isna().sum())]
    return table


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _people(rows: pd.DataFrame) -> dict:
    """Counts, mean ages and the share aged 50 to 75 (both included) by sex; unknown and impossible ages left out."""
    age = possible(rows["age"])
    result = {"by_sex": {sex: len(_of_sex(rows, sex)) for sex in SEXES}, "mean_age": {}, "share_50_to_75": {}}
    for sex in ("F", "M"):
        ages_known = age[rows["sex"] == sex].dropna().astype(float)
        result["mean_age"][sex] = round(ages_known.mean(), 4) if len(ages_known) else None
        result["share_50_to_75"][sex] = _share(int(ages_known.between(50, 75).sum()), len(ages_known))
    return result


def _views(rows: pd.DataFrame) -> dict:
    counts = {view: int((rows["view"] == view).sum()) for view in ("AP", "PA", "LL", "RL")}
    return counts | {"unknown": int(rows["view"].isna().sum())}


def summary_chexpert(records: pd.DataFrame) -> dict:
    """Of one official split: images, patients, studies, people per image and per patient, projections, views."""
    repeated = records["patient_id"].duplicated(keep=False).sum()
    return {
        "images": len(records),
        "patients": records["patient_id"].nunique(),
        "studies": records["study_id"].nunique(),
        "frontal": int((records["projection"] == "frontal").sum()),
        "lateral": int((records["projection"] == "lateral").sum()),
        "views": _views(records),
        "share_of_images_with_a_sibling": _share(int(repeated), len(records)),
        "per_patient": _people(patients(records)),
        "per_image": _people(records),
    }


def rsna_classes(records: pd.DataFrame) -> pd.DataFrame:
    """Each class by images and as the CSVs count it, one row per box: class_name, images, rows, both with _percent.

    AP and PA: images of the class with that view. An image without a box has one row.
    """
    boxes = records["boxes"].map(len)
    rows = []
    for name in CLASSES:
        at = records["class_name"] == name
        views = {view: int((records["view"][at] == view).sum()) for view in ("AP", "PA")}
        rows.append({"class_name": name, "images": int(at.sum()), "rows": int(boxes[at].clip(lower=1).sum())} | views)
    table = pd.DataFrame(rows)
    for name in ("images", "rows"):
        table[f"{name}_percent"] = 100 * table[name] / table[name].sum()
    return table[["class_name", "images", "images_percent", "rows", "rows_percent", "AP", "PA"]]


def summary_rsna(records: pd.DataFrame, patient_key: str) -> dict:
    """Images, patients, rows (one per box), boxes, people, views, the opacities' share in each view, children.

    patient_key: what patient_id names, 'patient' or 'image'; with 'image' nothing is counted by patient.
    """
    boxes, age = records["boxes"].map(len), possible(records["age"])
    opacity = records["class_name"] == CLASSES[0]
    at = {view: records["view"] == view for view in ("AP", "PA")}
    result = {"images": len(records)}
    if patient_key == "patient":
        sizes = records["patient_id"].value_counts()
        result["patients"], result["most_images"] = len(sizes), int(sizes.max())
        result["share_of_images_with_a_sibling"] = _share(int(sizes[sizes > 1].sum()), len(records))
        result["per_patient"] = _people(patients(records))
    return result | {
        "rows": int(boxes.clip(lower=1).sum()),
        "boxes": int(boxes.sum()),
        "views": _views(records),
        "opacity_share": {view: _share(int((opacity & at[view]).sum()), int(at[view].sum())) for view in at},
        "under_18": int((age < 18).sum()),
        "under_5": int((age < 5).sum()),
        "per_image": _people(records),
    }
