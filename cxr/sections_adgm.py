"""The report's section on the ADGM (RSNA): accuracy against labels, confusion matrices, training curves, samples.

As cxr/sections.py: the names that the template uses, nothing computed anew.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cxr import figures, papers
from cxr.artefacts import Artefacts, Rows, csv, image
from cxr.files import read_json
from cxr.labels import CLASS_NAMES
from cxr.page import Column, Estimate, Matrix, Picture, Table, number, xray_uri
from cxr.sections import plot

SCORES = (
    "classes",
    "labels",
    "which",
    "n",
    "accuracy",
    "low",
    "high",
    "balanced_accuracy",
    "majority_share",
    "macro_auc",
)
PANELS = [f"{part}_{key}" for part in ("train", "valid") for key in figures.ADGM_PANELS]
LATENT = ("KL_z", "KL_a", "active_z", "active_a")
MODEL = dict.fromkeys(("epochs", "best_epoch", "n_labelled", "n_unlabelled"), int)


def adgm(run: Artefacts) -> dict:
    """Figures 3 to 7 of the paper for every number of classes and labels per class. Without runs: nothing."""
    runs = [(c, n) for c in sorted(run.classes) for n in sorted(run.labels)]
    if not runs:
        return {"answers": [], "accuracy": None, "accuracy_figure": None, "table": None, "tasks": []}
    path = run.evaluate / "adgm.csv"
    scores = csv(path, "evaluate", SCORES)
    by = Rows(scores, path, "evaluate", "classes", "labels", "which")
    path, keys = run.evaluate / "confusion.csv", ("classes", "labels", "which", "true", "predicted")
    cells = Rows(csv(path, "evaluate", (*keys, "n")), path, "evaluate", *keys)
    models = {(c, n): read_json(run.adgm_run(c, n)[1] / "model.json", f"adgm@{c}-{n}", MODEL) for c, n in runs}
    drawn = figures.adgm_accuracy(scores, papers.ADGM_CURVE)
    return {
        # The fewest and the most labels answer the question; the rest is in the table.
        "answers": [_answer(by, c, n) for c, n in runs if n in (min(run.labels), max(run.labels))],
        "accuracy_figure": drawn,
        "accuracy": plot(
            drawn,
            f"Validation accuracy against labels per class, with {run.level} intervals over patients (the paper\u2019s "
            "Figures 5 and 6, whose curve is dashed and read off the figure; its validation images are other ones).",
            "Accuracy against labels per class",
            100 if len(run.classes) > 1 else 60,
        ),
        "table": _table(run, by, models, runs),
        "tasks": [_task(run, c, cells, models) for c in sorted(run.classes)],
    }


def _answer(scores: Rows, classes: int, labels: int) -> dict:
    row = scores[classes, labels, "last"]
    if row["low"] > row["majority_share"]:
        verdict = "better than that"
    elif row["high"] < row["majority_share"]:
        verdict = "worse than that"
    else:
        verdict = "not shown to be better"
    value = Estimate(row["accuracy"], row["low"], row["high"])
    return {
        "classes": classes,
        "labels": labels,
        "n": row["n"],
        "accuracy": value,
        "majority": row["majority_share"],
    } | {"verdict": verdict}


def _table(run: Artefacts, scores: Rows, models: dict, runs: list[tuple[int, int]]) -> Table:
    path = run.evaluate / "adgm_floor.csv"
    floors = csv(path, "evaluate", ("classes", "labels", "view", "n", "auc")).query("labels.isna() and view == 'all'")
    floor = Rows(floors, path, "evaluate", "classes")
    rows = [
        {"task": f"{c} classes, sex, age and view alone", "n": floor[c]["n"], "macro_auc": floor[c]["auc"]}
        for c in sorted(run.classes)
    ]
    for classes, labels in runs:
        curve = dict(papers.ADGM_CURVE.get(classes, ()))
        model = models[classes, labels]
        for which, epoch in (("last", model["epochs"]), ("best", model["best_epoch"])):
            row = scores[classes, labels, which] | {"task": f"{classes} classes, {labels:,} labels", "epoch": epoch}
            row |= {"accuracy": Estimate(row["accuracy"], row["low"], row["high"])}
            row |= {"labelled": model["n_labelled"], "unlabelled": model["n_unlabelled"]}
            row |= {"paper": curve.get(labels) if which == "last" else None}
            rows.append(row)
    columns = [
        Column("task", "Classes and labels per class"),
        Column("which", "state", "text"),
        Column("epoch", "epoch", "count"),
        Column("labelled", "labelled", "count", "training images"),
        Column("unlabelled", "unlabelled", "count", "training images"),
        Column("n", "n", "count", "validation images"),
        Column("accuracy", f"accuracy and {run.level} interval", "share", "validation images"),
        Column("majority_share", "commonest class", "share", "validation images"),
        Column("balanced_accuracy", "balanced accuracy", "share", "validation images"),
        Column("macro_auc", "AUC, one against rest", "auc", "validation images"),
        Column("paper", "paper", "share"),
    ]
    notes = [
        f"Paper: its Figures 5 and 6, read by eye, last epoch, {papers.ADGM_IMAGES:,} images, of which the commonest "
        "class is 66.3 % (2 classes) and 48.5 % (3 classes)."
    ]
    return Table("adgm", "Accuracy of the ADGM on the validation images", columns, rows, notes)


def _counts(cells: Rows, classes: int, labels: int, names: list[str]) -> list[list[int]]:
    return [[int(cells[classes, labels, "last", true, predicted]["n"]) for predicted in names] for true in names]


def _task(run: Artefacts, classes: int, cells: Rows, models: dict) -> dict:
    """One number of classes: matrices beside the paper's, curves of all runs, samples of that with most labels."""
    labels = sorted(run.labels)
    names = list(CLASS_NAMES[classes])
    matrices = []
    for n in labels:
        counts = _counts(cells, classes, n, names)
        right, total = int(np.trace(counts)), int(np.sum(counts))
        title = f"{n:,} labels per class, last epoch"
        matrices.append(Matrix(title, names, counts, f"accuracy {number(right / total, 'share')} of {total:,}"))
    if classes in papers.ADGM_MATRIX:
        foot = f"printed accuracy {number(papers.ADGM_ACCURACY[classes], 'share')} of {papers.ADGM_IMAGES:,}"
        printed = np.sum(papers.ADGM_MATRIX[classes])
        if printed != papers.ADGM_IMAGES:
            foot += f"; the printed cells sum to {printed:,}"
        matrices.append(
            Matrix("Paper, 4,000 labels per class", papers.ADGM_CLASSES[classes], papers.ADGM_MATRIX[classes], foot)
        )
    histories = {
        n: csv(run.adgm_run(classes, n)[0] / "history.csv", f"adgm@{classes}-{n}", ("epoch", *PANELS, *LATENT))
        for n in labels
    }
    named = {f"{n:,} labels": h for n, h in histories.items()}
    most = labels[-1]
    stage = f"adgm@{classes}-{most}"
    samples = image(run.adgm_run(classes, most)[0] / "samples.png", stage)
    return {
        "title": f"{classes} classes: {', '.join(names)}",
        "matrices": matrices,
        "curves": plot(
            figures.adgm_curves(named),
            f"Training and validation by epoch (the paper\u2019s Figure {3 if classes == 2 else 4}): accuracy, "
            "classification loss, the labelled bound L, the unlabelled bound U, the whole objective J\u03b1.",
            "ADGM training curves",
        ),
        "latent": plot(
            figures.adgm_latent(named),
            "What the latent variables carry. A KL near zero with no active unit means that the model has stopped "
            "using the variable.",
            "KL and active units by epoch",
        ),
        "warnings": [_collapse(n, h.iloc[-1]) for n, h in histories.items() if h.iloc[-1]["active_z"] < 1],
        "samples": [
            Picture(
                f"X-rays drawn from the model for each class, {most:,} labels per class (the paper\u2019s Figure 7).",
                xray_uri(samples, 1400),
                "Samples of the ADGM by class",
                min(100, round(25 * samples.width / samples.height)),
                xray=True,
                rows=names,
            )
        ],
    }


def _collapse(labels: int, last: pd.Series) -> str:
    kl = number(last["KL_z"], "number") if math.isfinite(last["KL_z"]) else "n/a"
    return (
        f"At {labels:,} labels per class z carries nothing: KL {kl} nats, no active unit. What classifies is then a "
        "supervised network."
    )
