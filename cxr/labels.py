"""The 14 CheXpert findings and the policies that turn their four-valued labels into training targets.

A record's label is 1 (present), 0 (absent), -1 (uncertain) or NaN (blank: the report does not mention the finding). A
policy is a pure function from records to (target, weight), both N x K in the order of FINDINGS; weight 0 masks a label
out of the loss. Irvin et al. 2019 (CheXpert, section 3) name the policies. Blank counts as negative under all of them,
as in that paper; the records keep blank and 0 apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
# RSNA's classes, and the classes of the ADGM's tasks by their number, in the order of its outputs.
CLASSES = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
CLASS_NAMES = {2: ("Abnormal", "Normal"), 3: CLASSES}


def slug(name: str) -> str:
    """'Lung Lesion' -> 'lung_lesion': the form that file names, stage instances and table columns use."""
    return name.lower().replace(" ", "_")


SLUGS = tuple(slug(name) for name in FINDINGS)


# Of a label table: what `table` below makes, and what a training reads.
COLUMNS = (
    *("image_id", "patient_id", "split", "projection"),
    *(f"{kind}.{name}" for kind in ("target", "weight", "truth") for name in SLUGS),
)


def finding(name: str) -> str:
    """The official name behind a slug (or an official name itself). Raises ValueError with the 14 choices."""
    for known in FINDINGS:
        if name in (known, slug(known)):
            return known
    raise ValueError(f"unknown finding {name!r}: choose from {', '.join(SLUGS)}")


def _by_value(labels: np.ndarray, uncertain_target: float, uncertain_weight: float) -> tuple[np.ndarray, np.ndarray]:
    target = (labels == 1).astype(np.float32)
    weight = np.ones_like(target)
    target[labels == -1] = uncertain_target
    weight[labels == -1] = uncertain_weight
    return target, weight


def u_zeroes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Uncertain counts as absent."""
    return _by_value(labels, 0.0, 1.0)


def u_ones(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Uncertain counts as present."""
    return _by_value(labels, 1.0, 1.0)


def u_ignore(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Uncertain is left out of the loss."""
    return _by_value(labels, 0.0, 0.0)


POLICIES = {"u_zeroes": u_zeroes, "u_ones": u_ones, "u_ignore": u_ignore}


def truth(labels: np.ndarray) -> np.ndarray:
    """The one truth that every policy is scored against: 1 present, 0 absent or blank, NaN uncertain. Shape as labels,
    float32.
    """
    result = (labels == 1).astype(np.float32)
    result[labels == -1] = np.nan
    return result


def matrix(records: pd.DataFrame) -> np.ndarray:
    """The labels of records as N x 14 float32 in the order of FINDINGS."""
    return records[list(FINDINGS)].to_numpy(np.float32)


def table(records: pd.DataFrame, split: pd.DataFrame, policy: str) -> pd.DataFrame:
    """One row per split image: image_id, patient_id, split, projection, then target., weight. and truth.<slug> for the
    14 findings.

    records: canonical CheXpert records; split: image_id, patient_id, split. Images without a place in the split
    (rejected ones) are left out.
    Raises ValueError for an unknown policy.
    """
    import pandas as pd

    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(POLICIES)}")
    rows = split.merge(records.drop(columns="patient_id"), on="image_id", how="left", validate="one_to_one")
    assert rows["path"].notna().all(), "the split names images that the records lack"
    labels = matrix(rows)
    target, weight = POLICIES[policy](labels)
    columns = {}
    for kind, values in (("target", target), ("weight", weight), ("truth", truth(labels))):
        columns |= {f"{kind}.{name}": values[:, k] for k, name in enumerate(SLUGS)}
    return pd.concat([rows[["image_id", "patient_id", "split", "projection"]], pd.DataFrame(columns)], axis=1)
