"""Reads VinDr-CXR (Nguyen et al. 2022, Scientific Data 9, 429) as records: PhysioNet's release, or Kaggle's challenge.

Three radiologists read every training image, five agreed on every test image. PhysioNet has a table of labels, a row
per image and reader for training, per image for the test, and one of boxes. The two label tables spell one column in
two ways (Other diseases, Other disease). Kaggle has one table, with a row per box, and lacks what has no box: there it
is blank. A training image has a finding where most of its readers say so. Boxes of all readers are
kept. The images are DICOM (.dicom) and frontal. No table and no header says which images are of one patient, so
patient_id names an image. Headers have sex and age; an age of 000Y is unknown, for every patient is an adult.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr.data.sources import layout
from cxr.data.sources.archive import Tree
from cxr.data.sources.dataset import USUAL, Dataset, Given, Reading, own_boxes
from cxr.data.sources.dicom_headers import read_headers
from cxr.data.sources.label_csv import columns_there, first_few, is_blank, measures, numbers, read_csv
from cxr.data.sources.schema import conform_findings

LABELS = {"train": r"image_labels_train\.csv", "test": r"image_labels_test\.csv"}
BOXES = {"train": r"annotations_train\.csv", "test": r"annotations_test\.csv"}
KAGGLE = r"train\.csv"
CORNERS = ("x_min", "y_min", "x_max", "y_max")
LOCAL = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion",
)  # fmt: skip
GLOBAL = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding")
FINDINGS = (*LOCAL, *GLOBAL)
SPELLED = {"Other disease": "Other diseases", "Other Diseases": "Other diseases"}
ADULT = 18.0  # years; a lower age in a header is a blank one
# Kaggle's challenge has 14 of the local findings, and No finding.
KAGGLE_FINDINGS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration",
    "Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "No finding",
)  # fmt: skip


def tables(tree: Tree, given: Given = USUAL) -> list[str]:
    """The names of the tables that are there. Raises ValueError when the tree holds no VinDr-CXR."""
    names = [*_there(tree, LABELS).values(), *_there(tree, BOXES).values()]
    if _there(tree, LABELS):
        return names
    if kaggle := _kaggle(tree):
        return [kaggle]
    raise ValueError(f"no VinDr-CXR here: {tree.root} has neither image_labels_train.csv nor Kaggle's train.csv")


def _there(tree: Tree, patterns: dict[str, str]) -> dict[str, str]:
    """part -> the name of its table; parts without one are left out. Raises ValueError for a part with several."""
    there = {part: pattern for part, pattern in patterns.items() if layout.tables_like(tree, pattern)}
    return {part: layout.only_table(tree, pattern, "VinDr-CXR") for part, pattern in there.items()}


def _kaggle(tree: Tree) -> str | None:
    wanted = {"image_id", "class_name", "rad_id", *CORNERS}
    for name in layout.tables_like(tree, KAGGLE):
        if set(columns_there(layout.read_packed(tree, name), name, sorted(wanted))) == wanted:
            return name
    return None


def read(tree: Tree, given: Given, processes: int | None = None) -> Reading:
    """The records: training images, then test images. Raises ValueError, naming the file, the line and the cure."""
    if given.labels:
        raise ValueError(f"labels = {given.labels!r}: VinDr-CXR has one set of labels: leave it empty")
    names = tables(tree)
    if there := _there(tree, LABELS):
        boxed = {part: _boxes(tree, name) for part, name in _there(tree, BOXES).items()}
        parts = [_labels(tree, name).assign(official_split=part) for part, name in there.items()]
        boxes = {image: found for part in boxed.values() for image, found in part.items()}
    else:
        (name,) = names
        parts, boxes = [_of_boxes(tree, name).assign(official_split="train")], _boxes(tree, name)
    rows = pd.concat(parts)
    if (twice := rows.index.duplicated()).any():
        raise ValueError(f"{rows.index[twice][0]} is in both label tables: restore the published files")
    paths = [f"{part}/{image}.dicom" for image, part in zip(rows.index, rows["official_split"], strict=True)]
    paths = layout.place_all(tree, paths, _key, names[0])
    sex, age, _ = zip(*read_headers(tree, paths, processes), strict=True)
    ages = np.array(age, float)
    records = rows.assign(
        image_id=rows.index, patient_id=rows.index, study_id=rows.index, path=paths, sex=sex,
        age=np.where(ages >= ADULT, ages, np.nan), projection="frontal", view=None,
        boxes=[boxes.get(image, []) for image in rows.index],
    )  # fmt: skip
    note = "no table names the patients: intervals are over images, which may be too narrow"
    return Reading(conform_findings(records, FINDINGS, boxes=True), names, [note], {"patient_key": "image"})


def _key(name: str) -> tuple[str, str]:
    """What identifies an image: Kaggle's and PhysioNet's ends .dicom, converted ones .dcm."""
    stem, end = layout.file_key(name)
    return stem, "dicom" if end == "dcm" else end


def _labels(tree: Tree, name: str) -> pd.DataFrame:
    """A row per image, in the order of its first row: the majority of its readers for each finding."""
    data = layout.read_packed(tree, name)
    there = columns_there(data, name, [*FINDINGS, *SPELLED])
    other = {SPELLED[column]: column for column in reversed(SPELLED) if column in there}
    spelled = {find: find if find in there else other.get(find, find) for find in FINDINGS}
    readers = columns_there(data, name, ["rad_id"])
    table = read_csv(data, name, ("image_id", *readers, *spelled.values()))
    if (twice := table.map(str.strip).duplicated(["image_id", *readers])).any():
        raise ValueError(f"{name} line {twice.idxmax()}: image and reader stand twice: restore the published file")
    labels = pd.DataFrame({find: numbers(table[column], (1, 0), name) for find, column in spelled.items()})
    if labels.isna().any(axis=None):
        line = labels.isna().any(axis=1).idxmax()
        raise ValueError(f"{name} line {line}: a label is blank, must be 1 or 0: restore the published file")
    return (labels.groupby(table["image_id"].str.strip(), sort=False).mean() > 0.5).astype(np.float32)


def _of_boxes(tree: Tree, name: str) -> pd.DataFrame:
    """Kaggle's table as a row per image: a finding is there where most of its readers drew it, blank where none could
    be drawn."""
    table = layout.read_table(tree, name, ("image_id", "class_name", "rad_id")).map(str.strip)
    table["class_name"] = table["class_name"].replace(SPELLED)
    if (wrong := ~table["class_name"].isin(KAGGLE_FINDINGS)).any():
        line = wrong.idxmax()
        raise ValueError(f"{name} line {line}: unknown class_name {table.at[line, 'class_name']!r}: restore the file")
    readers = table.groupby("image_id", sort=False)["rad_id"].nunique()
    said = table.drop_duplicates(["image_id", "class_name", "rad_id"]).groupby(["image_id", "class_name"]).size()
    said = said.unstack(fill_value=0).reindex(index=readers.index, columns=list(KAGGLE_FINDINGS), fill_value=0)
    labels = (said.div(readers, axis=0) > 0.5).astype(np.float32)
    return labels.reindex(columns=list(FINDINGS))


def _boxes(tree: Tree, name: str) -> dict[str, list[dict]]:
    """The boxes of each image by all its readers. A row without corners is a finding without a box."""
    data = layout.read_packed(tree, name)
    readers = columns_there(data, name, ["rad_id"])
    table = read_csv(data, name, ("image_id", "class_name", *readers, *CORNERS))
    sides = table[list(CORNERS)].apply(measures)
    blank = table[list(CORNERS)].map(is_blank).all(axis=1)
    good = (sides["x_max"] > sides["x_min"]) & (sides["y_max"] > sides["y_min"])
    if (wrong := ~blank & ~good).any():
        line = wrong.idxmax()
        raise ValueError(f"{name} line {line}: {first_few(table.loc[line, list(CORNERS)])} is no box: correct that row")
    result: dict[str, list[dict]] = {}
    for line in table.index[~blank]:
        left, top, right, bottom = map(float, sides.loc[line])
        label = table.at[line, "class_name"].strip()
        box = {"finding": SPELLED.get(label, label), "x": left, "y": top, "width": right - left, "height": bottom - top}
        box["reader"] = table.at[line, "rad_id"].strip() if readers else ""
        result.setdefault(table.at[line, "image_id"].strip(), []).append(box)
    return result


DATASET = Dataset(
    name="vindr",
    title="VinDr-CXR",
    findings=FINDINGS,
    views="frontal, PA",
    patient_key="image",
    people="hanoi",
    labelled_by="three radiologists each, of whom most decide; the consensus of five for the test images",
    terms="credentialed access (PhysioNet), or the challenge's rules (Kaggle); no image may be given to others",
    where="https://physionet.org/content/vindr-cxr/",
    recognised_by="image_labels_train.csv, or Kaggle's train.csv with class_name and rad_id",
    tables=tables,
    read=read,
    boxes=own_boxes,
)
