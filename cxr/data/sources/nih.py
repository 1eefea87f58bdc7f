"""Reads NIH ChestX-ray14 (Wang et al. 2017) as records: Data_Entry_2017_v2020.csv, or the older Data_Entry_2017.csv.

The images lie in images_001/images to images_012/images, as they are published, or in one folder. train_val_list.txt
and test_list.txt, where they are there, say which image is of the official test set. BBox_List_2017.csv has boxes of
984 images; it writes Infiltrate where the labels have Infiltration. An old table writes the age as 058Y, and some ages
are above 400.

With labels='radiologists' the labels are those that Majkowska et al. 2019 (Radiology 294, 421) published for 4,374
images: four findings, adjudicated by three radiologists. Only these images are read then.

The patients are those of RSNA's challenge: patient_id is what stands before the _ of a file's name, as there.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from cxr.data.sources import layout
from cxr.data.sources.archive import Tree
from cxr.data.sources.dataset import USUAL, Dataset, Given, Reading, own_boxes
from cxr.data.sources.dicom_headers import years
from cxr.data.sources.label_csv import columns_there, first_few, measures
from cxr.data.sources.schema import conform_findings

TABLES = (r"Data_Entry_2017_v2020\.csv", r"Data_Entry_2017\.csv")  # the newer one counts where both are there
BOXES = r"BBox_List_2017\.csv"
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
EXPERT_FILE = r"(?:four_findings_expert_labels_)?(?:test|validation)_labels\.csv"
EXPERTS = re.compile(r"(?:.*/)?four_findings_expert_labels[/_](?:test|validation)_labels\.csv")
COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")  # a comma inside the published header
REPORTED = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "No Finding",
)  # fmt: skip
EXPERT = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
FINDINGS = (*REPORTED, *(name for name in EXPERT if name not in REPORTED))
IMAGE = re.compile(r"(\d{8})_\d{3}\.png")
RENAMED = {"Infiltrate": "Infiltration"}
RADIOLOGISTS = "radiologists"
ANSWERS = {"YES": 1.0, "NO": 0.0, "HEDGE": -1.0, "": np.nan}


def tables(tree: Tree, given: Given = USUAL) -> list[str]:
    """The names of the label tables that are there, the main one first. Raises ValueError without that one."""
    main = next((one for one in TABLES if layout.tables_like(tree, one)), TABLES[0])
    names = [layout.only_table(tree, main, "NIH ChestX-ray14 (Data_Entry_2017_v2020.csv)")]
    for one in (BOXES, *map(re.escape, LISTS.values())):
        names += layout.tables_like(tree, one)[:1]
    return names


def read(tree: Tree, given: Given) -> Reading:
    """The records in the order of the table. Raises ValueError, naming the file, the line, the value and the cure."""
    if given.labels not in ("", RADIOLOGISTS):
        raise ValueError(f"labels = {given.labels!r}: NIH has '' (its own) or {RADIOLOGISTS}")
    main, *others = tables(tree)
    table = layout.read_table(tree, main, COLUMNS)
    rows = _rows(table, main)
    rows["official_split"] = _official(tree, others, rows)
    boxes = next((name for name in others if re.fullmatch(BOXES, _own(name))), None)
    of_image = _boxes(tree, boxes) if boxes else {}
    rows["boxes"] = [of_image.get(image, []) for image in rows["image_id"]]
    notes = []
    if given.labels:
        expert = _expert_tables(tree)
        rows, others = _relabelled(rows, tree, expert), [*others, *expert]
        notes.append(f"{len(rows):,} images with the labels of radiologists (Majkowska et al. 2019) are read alone")
    rows["path"] = layout.place_all(tree, list(rows["image_id"]), layout.file_key, main)
    return Reading(conform_findings(rows, FINDINGS, boxes=True), [main, *others], notes)


def _own(name: str) -> str:
    """A file's name without its folder and .gz."""
    return layout.unpacked(name).rpartition("/")[2]


def _rows(table: pd.DataFrame, name: str) -> pd.DataFrame:
    images = table["Image Index"].str.strip()
    matches = [IMAGE.fullmatch(image) for image in images]
    if None in matches:
        line = table.index[matches.index(None)]
        raise ValueError(
            f"{name} line {line}: Image Index is {images[line]!r}, must be like 00000013_005.png: correct that cell"
        )
    if (twice := images.duplicated()).any():
        raise ValueError(f"{name} line {twice.idxmax()}: the image {images[twice.idxmax()]} stands twice: remove one")
    patients = pd.Series([match[1] for match in matches], table.index)
    stated = measures(table["Patient ID"])
    if (wrong := stated.notna() & (stated != patients.astype(int))).any():
        line = wrong.idxmax()
        raise ValueError(
            f"{name} line {line}: Patient ID is {table.at[line, 'Patient ID']!r} but the file is of patient "
            f"{patients[line]}: restore the published file"
        )
    found = [{part.strip() for part in cell.split("|") if part.strip()} for cell in table["Finding Labels"]]
    for line, labels in zip(table.index, found, strict=True):
        if unknown := labels - set(REPORTED):
            raise ValueError(f"{name} line {line}: unknown label {sorted(unknown)[0]!r}: restore the published file")
        if not labels or (len(labels) > 1 and "No Finding" in labels):
            raise ValueError(
                f"{name} line {line}: Finding Labels is {table.at[line, 'Finding Labels']!r}, must be findings joined "
                f"by | or No Finding alone: correct that cell"
            )
    sex = table["Patient Gender"].str.strip().str.upper()
    view = table["View Position"].str.strip().str.upper()
    return pd.DataFrame(
        {
            "image_id": images,
            "patient_id": patients,
            "study_id": images.str.removesuffix(".png"),  # a follow-up is one image
            "sex": sex.where(sex.isin(("F", "M"))),
            "age": table["Patient Age"].str.strip().str.upper().map(years),
            "projection": "frontal",
            "view": view.where(view.isin(("AP", "PA"))),
            **{finding: [float(finding in labels) for labels in found] for finding in REPORTED},
            **{finding: np.nan for finding in FINDINGS if finding not in REPORTED},
        }
    ).reset_index(drop=True)


