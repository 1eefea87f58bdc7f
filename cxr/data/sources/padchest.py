"""Reads PadChest (Bustos et al. 2020, Medical Image Analysis 66, 101797) as records, from its table of 160K images.

The reports are Spanish; the published labels are the English names of the terms of a tree, in one cell, written as a
Python list. Such a list has blanks around names (' pneumonia'), empty names, and nan for an image without a label; none
of it is evaluated as code. A finding counts as present where its name or that of one of its branches is in the list
(TREE, of the tree that the authors publish: github.com/auriml/Rx-thorax-automatic-captioning, trees_code.txt). Images
that are labelled 'exclude', that have no label, or that are only called a suboptimal study are left out, and so are
projections of the ribs (COSTAL) and those marked EXCLUDE. The age is the year of the study less that of birth. Images
lie in numbered folders, or in one; they are 16-bit PNG.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from cxr.data.sources import layout
from cxr.data.sources.archive import Tree
from cxr.data.sources.dataset import USUAL, Dataset, Given, Reading
from cxr.data.sources.label_csv import first_few, measures
from cxr.data.sources.schema import conform_findings
from cxr.data.sources.spreadsheet import check_ids

TABLE = r"PADCHEST_chest_x_ray_images_labels_160K.*\.csv"
COLUMNS = (
    "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection",
    "Labels",
)  # fmt: skip
PROJECTIONS = {
    "PA": ("frontal", "PA"), "AP": ("frontal", "AP"), "AP_HORIZONTAL": ("frontal", "AP"), "L": ("lateral", None),
}  # fmt: skip
# The parts of PadChest's published tree of terms below those that FINDINGS names: a term, and its branches.
BRANCHES = {
    "alveolar pattern": ("consolidation", "air bronchogram"),
    "atelectasis": ("total atelectasis", "lobar atelectasis", "segmental atelectasis", "laminar atelectasis",
                    "round atelectasis", "atelectasis basal"),
    "catheter": ("central venous catheter",),
    "central venous catheter": ("central venous catheter via subclavian vein", "reservoir central venous catheter",
                                "central venous catheter via jugular vein",
                                "central venous catheter via umbilical vein"),
    "consolidation": ("air bronchogram",),
    "electrical device": ("dual chamber device", "single chamber device", "pacemaker", "dai"),
    "fracture": ("clavicle fracture", "humeral fracture", "vertebral fracture", "rib fracture"),
    "infiltrates": ("interstitial pattern", "alveolar pattern"),
    "interstitial pattern": ("ground glass pattern", "reticular interstitial pattern", "miliary opacities",
                             "reticulonodular interstitial pattern"),
    "nodule": ("multiple nodules",),
    "pleural effusion": ("loculated pleural effusion", "loculated fissural effusion", "hydropneumothorax", "empyema",
                         "hemothorax"),
    "pleural thickening": ("apical pleural thickening", "calcified pleural thickening"),
    "pneumonia": ("atypical pneumonia",),
    "pneumothorax": ("hydropneumothorax",),
    "rib fracture": ("callus rib fracture",),
}  # fmt: skip
# The tree has no term for all of these.
DEVICES = ("electrical device", "catheter", "endotracheal tube", "tracheostomy tube", "nsg tube", "chest drain tube",
           "gastrostomy tube", "nephrostomy tube", "ventriculoperitoneal drain tube", "double j stent")  # fmt: skip


def with_branches(term: str) -> tuple[str, ...]:
    """A term of the tree and all terms below it."""
    below = [name for branch in BRANCHES.get(term, ()) for name in with_branches(branch)]
    return (term, *dict.fromkeys(below))


# A finding, and the labels of the tree that say it.
TREE = {
    name: with_branches(name)
    for name in (
        "atelectasis", "cardiomegaly", "consolidation", "pleural effusion", "pneumonia", "pneumothorax",
        "pulmonary edema", "fracture", "nodule", "pulmonary mass", "infiltrates", "pleural thickening",
    )
} | {"devices": tuple(name for one in DEVICES for name in with_branches(one)), "normal": ("normal",)}  # fmt: skip
FINDINGS = tuple(TREE)
NO_LABEL = {"suboptimal study", "unchanged", ""}  # they say nothing of a finding
NAME = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def tables(tree: Tree, given: Given = USUAL) -> list[str]:
    """The name of the label table. Raises ValueError for none or several."""
    return [layout.only_table(tree, TABLE, "PadChest")]


def labels_of(cell: str) -> set[str] | None:
    """The labels in a cell, in lower case, or None where it holds no list."""
    if not re.fullmatch(r"\s*\[.*\]\s*", cell, re.DOTALL):
        return None
    return {(one or other).strip().lower() for one, other in NAME.findall(cell)}


def read(tree: Tree, given: Given) -> Reading:
    """The records in the order of the table. Raises ValueError, naming the file, the line, the value and the cure."""
    if given.labels:
        raise ValueError(f"labels = {given.labels!r}: PadChest has one set of labels: leave it empty")
    (name,) = tables(tree)
    table = layout.read_table(tree, name, COLUMNS).map(str.strip)
    for column in ("PatientID", "StudyID"):
        check_ids(table[column], name)
    if (twice := table["ImageID"].duplicated()).any():
        raise ValueError(f"{name} line {twice.idxmax()}: ImageID stands twice: restore the published file")
    sets = [labels_of(cell) for cell in table["Labels"]]
    labelled = pd.Series([bool(labels) and not labels <= NO_LABEL and "exclude" not in labels for labels in sets])
    view = table["Projection"].str.upper().map(PROJECTIONS)
    known = set().union(*(labels for labels in sets if labels))
    if labelled.any() and not known & {label for labels in TREE.values() for label in labels}:
        raise ValueError(f"{name}: no known label in Labels ({first_few(sorted(known), 3)}): give the published table")
    kept = labelled.to_numpy() & view.notna().to_numpy()
    if not kept.any():
        raise ValueError(f"{name}: no row has labels and a frontal or lateral projection: give the published table")
    notes = []
    if n := int((~labelled).sum()):
        notes.append(f"{n:,} images without a usable label (exclude, suboptimal study, nan) are left out")
    if n := int((labelled.to_numpy() & view.isna().to_numpy()).sum()):
        notes.append(f"{n:,} images that are neither frontal nor lateral (COSTAL, EXCLUDE) are left out")
    rows, views = table[kept], view[kept]
    found = [labels for labels, keep in zip(sets, kept, strict=True) if keep]
    paths = [f"{number}/{image}" for number, image in zip(rows["ImageDir"], rows["ImageID"], strict=True)]
    sex = rows["PatientSex_DICOM"].str.upper()
    records = pd.DataFrame(
        {
            "image_id": rows["ImageID"],
            "patient_id": rows["PatientID"],
            "study_id": rows["StudyID"],
            "path": layout.place_all(tree, paths, layout.file_key, name),
            "sex": sex.where(sex.isin(("F", "M"))),
            "age": _ages(rows),
            "projection": [projection for projection, _ in views],
            "view": [side for _, side in views],
            "official_split": "train",
            **{finding: [float(bool(labels & set(names))) for labels in found] for finding, names in TREE.items()},
        }
    )
    return Reading(conform_findings(records, FINDINGS), [name], notes)


def _ages(rows: pd.DataFrame) -> np.ndarray:
    born = measures(rows["PatientBirth"]).to_numpy()
    year = pd.to_numeric(rows["StudyDate_DICOM"].str.removesuffix(".0").str[:4], errors="coerce").to_numpy()
    return year - np.where(born > 0, born, np.nan)


DATASET = Dataset(
    name="padchest",
    title="PadChest",
    findings=FINDINGS,
    views="frontal (PA, AP, AP lying) and lateral",
    patient_key="patient",
    people="san juan",
    labelled_by="physicians for 27 % of the reports, a program trained on these for the others",
    terms="for research, after registration with BIMCV; no image may be given to others",
    where="https://bimcv.cipf.es/bimcv-projects/padchest/",
    recognised_by="PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv(.gz)",
    tables=tables,
    read=read,
)
