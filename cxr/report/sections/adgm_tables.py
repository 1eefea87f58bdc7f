"""The tables of the report's section on the ADGM, as cxr/report/sections/adgm.py asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cxr import papers
from cxr.adgm.variants import CONTROLS, VARIANTS, Run
from cxr.evaluation.names import SCORES
from cxr.report.inputs import Artefacts, Rows, csv
from cxr.report.page import Column, Estimate, Table

NAMES = {
    "corrected": "ADGM",
    "paper": "ADGM, paper\u2019s text",
    "paper_code": "ADGM, paper\u2019s code",
    "no_z": "ADGM without z",
    "supervised": "labelled images alone",
    "pseudo_label": "pseudo-labels",
    "mean_teacher": "mean teacher",
}
KINDS = {"accuracy": "share", "balanced_accuracy": "share", "macro_f1": "auc", "macro_auc": "auc"}
TOLD = "validation images"


def _task(classes: int, labels: int) -> str:
    return f"{classes} classes, {labels:,} labels"


def _estimate(row: Mapping, name: str) -> Estimate:
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])


def over_draws(run: Artefacts, arms: Rows, by: Rows, every: Sequence[Run]) -> Table:
    """A row for each variant, number of classes and of labels, after what metadata alone gets; last epoch."""
    path = run.evaluate / "adgm_floor.csv"
    floors = csv(path, "evaluate", ("classes", "labels", "view", "n", "auc")).query("labels.isna() and view == 'all'")
    floor = Rows(floors, path, "evaluate", "classes")
    rows = []
    for classes in sorted(set(run.classes)):
        alone = floor[classes]
        rows.append({"task": f"{classes} classes", "variant": "sex, age and view alone", "n": alone["n"]})
        rows[-1]["macro_auc"] = Estimate(alone["auc"])
        curve = dict(papers.ADGM_CURVE.get(classes, ()))
        mine = [r for r in every if r.classes == classes and r.draw == min(run.draws)]
        for r in sorted(mine, key=lambda r: r.labels):
            arm, one = arms[r[:3]], by[(*r, "last")]
            row = {"task": _task(classes, r.labels), "variant": NAMES[r.variant], "n": one["n"]}
            row |= {"patients": one["patients"], "draws": arm["draws"]}
            row |= {name: _estimate(arm, name) for name in ("accuracy", "macro_auc")}
            row |= {name: arm[name] for name in ("balanced_accuracy", "macro_f1", "accuracy_sd")}
            row |= {"majority_share": one["majority_share"]}
            rows.append(row | {"paper": None if r.variant in CONTROLS else curve.get(r.labels)})
    columns = [
        Column("task", "Classes and labels per class"),
        Column("variant", "model"),
        Column("n", "n", "count", TOLD),
        Column("patients", "patients", "count", TOLD),
        Column("majority_share", "commonest class", "share", TOLD),
        Column("accuracy", f"accuracy and {run.level} interval", "share", TOLD),
        Column("accuracy_sd", "SD over draws", "share", TOLD),
        *(Column(name, SCORES[name], KINDS[name], TOLD) for name in list(SCORES)[1:]),
        Column("draws", "draws", "count"),
        Column("paper", "paper", "share"),
    ]
    notes = [
        "Means over the label draws; the intervals are over patients, with the draws as they are. The standard "
        "deviation over draws holds all that a training draws: labels, initial weights, batches.",
        f"Paper: its Figures 5 and 6, read by eye, last epoch, {papers.ADGM_IMAGES:,} images, of which the commonest "
        "class is 66.3 % (2 classes) and 48.5 % (3 classes).",
    ]
    if run.params.get("adgm", {}).get("prior") == "training":
        notes.append(
            "Predictions count on the class shares of all training images, those without labels among them: shares "
            "that a hospital would have to know (adgm.prior)."
        )
    return Table("adgm", "Accuracy on the validation images after the last epoch", columns, rows, notes)


def compared(run: Artefacts, compare: Rows, lead: str, others: Sequence[str]) -> Table:
    """The leading variant less each other one, a row for each, number of classes and of labels."""
    rows = []
    for control, classes, labels, score in compare:
        if score != "accuracy" or control not in others:
            continue
        found = {name: compare[control, classes, labels, name] for name in SCORES}
        one = found["accuracy"]
        row = {"control": f"less {NAMES[control]}", "task": _task(classes, labels), "draws": one["draws"]}
        row |= {name: one[name] for name in ("sd", "p", "detectable")}
        for score, r in found.items():
            row[score] = Estimate(r["difference"], r["low"], r["high"], "never differ")
            row |= {f"{score}_{end}": r[f"total_{end}"] for end in ("low", "high")}
        rows.append(row)
    columns = [
        Column("control", f"{NAMES[lead]}"),
        Column("task", "classes, labels per class"),
        Column("draws", "draws", "count"),
        Column("accuracy", "over patients", "difference", "accuracy"),
        Column("sd", "SD over draws", "auc", "accuracy"),
        Column("accuracy_low", "over both, from", "difference", "accuracy"),
        Column("accuracy_high", "to", "difference", "accuracy"),
        Column("p", "p", "p", "accuracy"),
        Column("detectable", "detectable", "auc", "accuracy"),
        Column("macro_auc", "over patients", "difference", SCORES["macro_auc"]),
        Column("macro_auc_low", "over both, from", "difference", SCORES["macro_auc"]),
        Column("macro_auc_high", "to", "difference", SCORES["macro_auc"]),
    ]
    notes = [
        f"Paired by label draw and patient, {run.level} intervals. Over both: other patients and other draws, as in "
        "the analysis of several readers and cases; one label draw says nothing of another. The p values are of "
        f"single tests. Detectable: the smallest true difference found with power {run.power:g}.",
        "Every row shares classifier, initial weights, labelled images, optimiser, steps, batch, augmentation, average "
        "of weights and class shares, but for the paper\u2019s own variants: these have equal class shares and no "
        "average, and the one of its code other inputs and initial weights, too.",
    ]
    if len(set(run.draws)) == 2:
        notes.append("Two label draws tell little of others: where draws differ much, p is too small.")
    return Table("adgm_compare", "What the model gains over its variants and control arms", columns, rows, notes)


def carried(run: Artefacts, histories: Mapping[Run, pd.DataFrame], read: Mapping[Run, dict]) -> Table:
    """What z and a carry after the last epoch, and whether samples are of the class asked for; means over draws."""
    rows, none = [], Estimate(float("nan"), why="no latent z")
    for variant in [v for v in VARIANTS if v in run.variants]:
        for classes in sorted(set(run.classes)):
            for labels in sorted(set(run.labels)):
                mine = [r for r in histories if r[:3] == (variant, classes, labels)]
                row = {"variant": NAMES[variant], "task": _task(classes, labels)}
                if not mine:
                    rows.append(row | {"KL_z": none})
                    continue
                for name in ("KL_z", "KL_a", "active_z", "active_a"):
                    row[name] = float(np.mean([histories[r].iloc[-1][name] for r in mine]))
                row |= {name: float(np.mean([read[r][name] for r in mine])) for name in ("agreement", "real")}
                rows.append(row | {"samples": read[mine[0]]["samples"], "chance": 1 / classes})
    columns = [
        Column("variant", "Model"),
        Column("task", "classes, labels per class"),
        Column("KL_z", "KL, nats", "number", "z"),
        Column("active_z", "active units", "number", "z"),
        Column("KL_a", "KL, nats", "number", "a"),
        Column("active_a", "active units", "number", "a"),
        Column("samples", "samples", "count", "samples read as the class asked for"),
        Column("agreement", "share", "share", "samples read as the class asked for"),
        Column("real", "real X-rays", "share", "samples read as the class asked for"),
        Column("chance", "chance", "share", "samples read as the class asked for"),
    ]
    notes = [
        "On validation images. Active: a unit whose posterior mean varies by more than 0.01 over the images. The "
        "samples are means of p(x given z, y) for equally many of each class. They are read by a small network trained "
        "on all real training images with their classes; real X-rays: how often it is right on the validation images, "
        "averaged over the classes.",
    ]
    return Table("adgm_collapse", "What the latent variables carry, and whose samples they are", columns, rows, notes)


def every_run(run: Artefacts, by: Rows, models: Mapping[Run, dict]) -> Table:
    """A row for each training, and for its last and best epoch."""
    rows = []
    for r, model in models.items():
        for which, epoch in (("last", model["epochs"]), ("best", model["best_epoch"])):
            one = by[(*r, which)]
            row = {"task": _task(r.classes, r.labels), "variant": NAMES[r.variant], "draw": r.draw, "which": which}
            row |= {"labelled": model["n_labelled"]}
            row |= {"unlabelled": None if r.variant == "supervised" else model["n_unlabelled"]}
            row |= {name: one[name] for name in ("balanced_accuracy", "macro_f1")}
            rows.append(
                row
                | {"epoch": epoch, "n": one["n"]}
                | {name: _estimate(one, name) for name in ("accuracy", "macro_auc")}
            )
    columns = [
        Column("task", "Classes and labels per class"),
        Column("variant", "model"),
        Column("draw", "label draw", "count"),
        Column("which", "state"),
        Column("epoch", "epoch", "count"),
        Column("labelled", "labelled", "count", "training images"),
        Column("unlabelled", "unlabelled", "count", "training images"),
        Column("n", "n", "count", TOLD),
        *(Column(name, title, KINDS[name], TOLD) for name, title in SCORES.items()),
    ]
    notes = ["The best epoch is chosen on these validation images, so it flatters; the paper reports the last one."]
    return Table("adgm_runs", "Every training, after its last and its best epoch", columns, rows, notes)
