"""Patient-disjoint splits.

Patients, not images, are split. In CheXpert 90 % of the images belong to a patient with more than one image. A draw of
images would give about 451 of paper 1's 500 test images a patient who is also in training (docs/papers.md, E11).
`by="image"` is that draw, kept to measure the leak.

Of a random order of the patients one part is drawn from the front and another from the back. So the size of one moves
nobody of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, slug
from cxr.core.guard import on_the_cut


def chexpert(
    records: pd.DataFrame,
    *,
    by: str,
    test_images: int,
    valid_images: int = 0,
    official: Collection[str] = ("valid",),
    train_share: float = 1.0,
    rare: Sequence[str] = (),
    rare_patients: int = 0,
    rare_in_pa: float = 1.0,
    seed: int,
) -> pd.DataFrame:
    """image_id, patient_id, split: train, valid, test or unused.

    official: which of the parts valid and test are CheXpert's own, valid.csv and the official test set. The others are
    drawn from train.csv: test_images and valid_images of its images. An official part that is not asked for is
    'unused': its labels are radiologists', and nothing trains on its patients.

    by='patient': whole patients in random order until a part has at least its number of images. by='image': exactly
    that number. Raises ValueError when the draws would leave no training patient.

    rare_in_pa: share of the training patients with a positive PA image of one of the findings `rare` who stay; below 1
    the view gives a finding away, as where only the bedridden are examined for it. Of those who are left, train_share:
    share of the training patients who stay, at least one; rare_patients: most of them with a positive image of each
    finding, 0 for all. The others' images are 'unused'. None of these moves anybody of validation or test, so that
    trainings on more and fewer images are tested on the same.
    """
    if by not in ("patient", "image"):
        raise ValueError(f"unknown split.by {by!r}: choose patient or image")
    split = records["official_split"].to_numpy(object).copy()
    train = np.flatnonzero(split == "train")
    split[(split != "train") & ~np.isin(split, list(official))] = "unused"
    sizes = {"test": test_images, "valid": valid_images}
    sizes = {part: 0 if part in official else size for part, size in sizes.items()}
    asked = " and ".join(f"split.{part}_images = {size}" for part, size in sizes.items() if size)
    if sum(sizes.values()) >= len(train):
        raise ValueError(f"{asked}, but train.csv has only {len(train)} images; ask for fewer")
    patients = records["patient_id"].to_numpy(object)
    drawn = _two_parts(patients, train, sizes["test"], sizes["valid"], by, np.random.default_rng(seed))
    if len(np.union1d(*drawn)) < len(drawn[0]) + len(drawn[1]) or len(np.union1d(*drawn)) == len(train):
        raise ValueError(f"{asked}: this takes every patient of train.csv; ask for fewer")
    for part, rows in zip(("test", "valid"), drawn, strict=True):
        split[rows] = part
    train = np.flatnonzero(split == "train")
    positive = (records[list(rare)] == 1).to_numpy()
    if rare_in_pa < 1:
        in_pa = positive[train].any(1) & (records["view"] == "PA").to_numpy(bool)[train]
        names = np.unique(patients[train][in_pa])
        leaving = np.random.default_rng([seed, *b"pa"]).permutation(names)[round(rare_in_pa * len(names)) :]
        split[train[pd.Series(patients[train]).isin(leaving)]] = "unused"
        train = np.flatnonzero(split == "train")
    counted = positive[train] if rare_patients else np.zeros((len(train), 0), bool)
    staying = _few(patients[train], train_share, counted, rare_patients, np.random.default_rng([seed, *b"few"]))
    split[train[~staying]] = "unused"
    return _table(records, split)


def _few(patients: np.ndarray, share: float, positive: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Whether each image stays, N bool: those of a share of the patients, and of at most `most` positive ones of each
    finding.

    patients: N names; positive: N x K. Patients are taken in one random order; one who would be a finding's next
    positive after the last is left out.
    """
    code, names = pd.factorize(patients, sort=True)
    has = np.zeros((len(names), positive.shape[1]), int)
    np.maximum.at(has, code, positive)
    stays, counts = np.zeros(len(names), bool), np.zeros(positive.shape[1], int)
    for patient in rng.permutation(len(names))[: max(1, round(share * len(names)))]:
        if (counts + has[patient] <= most).all():
            stays[patient] = True
            counts += has[patient]
    return stays[code]


