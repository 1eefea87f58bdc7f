"""Reads the RSNA Pneumonia Detection Challenge 2018, stage 2, as records: one per image.

Its two tables have a row per box, one for an image without a box. Their patientId names an image: 26,684 images are of
11,439 patients of NIH. RSNA's mapping (cxr/data/sources/rsna_patients.py) says which; without it an image's patient is
unknown, and patient_id holds the image. Sex, age and view come from the DICOM headers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from cxr.core.findings import CLASSES
from cxr.data.sources import layout, rsna_patients
from cxr.data.sources.archive import DEPTHS, Tree
from cxr.data.sources.dataset import USUAL, Dataset, Given, Reading
from cxr.data.sources.dicom_headers import Header, read_headers
from cxr.data.sources.label_csv import first_few, is_blank, measures, numbers, read_csv
from cxr.data.sources.rsna_patients import Patients
from cxr.data.sources.schema import VIEWS, conform

ReadHeaders = Callable[[Tree, list[str]], list[Header]]
LABELS, CLASS_INFO = TABLES = ("stage_2_train_labels.csv", "stage_2_detailed_class_info.csv")
IMAGES = "stage_2_train_images/"
BOX = ("x", "y", "width", "height")


def tables(tree: Tree, given: Given = USUAL) -> list[str]:
    """The names of the label tables. Raises ValueError when the tree holds no stage 2 of the challenge, or several."""
    folders = tree.folder_of(*TABLES)
    if len(folders) == 1:
        return [folders[0] + name for name in TABLES]
    if folders:
        raise ValueError(
            f"{tree.root} holds several RSNA challenges ({first_few(folders)}): give the folder of one of them"
        )
    for here, lacking in (TABLES, TABLES[::-1]):
        if halves := tree.folder_of(here):
            raise ValueError(f"{tree.root}: {halves[0]}{here} lacks {lacking} beside it: restore it from the data set")
    raise ValueError(
        f"no RSNA challenge here: neither {tree.root} nor a folder up to {DEPTHS[-1]} levels below has {LABELS} and "
        f"{CLASS_INFO}{layout.tables_above(tree, *TABLES)}"
    )


def read(tree: Tree, patients: Patients | None = None, headers: ReadHeaders = read_headers) -> pd.DataFrame:
    """The records of an RSNA tree, in the order of the images' first rows in the labels.

    patients: the patient of each image; without it patient_id is the image's. headers: the function that reads the
    headers of the named images. An image with an unreadable header keeps its record, with sex, age and view unknown.
    The resize stage judges it.
    Raises ValueError, naming the file, the line, the value and the cure: a table missing or empty, a column missing, a
    Target other than 0 or 1, a box without numbers, an unknown class, tables that disagree, an image that is missing or
    has no patient.
    """
    labels_name, classes_name = tables(tree)
    images = _images(tree, labels_name, classes_name)
    images["path"] = _files(tree, labels_name, images.index.astype("str"))
    images["patient_id"] = patients.of(images.index, labels_name) if patients else images.index
    images["sex"], images["age"], images["view"] = zip(*headers(tree, list(images["path"])), strict=True)
    images["view"] = images["view"].where(images["view"].isin(VIEWS))
    return _records(images)


def _files(tree: Tree, labels_name: str, images: pd.Index) -> list[str]:
    """The name in the tree of each image's file, wherever below the root it lies. Raises ValueError."""
    names, folder = tree.names(), labels_name.removesuffix(LABELS) + IMAGES
    paths = [f"{folder}{image}.dcm" for image in images]
    missing = [path for path in paths if path not in names]
    elsewhere = layout.find(tree, missing, layout.file_key) if missing else {}
    if lost := [path for path in missing if path not in elsewhere]:
        ids = {layout.file_key(path)[0] for path in lost}
        others = sorted(name for name in names if layout.file_key(name)[0] in ids)
        why = layout.why_missing(tree, lost, layout.file_key)
        if others and not why:
            why = (
                f"there is {others[0]}; give the challenge's DICOM files: sex, age and view stand in their headers, "
                f"and the boxes count their pixels"
            )
        raise ValueError(
            f"{labels_name}: {len(lost):,} of {len(paths):,} images do not exist in {tree.root}/{folder} "
            f"({first_few(layout.file_key(path)[0] for path in lost)}): "
            f"{why or 'complete the download, or remove their rows from both tables'}"
        )
    return [elsewhere.get(path, path) for path in paths]


def read_labels(tree: Tree, labels_name: str, classes_name: str, patients: Patients | None = None) -> pd.DataFrame:
    """The records of the two tables, whether the images are there or not; without these, sex, age and view are unknown.

    patients: as of read. Raises ValueError as `read` does for what the tables hold.
    """
    images = _images(tree, labels_name, classes_name)
    images["patient_id"] = patients.of(images.index, labels_name) if patients else images.index
    images["path"] = images.index.astype("str") + ".dcm"
    return _records(images.assign(sex=None, age=np.nan, view=None))