def _official(tree: Tree, names: list[str], rows: pd.DataFrame) -> pd.Series:
    """train or test of each image by the official lists; train where no list is there. Raises ValueError."""
    listed: dict[str, str] = {}
    for part, file in LISTS.items():
        name = next((name for name in names if _own(name) == file), None)
        for line in layout.read_packed(tree, name).decode("utf-8-sig", "replace").split() if name else ():
            if listed.setdefault(line, part) != part:
                raise ValueError(f"{name}: {line} stands in {LISTS['train']} too: download both lists again")
    parts = rows["image_id"].map(listed)
    if listed and parts.isna().any():
        lacking = rows.loc[parts.isna(), "image_id"]
        raise ValueError(
            f"{len(lacking):,} images stand in neither {LISTS['train']} nor {LISTS['test']} ({first_few(lacking, 3)}): "
            f"download both lists again, or remove them"
        )
    shared = rows.assign(part=parts).groupby("patient_id")["part"].nunique() > 1
    if shared.any():
        raise ValueError(f"patient {shared.idxmax()} is in {LISTS['train']} and {LISTS['test']}: download both again")
    return parts.fillna("train")


def _boxes(tree: Tree, name: str) -> dict[str, list[dict]]:
    """The boxes of each image. Raises ValueError with the line of one without numbers or of an unknown finding."""
    table = layout.read_table(tree, name, BOX_COLUMNS)
    sides = table[list(BOX_COLUMNS[2:])].apply(measures)
    result: dict[str, list[dict]] = {}
    for line, image, label in zip(table.index, table["Image Index"], table["Finding Label"], strict=True):
        x, y, width, height = map(float, sides.loc[line])
        finding = RENAMED.get(label.strip(), label.strip())
        if not (width > 0 and height > 0) or np.isnan(x + y) or finding not in REPORTED:
            raise ValueError(f"{name} line {line}: no box of a known finding: restore the published file")
        box = {"finding": finding, "x": x, "y": y, "width": width, "height": height, "reader": ""}
        result.setdefault(image.strip(), []).append(box)
    return result


def _expert_tables(tree: Tree) -> list[str]:
    names = [name for name in layout.tables_like(tree, EXPERT_FILE) if EXPERTS.fullmatch(layout.unpacked(name))]
    names = [one for one in names if set(columns_there(layout.read_packed(tree, one), one, EXPERT)) == set(EXPERT)]
    if not names:
        raise ValueError(
            f"labels = {RADIOLOGISTS}: {tree.root} has no four_findings_expert_labels/test_labels.csv nor "
            f"validation_labels.csv: download them beside Data_Entry_2017_v2020.csv"
        )
    return names


def _relabelled(rows: pd.DataFrame, tree: Tree, names: list[str]) -> pd.DataFrame:
    """The rows of the images that radiologists labelled, with their labels; the reports' labels are blank."""
    parts = []
    for name in names:
        table = layout.read_table(tree, name, ("Image Index", *EXPERT))
        cells = table[list(EXPERT)].apply(lambda column: column.str.strip().str.upper())
        if (wrong := ~cells.isin(list(ANSWERS))).any(axis=None):
            line = wrong.any(axis=1).idxmax()
            raise ValueError(f"{name} line {line}: a label is none of YES, NO and HEDGE: restore the published file")
        parts.append(cells.apply(lambda column: column.map(ANSWERS)).set_axis(table["Image Index"].str.strip()))
    labels = pd.concat(parts)
    if labels.index.has_duplicates:
        raise ValueError(f"{labels.index[labels.index.duplicated()][0]} stands twice in {first_few(names)}: remove one")
    rows = rows[rows["image_id"].isin(labels.index)].reset_index(drop=True)
    if rows.empty:
        raise ValueError(f"none of the images in {first_few(names)} is in the main table: give NIH's whole tables")
    blank = dict.fromkeys(REPORTED, np.nan)
    return rows.assign(**blank | {finding: labels.loc[rows["image_id"], finding].to_numpy() for finding in EXPERT})


DATASET = Dataset(
    name="nih",
    title="NIH ChestX-ray14",
    findings=FINDINGS,
    views="frontal, AP and PA",
    patient_key="patient",
    people="nih",
    labelled_by="a program that read the reports (Wang et al. 2017); with labels: radiologists, three radiologists",
    terms="free to use with the acknowledgement that the download page asks for",
    where="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    recognised_by="Data_Entry_2017_v2020.csv or Data_Entry_2017.csv",
    tables=tables,
    read=read,
    boxes=own_boxes,
)
