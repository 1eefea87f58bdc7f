"""Reads MIMIC-CXR-JPG (Johnson et al. 2019) as records: metadata, split, and the labels of CheXpert's labeller, of
NegBio, or of radiologists for the test studies.

A table may be packed (.csv.gz). Labels are of studies, and their columns stand in alphabetical order. A study that has
no row in a label table has no labels at all, which is not the same as blank ones: its images are left out. The split
says `validate`. ViewPosition may be LATERAL, which has no side, or blank; then the view's code says more. Views that
are neither frontal nor lateral are left out. The release has no sex and no age: patients.csv of MIMIC-IV beside it has.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS
from cxr.data.sources import layout
from cxr.data.sources.archive import Tree
from cxr.data.sources.dataset import USUAL, Dataset, Given, Reading
from cxr.data.sources.label_csv import first_few, measures, numbers, read_csv
from cxr.data.sources.schema import conform_findings

METADATA = r"mimic-cxr-[\d.]+-metadata\.csv"
SPLIT = r"mimic-cxr-[\d.]+-split\.csv"
LABELS = {
    "chexpert": r"mimic-cxr-[\d.]+-chexpert\.csv",
    "negbio": r"mimic-cxr-[\d.]+-negbio\.csv",
    "radiologists": r"mimic-cxr-[\d.]+-test-set-labeled\.csv",
}
PATIENTS = r"patients\.csv"
KEYS = ("dicom_id", "subject_id", "study_id")
SPLITS = {"train": "train", "validate": "valid", "test": "test"}
# ViewPosition, or the code's meaning where it is blank -> projection, view
VIEWS = {
    "AP": ("frontal", "AP"), "PA": ("frontal", "PA"), "LL": ("lateral", "LL"), "RL": ("lateral", "RL"),
    "LATERAL": ("lateral", None), "ANTERO-POSTERIOR": ("frontal", "AP"), "POSTERO-ANTERIOR": ("frontal", "PA"),
    "LEFT LATERAL": ("lateral", "LL"), "RIGHT LATERAL": ("lateral", "RL"),
}  # fmt: skip
AIRSPACE = "Airspace Opacity"  # the radiologists' table calls Lung Opacity so


def tables(tree: Tree, given: Given = USUAL) -> list[str]:
    """The names of the metadata, the split, the chosen labels, and MIMIC-IV's patients where they are there. Raises
    ValueError, with the cure, for a table that is missing or stands in several places.
    """
    what, chosen = "MIMIC-CXR-JPG", given.labels or "chexpert"
    if chosen not in LABELS:
        raise ValueError(f"labels = {chosen!r}: MIMIC-CXR has {', '.join(LABELS)}")
    names = [layout.only_table(tree, pattern, what) for pattern in (METADATA, SPLIT)]
    others = [label for label, pattern in LABELS.items() if layout.tables_like(tree, pattern)]
    if others and chosen not in others:
        raise ValueError(f"{tree.root} has MIMIC-CXR without the table of {chosen}: write labels: {others[0]}")
    names.append(layout.only_table(tree, LABELS[chosen], what))
    if layout.tables_like(tree, PATIENTS):
        names.append(layout.only_table(tree, PATIENTS, "MIMIC-IV's patients"))
    return names


def read(tree: Tree, given: Given) -> Reading:
    """The records in the order of the metadata. labels: chexpert, negbio or radiologists. Raises ValueError."""
    metadata, split, labels, *patients = names = tables(tree, given)
    columns = (*KEYS, "ViewPosition", "StudyDate", "ViewCodeSequence_CodeMeaning")
    rows = layout.read_table(tree, metadata, columns).map(str.strip)
    if (twice := rows["dicom_id"].duplicated()).any():
        raise ValueError(f"{metadata} line {twice.idxmax()}: dicom_id stands twice: restore the published file")
    rows["official_split"] = _split(tree, split, rows["dicom_id"])
    stated = rows["ViewPosition"].where(rows["ViewPosition"] != "", rows["ViewCodeSequence_CodeMeaning"]).str.upper()
    read_as = stated.map(VIEWS)
    of_study = _labels(tree, labels, given.labels == "radiologists")
    unlabelled, other = ~rows["study_id"].isin(of_study.index), read_as.isna()
    notes = []
    if n := int((other & ~unlabelled).sum()):
        notes.append(f"{n:,} images with a view that is neither frontal nor lateral, or none, are left out")
    if n := int(unlabelled.sum()):
        notes.append(f"{n:,} images of studies without a row in {labels} are left out")
    kept = ~unlabelled & ~other
    if not kept.any():
        raise ValueError(f"{metadata}: no image of a known view has labels in {labels}: give tables of one release")
    rows, read_as = rows[kept], read_as[kept]
    paths = [
        f"files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg"
        for image, subject, study in zip(*(rows[key] for key in KEYS), strict=True)
    ]
    records = pd.DataFrame(
        {
            "image_id": rows["dicom_id"],
            "patient_id": rows["subject_id"],
            "study_id": rows["study_id"],
            "path": layout.place_all(tree, paths, layout.file_key, metadata),
            "projection": [projection for projection, _ in read_as],
            "view": [view for _, view in read_as],
            "official_split": rows["official_split"],
            **{finding: of_study.loc[rows["study_id"], finding].to_numpy() for finding in FINDINGS},
            **_people(tree, patients, rows),
        }
    )
    return Reading(conform_findings(records, FINDINGS), names, notes)


def _split(tree: Tree, name: str, images: pd.Series) -> list[str]:
    table = layout.read_table(tree, name, ("dicom_id", "split")).map(str.strip)
    if (wrong := ~table["split"].isin(SPLITS)).any():
        line = wrong.idxmax()
        raise ValueError(
            f"{name} line {line}: split is {table.at[line, 'split']!r}, must be one of {', '.join(SPLITS)}"
        )
    parts = dict(zip(table["dicom_id"], table["split"].map(SPLITS), strict=True))
    if lacking := [image for image in images if image not in parts]:
        raise ValueError(f"{name} lacks {len(lacking):,} images ({first_few(lacking, 3)}): give tables of one release")
    return [parts[image] for image in images]


def _labels(tree: Tree, name: str, radiologists: bool) -> pd.DataFrame:
    """study_id -> the 14 findings. The radiologists' table lacks No Finding in some releases; then it is blank."""
    data = layout.read_packed(tree, name)
    renamed = {"Lung Opacity": AIRSPACE} if radiologists else {}
    wanted = [renamed.get(finding, finding) for finding in FINDINGS]
    if radiologists and AIRSPACE.encode() not in data[:2000]:
        wanted = list(FINDINGS)
    if radiologists and b"No Finding" not in data[:2000]:
        wanted.remove("No Finding")
    table = read_csv(data, name, ("study_id", *wanted))
    labels = pd.DataFrame({column: numbers(table[column], (1, 0, -1), name) for column in wanted})
    labels = labels.rename(columns={AIRSPACE: "Lung Opacity"}).reindex(columns=list(FINDINGS))
    labels.index = pd.Index(table["study_id"].str.strip().str.removesuffix(".0"))
    if (twice := labels.index.duplicated()).any():
        raise ValueError(f"{name}: study {labels.index[twice][0]} stands twice: restore the published file")
    return labels


