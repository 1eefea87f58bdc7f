"""The flow of patients, studies and images: records, rejected images, split, and what each part was used for."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from cxr.adgm.formats import Model
from cxr.adgm.variants import Run, leading
from cxr.core.files import read_json, read_table
from cxr.core.findings import FINDINGS, in_view, matrix, truth
from cxr.core.guard import SPLIT
from cxr.core.records import load
from cxr.data.formats import Manifest
from cxr.papers import DATASETS
from cxr.report.figures.flow import Box
from cxr.report.figures.flow import flow as figure
from cxr.report.inputs import Artefacts
from cxr.report.page import Picture, Table, plot
from cxr.report.sections.generators import plan_of

PARTS = {"train": "Training", "valid": "Validation", "test": "Test", "unused": "Not used"}


class Counts(NamedTuple):
    """How many patients, studies and images; of a source whose key of a patient names an image: images alone."""

    patients: int | None
    studies: int | None
    images: int

    def lines(self) -> list[str]:
        names = {"patients": ("patient", "patients"), "studies": ("study", "studies"), "images": ("image", "images")}
        counts = {name: n for name, n in self._asdict().items() if n is not None}
        return [f"{n:,} {names[name][n != 1]}" for name, n in counts.items()]


def flow(run: Artefacts) -> dict:
    """The figure of each data set, and one table of all steps."""
    pictures, rows = {}, []
    for dataset, name in DATASETS.items():
        picture, steps = _of(run, dataset)
        pictures[dataset] = {"name": name, "picture": picture}
        rows += [{"dataset": name, **step} for step in steps]
    alone = {dataset: one["picture"] for dataset, one in pictures.items()}
    return {"pictures": list(pictures.values()), "table": Table("flow", rows), **alone}


def _of(run: Artefacts, dataset: str) -> tuple[Picture, list[dict]]:
    records = load(run.dataset(dataset) / "records.parquet", dataset)
    rejected = read_table(run.stores / dataset / "rejected.csv", f"resize@{dataset}", ("image_id",))
    split = read_table(run.splits / dataset / SPLIT, f"split@{dataset}", ("image_id", "split"))
    manifest = read_json(run.dataset(dataset) / "manifest.json", f"download@{dataset}", Manifest)
    alone = manifest.patient_key == "image"  # nothing says which images share a patient
    lost = records["image_id"].isin(rejected["image_id"])
    placed = records.merge(split[["image_id", "split"]].drop_duplicates("image_id"), on="image_id")
    left = records[~lost & ~records["image_id"].isin(placed["image_id"])]
    steps = [("records", records), ("rejected", records[lost]), ("outside the split", left)]
    rows = [{"step": name} | _count(part, alone)._asdict() for name, part in steps]
    trunk = [Box("Records", _count(records, alone).lines()), Box("Split", _count(placed, alone).lines())]
    outside = [f"{lost.sum():,} unreadable", *[f"{len(left):,} outside the split"] * bool(len(left))]
    branches = []
    for part, title in PARTS.items():
        members = placed[placed["split"] == part]
        if len(members):
            used = _use(run, dataset, part, members)
            branches.append([Box(title, _count(members, alone).lines()), *([used] if used else [])])
            rows.append({"step": part} | _count(members, alone)._asdict())
    return plot(figure(trunk, [Box("Images left out", outside), None], branches)), rows


def counts_of(table: Table, dataset: str, step: str) -> dict:
    """patients, studies and images of one step, from the table of all steps; None: unknown."""
    (row,) = [row for row in table.rows if (row["dataset"], row["step"]) == (dataset, step)]
    return {name: row[name] for name in Counts._fields}


def _count(part: pd.DataFrame, alone: bool) -> Counts:
    if alone:
        return Counts(None, None, len(part))
    studies = part[["patient_id", "study_id"]].drop_duplicates()
    return Counts(part["patient_id"].nunique(), len(studies), len(part))


def _use(run: Artefacts, dataset: str, part: str, members: pd.DataFrame) -> Box | None:
    """What the images of one part were used for."""
    if part == "unused":
        return None
    return _chexpert(run, part, members) if dataset == "chexpert" else _rsna(run, part, members)


def _chexpert(run: Artefacts, part: str, members: pd.DataFrame) -> Box:
    view = run.params.get("classifier", {}).get("view", "all")
    seen = in_view(members, view)
    certain = (truth(matrix(seen)) >= 0).sum(axis=0)  # NaN is uncertain
    label = f"{certain.min():,}" if certain.min() == certain.max() else f"{certain.min():,} to {certain.max():,}"
    lines = [f"{len(seen):,} image{'s' * (len(seen) != 1)}, {'all views' if view == 'all' else view}"]
    lines += [f"{len(FINDINGS)} findings, certain", f"in {label} images"]
    if part == "train" and run.findings:
        lines.append(f"and {plan_of(run).synthetic_images:,} generated (final)")
    return Box({"train": "Trained on", "valid": "Epoch, thresholds", "test": "Tested on"}[part], lines)


def _rsna(run: Artefacts, part: str, members: pd.DataFrame) -> Box | None:
    lists = (run.variants, run.classes, run.labels, run.draws)
    if not all(lists):
        return None
    if part != "train":
        head = "Tested on" if part == "test" else "Reported on"
        return Box(head, [f"{len(members):,} image{'s' * (len(members) != 1)} with a class"])
    one = Run(leading(run.variants), max(run.classes), max(run.labels), min(run.draws))
    model = read_json(run.adgm_run(one)[1] / "model.json", one.stage, Model)
    lines = [f"{model.n_labelled:,} with their class, {model.n_unlabelled:,} without"]
    return Box(f"Trained on (ADGM, {one.classes} classes)", lines)
