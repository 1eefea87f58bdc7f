"""The rows of the audit for paper 2 (RSNA 2018): cohort, classes, the split, the labels, and its two matrices.

The paper's split is known from the code that it published: rows of the label table, one per box, in file order, with
the number of images taken for the number of rows (docs/papers.md, E42, E43). Which patients stand on both of its sides
needs RSNA's mapping of images to patients (E72).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr import papers
from cxr.audit.sheet import Recount, Sheet, percent, rounded
from cxr.cohort.describe import rsna_classes
from cxr.core.findings import CLASS_NAMES, CLASSES

IMAGES = papers.COHORTS["paper 2, RSNA 2018"]["images"]
FIGURE = {2: "Figure 3", 3: "Figure 4"}
SIMILAR = 0.2  # a class is of similar size when its share is within this much of an equal one, relatively
LABELS = (100, 4000)  # per class: the ends of figures 5 and 6


class Facts(NamedTuple):
    """images: their number. classes: of cxr/cohort/describe.py, a row per class. image, kind: of every row of the label
    table, the image's number and the index into CLASSES. train: rows that the paper's code trains on, up to which the
    first `images` rows validate. patient: of every image, None where patients are unknown.
    """

    images: int
    classes: pd.DataFrame
    image: np.ndarray
    kind: np.ndarray
    train: int
    patient: np.ndarray | None

    def labelled(self, task: int, k: int, n: int) -> np.ndarray:
        """The images of the first n training rows of a task's class k."""
        kind = self.kind[: self.train]
        at = np.flatnonzero((kind == 2) == (k == 1) if task == 2 else kind == k)
        return np.unique(self.image[at[:n]])


def count(records: pd.DataFrame, patient_key: str) -> Facts:
    """records: RSNA, in the order of the label table, in which the rows of an image stand together. patient_key: what
    patient_id names, patient or image.
    """
    rows = records["boxes"].map(len).clip(lower=1).to_numpy()
    image = np.repeat(np.arange(len(records)), rows)
    kind = records["class_name"].map(CLASSES.index).to_numpy()[image]
    classes = rsna_classes(records).set_index("class_name")
    patient = records["patient_id"].to_numpy() if patient_key == "patient" else None
    return Facts(len(records), classes, image, kind, int(papers.TRAIN_SHARE * len(records)), patient)


def sheet(facts: Facts | None, why: str) -> Sheet:
    """The rows of paper 2. why: the reason where there are no facts, else ''."""
    audit = Sheet(2, "rsna", facts, why)
    _cohort(audit)
    _split(audit)
    _labels(audit)
    _matrices(audit)
    return audit


def _cohort(audit: Sheet) -> None:
    def images(f: Facts) -> Recount:
        whose = "" if f.patient is None else f" of {len(np.unique(f.patient)):,} patients"
        reason = f"{f.images:,} images{whose}, rounded to thousands by the paper; {len(f.image):,} rows, one per box"
        return Recount(f"{f.images:,}", f.images == IMAGES, reason)

    audit.claim("text", "images", f"{IMAGES:,}", images)
    for unit, what in (("images", "images"), ("rows", "rows, one per box")):
        for name in CLASSES:

            def similar(f: Facts, unit=unit, name=name) -> Recount:
                share, n = f.classes.loc[name, f"{unit}_percent"] / 100, f.classes.loc[name, unit]
                right = abs(share * len(CLASSES) - 1) <= SIMILAR
                return Recount(percent(share), right, f"{n:,}; similar is read as within a fifth of a third")

            audit.claim("text", f"{name}, share of the {what}", "similar size: a third", similar, "implied")

    def bar(f: Facts) -> Recount:
        rows, n = f.classes.loc[CLASSES[0], ["rows", "images"]]
        return Recount(f"{rows:,}", abs(rows - papers.OPACITY_BAR) <= 50, f"rows; they are of {n:,} images")

    audit.claim("bar chart", f"{CLASSES[0]}, bar read by eye", f"about {papers.OPACITY_BAR:,}", bar)


def _split(audit: Sheet) -> None:
    def share(part: slice, claimed: float, f: Facts) -> Recount:
        n = len(np.unique(f.image[part]))
        reason = f"{n:,} images in {len(f.image[part]):,} rows: a slice of rows taken for images"
        return Recount(percent(n / f.images), rounded(f"{100 * claimed:.0f}", 100 * n / f.images), reason)

    part, rest = papers.TRAIN_SHARE, 1 - papers.TRAIN_SHARE
    audit.claim("text", "images trained on", f"{100 * part:.0f} %", lambda f: share(slice(f.train), part, f))
    audit.claim(
        "text", "images validated on", f"{100 * rest:.0f} %", lambda f: share(slice(f.train, f.images), rest, f)
    )

    def unused(f: Facts) -> Recount:
        n = len(np.setdiff1d(f.image, f.image[: f.images]))
        return Recount(f"{n:,}", n == 0, f"the last {len(f.image) - f.images:,} rows are in neither part")

    def on_both_sides(f: Facts) -> Recount:
        n = len(np.intersect1d(f.image[: f.train], f.image[f.train : f.images]))
        return Recount(f"{n:,}", n == 0, "their boxes lie on both sides of the cut" if n else "")

    audit.claim("text", "images never used", "0", unused, "implied")
    audit.claim("text", "images in training and validation", "0", on_both_sides, "implied")
    audit.claim("text", "patients in training and validation", "0", _shared, "implied")
    for task, matrix in papers.ADGM_MATRIX.items():
        for k, name in enumerate(papers.ADGM_CLASSES[task]):

            def rows(f: Facts, task=task, k=k) -> int:
                kind = f.kind[f.train : f.images]
                return int(((kind == 2) == (k == 1) if task == 2 else kind == k).sum())

            reason = "rows of its validation slice: the printed row has lost some"
            audit.count(FIGURE[task], f"{name}, validation images of {task} classes", sum(matrix[k]), rows, reason)