def _people(tree: Tree, names: list[str], rows: pd.DataFrame) -> dict[str, list]:
    """Sex and age of each row, from MIMIC-IV's patients: the age in one anonymised year, moved to the study's."""
    unknown = {"sex": [None] * len(rows), "age": [np.nan] * len(rows)}
    if not names:
        return unknown
    name = names[0]
    table = layout.read_table(tree, name, ("subject_id", "gender", "anchor_age", "anchor_year"))
    born = (measures(table["anchor_year"]) - measures(table["anchor_age"])).to_numpy()
    people = pd.DataFrame(
        {"sex": table["gender"].str.strip().to_numpy(), "born": born}, table["subject_id"].str.strip()
    )
    people = people[~people.index.duplicated()].reindex(rows["subject_id"])
    year = pd.to_numeric(rows["StudyDate"].str[:4], errors="coerce").to_numpy()
    return {
        "sex": list(people["sex"].where(people["sex"].isin(("F", "M")))),
        "age": list(year - people["born"].to_numpy()),
    }


DATASET = Dataset(
    name="mimic",
    title="MIMIC-CXR-JPG",
    findings=FINDINGS,
    views="frontal and lateral",
    patient_key="patient",
    people="beth israel",
    labelled_by="CheXpert's labeller, or NegBio, from reports; with labels: radiologists, by hand (test studies)",
    terms="credentialed access (PhysioNet); no image and no row may be given to others",
    where="https://physionet.org/content/mimic-cxr-jpg/",
    recognised_by="mimic-cxr-2.0.0-metadata.csv(.gz)",
    tables=tables,
    read=read,
    blank_is_negative=True,
)
