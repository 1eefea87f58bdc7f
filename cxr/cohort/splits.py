"""Patient-disjoint splits.

Patients, not images, are split. In CheXpert 90 % of the images belong to a patient with more than one image. A draw of
images would give about 451 of paper 1's 500 test images a patient who is also in training (docs/papers.md, E11).
`by="image"` is that draw, kept to measure the leak.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, slug
from cxr.core.guard import on_the_cut


def chexpert(records: pd.DataFrame, *, by: str, test_images: int, seed: int) -> pd.DataFrame:
    """image_id, patient_id, split: the official valid.csv is 'valid'; `test_images` are drawn from the official train
    table as 'test'.

    by='patient': whole patients in random order until at least test_images images are drawn. by='image': exactly
    test_images images.
    Raises ValueError when the draw would leave no training patient.
    """
    official = records["official_split"].to_numpy(object)
    split = official.copy()
    train = np.flatnonzero(official == "train")
    if test_images >= len(train):
        raise ValueError(
            f"split.test_images = {test_images}, but train.csv has only {len(train)} images; ask for fewer"
        )
    rng = np.random.default_rng(seed)
    if by == "image":
        split[rng.choice(train, test_images, replace=False)] = "test"
    elif by == "patient":
        split[_whole_patients(records["patient_id"].to_numpy(object), train, test_images, rng)] = "test"
        if not (split == "train").any():
            raise ValueError(f"split.test_images = {test_images} takes every patient of train.csv; ask for fewer")
    else:
        raise ValueError(f"unknown split.by {by!r}: choose patient or image")
    return _table(records, split)


def rsna(records: pd.DataFrame, *, by: str, valid_share: float, seed: int, patient_key: str) -> pd.DataFrame:
    """image_id, patient_id, split: `valid_share` of the images (paper 2: 10 %) are 'valid', the rest 'train'.

    by='patient': whole patients. by='image': single images, so that a patient can stand on both sides. patient_key:
    what patient_id names, 'patient' or 'image' (manifest.json). Raises ValueError for by='patient' where it names an
    image, and where no training image is left.
    """
    if by == "patient" and patient_key != "patient":
        raise ValueError(
            "split.rsna = patient needs patients, but RSNA's patientId names an image: give RSNA's mapping of images "
            "to patients (data.rsna_patients, or the file beside the tables), or choose split.rsna = image"
        )
    split = np.full(len(records), "train", dtype=object)
    wanted = max(1, round(valid_share * len(records)))
    rows = np.arange(len(records))
    rng = np.random.default_rng(seed)
    split[
        rng.choice(rows, wanted, replace=False)
        if by == "image"
        else _whole_patients(records["patient_id"].to_numpy(object), rows, wanted, rng)
    ] = "valid"
    if not (split == "train").any():
        raise ValueError(f"split.valid_share = {valid_share} leaves no training image of {len(records)}; ask for less")
    return _table(records, split)


def file_order(records: pd.DataFrame, *, valid_share: float) -> pd.DataFrame:
    """image_id, patient_id, split, rows: the slices of RSNA's label table that paper 2's published code takes.

    The label table has a row per box (one for an image without a box), in the records' order. With N images the first
    int((1 - valid_share) N) rows are 'train', those up to row N 'valid', the others 'unused': the code mistakes a
    number of images for a number of rows. An image is listed once for each part with rows of it; `rows` counts them.
    Patients are shared, too (docs/papers.md, E72). Raises ValueError for records without boxes and for an empty slice.
    """
    if "boxes" not in records:
        raise ValueError("split.rsna = file_order needs the boxes of RSNA's records; choose image for other records")
    rows = records["boxes"].map(len).clip(lower=1).to_numpy()
    cut = int((1 - valid_share) * len(records))
    if not 0 < cut < len(records):
        raise ValueError(f"split.valid_share = {valid_share} leaves no row to train on or to validate; ask for another")
    owner = np.repeat(np.arange(len(records)), rows)
    part = np.select([np.arange(len(owner)) < cut, np.arange(len(owner)) < len(records)], ["train", "valid"], "unused")
    counts = pd.DataFrame({"image": owner, "split": part}).value_counts(sort=False).reset_index(name="rows")
    table = records[["image_id", "patient_id"]].iloc[counts["image"]].reset_index(drop=True)
    table = table.assign(split=counts["split"].astype(object), rows=counts["rows"])
    return table.sort_values(["image_id", "split"], ignore_index=True)


def _whole_patients(patients: np.ndarray, rows: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of randomly ordered patients, whole, until at least `wanted` rows are drawn."""
    code, names = pd.factorize(patients[rows], sort=True)
    images = np.bincount(code, minlength=len(names))
    drawn = rng.permutation(len(names))
    enough = int(np.searchsorted(np.cumsum(images[drawn]), wanted)) + 1
    return rows[np.isin(code, drawn[:enough])]


def _table(records: pd.DataFrame, split: np.ndarray) -> pd.DataFrame:
    table = records[["image_id", "patient_id"]].reset_index(drop=True)
    table["split"] = split
    return table.sort_values("image_id", ignore_index=True)


def shared_patients(split: pd.DataFrame) -> int:
    """Patients with images in the training part and in another one that is used."""
    parts = split[split["split"] != "unused"].groupby("patient_id")["split"]
    return int(parts.agg(lambda names: "train" in set(names) and names.nunique() > 1).sum())


def summary(
    split: pd.DataFrame,
    records: pd.DataFrame,
    *,
    by: str,
    min_positives: int,
    sha256: str,
    patient_key: str | None = None,
) -> dict:
    """Patients, images and (CheXpert) certain positives per split, and the findings that a model may be selected on.

    patient_key: RSNA's, as of `rsna`; where it is 'image' no patient is counted.

    select_on: the findings with at least `min_positives` positives and as many others among the validation images; the
    others are left out of the validation mean (PAPER 1 selects on all 14, which is undefined: CheXpert's valid.csv has
    no fracture; docs/papers.md E16).
    """
    rows = split.merge(records.drop(columns="patient_id"), on="image_id", validate="many_to_one")
    result: dict = {"by": by, "sha256": sha256, "min_positives": min_positives, "splits": {}}
    if patient_key:
        result["patient_key"] = patient_key
    if patient_key == "patient":
        result["shared_patients"] = shared_patients(split)
    if by == "file_order":
        result["shared_images"] = int(len(on_the_cut(split)))
    for name, part in rows.groupby("split", sort=True):
        counts: dict = {} if patient_key == "image" else {"patients": int(part["patient_id"].nunique())}
        counts["images"] = len(part)
        if "rows" in part:
            counts["rows"] = int(part["rows"].sum())
        if FINDINGS[0] in part:
            counts["positives"] = {slug(f): int((part[f] == 1).sum()) for f in FINDINGS}
        if "class_name" in part:
            counts["classes"] = {str(k): int(v) for k, v in part["class_name"].value_counts().sort_index().items()}
        result["splits"][name] = counts
    if FINDINGS[0] in rows:
        valid = rows[rows["split"] == "valid"]
        enough = [f for f in FINDINGS if min((valid[f] == 1).sum(), (~valid[f].isin([1, -1])).sum()) >= min_positives]
        result["select_on"] = [slug(f) for f in enough]
        result["too_few"] = [slug(f) for f in FINDINGS if f not in enough]
    return result