def _shared(f: Facts) -> Recount | None:
    """Patients with images on both sides of the paper's cut. None where patients are unknown."""
    if f.patient is None:
        return None
    train, valid = (np.unique(f.image[part]) for part in (slice(f.train), slice(f.train, f.images)))
    patients = np.intersect1d(f.patient[train], f.patient[valid])
    n = int(np.isin(f.patient[valid], patients).sum())
    reason = f"{n:,} of {len(valid):,} validation images ({percent(n / len(valid))}) are of a patient in training"
    return Recount(f"{len(patients):,}", not len(patients), reason)


def _labels(audit: Sheet) -> None:
    n = max(LABELS)
    for task, names in CLASS_NAMES.items():
        for k, name in enumerate(names):

            def labelled(f: Facts, task=task, k=k) -> int:
                return len(f.labelled(task, k, n))

            reason = "images: the labels are the first rows of the file, one per box"
            audit.count(FIGURE[task], f"{name}, labelled images of {task} classes", n, labelled, reason)
    for task, names in CLASS_NAMES.items():
        for per_class in LABELS:
            labelled, where = len(names) * per_class, f"{task} classes, {per_class:,} labels per class"
            implied = round(papers.TRAIN_SHARE * IMAGES) - labelled

            def alpha(f: Facts, labelled=labelled) -> Recount:
                value, claimed = f.train / labelled, papers.TRAIN_SHARE * IMAGES / labelled
                return Recount(
                    f"{value:.3f}", rounded(f"{claimed:.3f}", value), f"N_l = {labelled:,}; {IMAGES:,} is rounded"
                )

            audit.count(
                "text", f"N_u, {where}", implied, lambda f, n=labelled: f.train - n,
                f"nine tenths of the images less N_l = {labelled:,}; {IMAGES:,} is rounded", "implied",
            )  # fmt: skip

            def excess(f: Facts, labelled=labelled) -> Recount:
                value = (f.train - labelled) / labelled
                return Recount(f"{value:.3g}", value == 1, "N_u / N_l: its code adds a mean over each kind of image")

            audit.claim(
                "equation 11", f"weight of a labelled image, of an unlabelled one; {where}", "1", excess, "implied"
            )
            claimed = f"{papers.TRAIN_SHARE * IMAGES / labelled:.3f}"
            audit.claim("equation 10", f"alpha = (N_l + N_u) / N_l, {where}", claimed, alpha, "implied")


def _matrices(audit: Sheet) -> None:
    n = papers.ADGM_IMAGES
    tenth = round((1 - papers.TRAIN_SHARE) * IMAGES)
    audit.own(
        "text, Figure 3", "validation images: a tenth of all, and the sum of the matrix", f"{tenth:,}",
        f"{sum(map(sum, papers.ADGM_MATRIX[2])):,}", tenth == n, f"{IMAGES:,} is rounded",
    )  # fmt: skip
    for task, matrix in papers.ADGM_MATRIX.items():
        total, names = sum(map(sum, matrix)), papers.ADGM_CLASSES[task]
        if task == 3:
            audit.own(
                "Figure 4", "sum of the matrix, as of Figure 3\u2019s", f"{n:,}", f"{total:,}", total == n,
                "both validate on the same images; the printed accuracies need the whole number",
            )  # fmt: skip
        hits = [row[k] for k, row in enumerate(matrix)]
        parts = zip(names, papers.ADGM_CLASS_ACCURACY[task], hits, map(sum, matrix), strict=True)
        for name, claimed, hit, of in (*parts, ("total", papers.ADGM_ACCURACY[task], sum(hits), total)):
            printed, value = f"{100 * claimed:.2f}", 100 * hit / of
            reason = f"{hit:,} of {of:,}"
            if not (right := rounded(printed, value)):
                reason += f"; {printed} % is {hit:,} of {hit / claimed:,.0f}"
            audit.own(
                FIGURE[task], f"accuracy, {name}, of {task} classes", f"{printed} %", f"{value:.2f} %", right, reason
            )
        most = max(matrix, key=sum)
        name, share = names[matrix.index(most)], sum(most) / n
        audit.own(
            f"text, {FIGURE[task]}", f"commonest of {task} classes, share of the validation images",
            f"no unbalanced dataset problems: {percent(1 / task)}", percent(share), share * task - 1 <= SIMILAR,
            f"{name}; always saying so is right that often",
        )  # fmt: skip
