"""Label tables with the published counts, for the audit's tests."""

import numpy as np
import pandas as pd

from cxr.cohort.describe import put_right
from cxr.core.findings import CLASSES, FINDINGS

IMAGES, PATIENTS, STUDIES = 223_414, 64_540, 187_641


def chexpert() -> pd.DataFrame:
    """Columns of records with the published counts of images, patients, studies, sexes and labels."""
    patient = np.arange(IMAGES) % PATIENTS
    female, male = 28_728, 35_811
    age = np.concatenate(
        [
            np.repeat([62, 40, 80], [13_215, 7_757, 7_756]),  # 46.0 % of the women are 50 to 75
            np.repeat([60, 40, 77], [18_120, 8_846, 8_845]),  # 50.6 % of the men
            [0],
        ]
    )
    sex = np.repeat(np.array(["F", "M", None], object), [female, male, 1])
    table = {
        "patient_id": patient, "study_id": np.arange(IMAGES) % STUDIES, "sex": sex[patient], "age": age[patient],
        "projection": np.where(np.arange(IMAGES) % 7 == 0, "lateral", "frontal"), "view": None,
        "official_split": "train",
    }  # fmt: skip
    for k, finding in enumerate(FINDINGS):
        positive, uncertain, rest = put_right(finding)
        negative = 0 if finding == "No Finding" else min(21_638, rest)
        column = np.repeat(np.array([1, -1, 0, np.nan], np.float32), [positive, uncertain, negative, rest - negative])
        table[finding] = np.random.default_rng(k).permutation(column)
    return pd.DataFrame(table)


def rsna() -> pd.DataFrame:
    """Columns of records with the published counts of images, rows and classes, and the order that gives P2's slices.

    patient_id names the image. Blocks of (class, boxes, images): 4,000 rows of opacities from 2,519 images; the rest of
    the first 24,015 rows; an opacity across the cut; 2,668 more rows to 26,684; and what the paper never uses.
    """
    opacity, other, normal = range(3)
    blocks = [
        (opacity, 2, 1_481), (opacity, 1, 1_038), (other, 1, 9_000), (normal, 1, 7_019),
        (opacity, 2, 1_527), (opacity, 1, 941), (opacity, 2, 1),
        (opacity, 2, 124), (opacity, 1, 226), (other, 1, 1_295), (normal, 1, 899),
        (opacity, 2, 410), (opacity, 1, 264), (other, 1, 1_526), (normal, 1, 933),
    ]  # fmt: skip
    kind, boxes, images = (np.array(column) for column in zip(*blocks, strict=True))
    kind, boxes = np.repeat(kind, images), np.repeat(boxes, images)
    return pd.DataFrame(
        {
            "class_name": np.array(CLASSES)[kind],
            "boxes": [[[0, 0, 1, 1]] * n if k == opacity else [] for k, n in zip(kind, boxes, strict=True)],
            "view": "AP",
            "patient_id": [f"i{k}" for k in range(len(kind))],
        }
    )