def official_parts(
    records: pd.DataFrame, *, valid: str, test: str, rare: Sequence[str], min_positives: int
) -> tuple[set[str], list[str]]:
    """(which of valid and test are CheXpert's own parts, why not where auto decided so: a line each).

    valid, test: official, train or auto. auto takes the official test set where the records have it, and valid.csv
    unless it has fewer than min_positives positives, or others, of one of the rare findings: such a finding could
    choose no epoch and set no threshold. Raises ValueError for an official part that the records lack.
    """
    parts, why = set(), []
    rows = {part: records[records["official_split"] == part] for part in ("valid", "test")}
    for part, choice in (("valid", valid), ("test", test)):
        if choice == "official" and rows[part].empty:
            lacking = {"valid": "valid.csv", "test": "the official test set, its labels or its images"}[part]
            raise ValueError(f"split.{part} = official, but the source lacks {lacking}: add it, or choose train")
        if choice == "official" or (choice == "auto" and len(rows[part])):
            parts.add(part)
    if valid == "auto" and "valid" in parts:
        for name in rare:
            count = _enough(rows["valid"][name])
            if count < min_positives:
                why.append(f"valid.csv has {count} positives (or others) of {name}, fewer than {min_positives}")
        parts -= {"valid"} if why else set()
    return parts, why


def _enough(labels: pd.Series) -> int:
    """Images that count as positive, or as negative (absent or blank), whichever are fewer."""
    return int(min((labels == 1).sum(), (~labels.isin([1, -1])).sum()))


def rsna(
    records: pd.DataFrame, *, by: str, valid_share: float, test_share: float = 0.0, seed: int, patient_key: str
) -> pd.DataFrame:
    """image_id, patient_id, split: `valid_share` of the images (paper 2: 10 %) are 'valid', `test_share` are 'test'
    (paper 2: none), the rest 'train'.

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
    wanted = max(1, round(valid_share * len(records))), round(test_share * len(records))
    rows, patients = np.arange(len(records)), records["patient_id"].to_numpy(object)
    valid, test = _two_parts(patients, rows, *wanted, by, np.random.default_rng(seed))
    split[test], split[valid] = "test", "valid"
    if sum(wanted) > len(records) or len(np.intersect1d(valid, test)) or not (split == "train").any():
        shares = f"split.valid_share = {valid_share}" + f" and split.test_share = {test_share}" * bool(test_share)
        raise ValueError(f"{shares}: this leaves no training image of {len(records)}; ask for less")
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


def _two_parts(
    patients: np.ndarray, rows: np.ndarray, front: int, back: int, by: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two draws of `rows`, of `front` and of `back` images. They share rows where there are too few.

    by='image': exactly that many. Otherwise whole patients from the two ends of one random order, until there are at
    least that many.
    """
    if by == "image":
        first = rng.choice(rows, front, replace=False)
        rest = np.setdiff1d(rows, first)
        return first, rng.choice(rest, min(back, len(rest)), replace=False)
    code, names = pd.factorize(patients[rows], sort=True)
    images = np.bincount(code, minlength=len(names))
    order = rng.permutation(len(names))
    parts = []
    for wanted, ordered in ((front, order), (back, order[::-1])):
        enough = int(np.searchsorted(np.cumsum(images[ordered]), wanted)) + 1 if wanted else 0
        parts.append(rows[np.isin(code, ordered[:enough])])
    return parts[0], parts[1]


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
    phantom: bool = False,
    patient_key: str | None = None,
) -> dict:
    """Patients, images and (CheXpert) certain positives per split, CheXpert's own parts that each is of, and the
    findings that a model may be selected on.

    phantom: whether the patients are drawn. patient_key: RSNA's, as of `rsna`; where it is 'image' no patient is
    counted.

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
        enough = [f for f in FINDINGS if _enough(valid[f]) >= min_positives]
        result["official"] = {
            name: sorted(part["official_split"].unique()) for name, part in rows.groupby("split", sort=True)
        }
        result["phantom"] = phantom
        result["select_on"] = [slug(f) for f in enough]
        result["too_few"] = [slug(f) for f in FINDINGS if f not in enough]
    return result