def _images(tree: Tree, labels_name: str, classes_name: str) -> pd.DataFrame:
    """One row per image (index) of both tables: target, line, boxes, class_name."""
    images = _boxes(read_csv(tree.read(labels_name), labels_name, ("patientId", *BOX, "Target")), labels_name)
    classes = _classes(read_csv(tree.read(classes_name), classes_name, ("patientId", "class")), classes_name)
    for one, other, name in ((images, classes, classes_name), (classes, images, labels_name)):
        if lacking := sorted(set(one.index) - set(other.index)):
            raise ValueError(
                f"{name} lacks {len(lacking):,} images of the other table ({first_few(lacking)}): download both again"
            )
    images["class_name"] = classes["class"].reindex(images.index)
    if (wrong := (images["class_name"] == CLASSES[0]) != (images["target"] == 1)).any():
        row = images[wrong].iloc[0]
        raise ValueError(
            f"{labels_name} line {row['line']}: image {row.name} has Target {row['target']:g} but the class "
            f"{row['class_name']!r} in {classes_name}: download both again"
        )
    return images


def _records(images: pd.DataFrame) -> pd.DataFrame:
    images["image_id"] = images["study_id"] = images.index
    images["projection"] = np.where(images["view"].isin(("LL", "RL")), "lateral", "frontal")
    images["official_split"] = "train"
    return conform(images, "rsna")


def _boxes(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row per image (index): target, boxes, line (of the first row)."""
    _check_ids(table, name)
    target = numbers(table["Target"], (0, 1), name)
    if target.isna().any():
        raise ValueError(f"{name} line {target.isna().idxmax()}: Target is blank, must be 0 or 1: correct that cell")
    box = table[list(BOX)].apply(measures)
    good = (box.notna().all(axis=1)) & (box[["width", "height"]] > 0).all(axis=1)
    if (wrong := (target == 1) & ~good).any():
        line = wrong.idxmax()
        values = ", ".join(table.loc[line, list(BOX)])
        raise ValueError(
            f"{name} line {line}: Target is 1 but x, y, width, height are {values!r}, no box: correct that row"
        )
    empty = table[list(BOX)].map(is_blank) | (box == 0)  # fillna(0) leaves zeros where no box was
    if (wrong := (target == 0) & ~empty.all(axis=1)).any():
        line = wrong.idxmax()
        raise ValueError(
            f"{name} line {line}: Target is 0, but there is a box ({', '.join(table.loc[line, list(BOX)])}): correct "
            f"that row"
        )
    rows = pd.DataFrame({"target": target, "line": table.index, "box": box.to_numpy().tolist()}, table.index)
    groups = rows.groupby(table["patientId"], sort=False)
    if (wrong := groups["target"].nunique() > 1).any():
        image = wrong.idxmax()
        lines = first_few(groups.get_group(image)["line"])
        raise ValueError(f"{name}: image {image} has Target 0 and 1 (lines {lines}): correct these rows")
    images = groups[["target", "line"]].first()
    boxes = rows[target == 1].groupby(table["patientId"], sort=False)["box"].agg(list)
    images["boxes"] = [boxes.get(image, []) for image in images.index]
    return images


def _classes(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row per image (index): class."""
    _check_ids(table, name)
    table["class"] = table["class"].str.strip()
    if (wrong := ~table["class"].isin(CLASSES)).any():
        line = wrong.idxmax()
        raise ValueError(
            f"{name} line {line}: class is {table.at[line, 'class']!r}, must be one of {', '.join(CLASSES)}"
        )
    different = table.drop_duplicates()
    if (repeated := different["patientId"].duplicated()).any():
        image = different.at[repeated.idxmax(), "patientId"]
        rows = different[different["patientId"] == image]
        raise ValueError(
            f"{name} lines {first_few(rows.index)}: image {image} is {' and '.join(rows['class'])}: keep one of them"
        )
    return different.set_index("patientId")


def _check_ids(table: pd.DataFrame, name: str) -> None:
    table["patientId"] = table["patientId"].str.strip()
    if (wrong := ~table["patientId"].str.fullmatch(r"[\w.-]+") | table["patientId"].str.startswith(".")).any():
        line = wrong.idxmax()
        raise ValueError(
            f"{name} line {line}: patientId is {table.at[line, 'patientId']!r}, no file name: correct that cell"
        )


def read_all(tree: Tree, given: Given, headers: ReadHeaders = read_headers) -> Reading:
    """Records. headers: as of `read`. Without a mapping given, the one beside the tables counts, if there is one."""
    names, patients = tables(tree), given.patients
    if patients is None and (name := rsna_patients.beside(tree, names[0])):
        names.append(name)
        patients = rsna_patients.parse(tree.read(name), name)
    return Reading(read(tree, patients, headers), names, [], {"patient_key": "patient" if patients else "image"})


def labels(records: pd.DataFrame, findings: tuple[str, ...]) -> pd.DataFrame:
    """The classes as labels: one of them is there, the others are not."""
    return pd.DataFrame({name: (records["class_name"] == name).astype(np.float32) for name in findings})


def boxes(records: pd.DataFrame) -> pd.DataFrame:
    """The boxes, all of a lung opacity."""
    rows = [
        (image, CLASSES[0], *map(float, box))
        for image, of_image in zip(records["image_id"], records["boxes"], strict=True)
        for box in of_image
    ]
    return pd.DataFrame(rows, columns=["image_id", "label", *BOX])


DATASET = Dataset(
    name="rsna",
    title="RSNA Pneumonia Detection Challenge 2018",
    findings=CLASSES,
    views="frontal",
    patient_key="patient with the mapping, else image",
    people="nih",
    labelled_by="radiologists",
    terms="for research and education, under the challenge's rules; no image may be given to others",
    where="https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
    recognised_by="stage_2_train_labels.csv and stage_2_detailed_class_info.csv",
    tables=tables,
    read=read_all,
    boxes=boxes,
    labels=labels,
)
