"""The report's section on the ADGM (RSNA): does the unlabelled data help, accuracy against labels, what z carries,
confusion matrices, training curves, samples.

As cxr/report/sections/classifiers.py: the names that the template uses, nothing computed anew but means over label
draws.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cxr import papers
from cxr.adgm.formats import Model, Samples
from cxr.adgm.variants import CONTROLS, GENERATIVE, VARIANTS, Run, leading, runs
from cxr.core.files import read_json
from cxr.core.findings import CLASS_NAMES
from cxr.evaluation.names import TABLES
from cxr.report import figures
from cxr.report.inputs import Artefacts, Rows, csv, image
from cxr.report.page import Estimate, Matrix, Picture, number, xray_uri
from cxr.report.sections.adgm_tables import NAMES, carried, compared, every_run, over_draws
from cxr.report.sections.classifiers import plot

PANELS = [f"{part}_{key}" for part in ("train", "valid") for key in figures.ADGM_PANELS]
LATENT = ("KL_z", "KL_a", "active_z", "active_a")


def adgm(run: Artefacts) -> dict:
    """The question and its answer, figures 3 to 7 of the paper, variants and control arms. Without runs: nothing."""
    every = runs(run.variants, run.classes, run.labels, run.draws)
    if not every:
        return dict.fromkeys(("accuracy", "accuracy_figure", "table"), None) | {
            "answers": [],
            "help": [],
            "tasks": [],
            "draws": 0,
        }
    path = run.evaluate / "adgm.csv"
    scores = csv(path, "evaluate", TABLES["adgm"])
    by = Rows(scores, path, "evaluate", *Run._fields, "which")
    path, keys = run.evaluate / "confusion.csv", (*Run._fields, "which", "true", "predicted")
    cells = Rows(csv(path, "evaluate", (*keys, "n")), path, "evaluate", *keys)
    path = run.evaluate / "adgm_arms.csv"
    arms = Rows(csv(path, "evaluate", TABLES["adgm_arms"]), path, "evaluate", "variant", "classes", "labels")
    path = run.evaluate / "adgm_compare.csv"
    compared_by = ("control", "classes", "labels", "score")
    compare = Rows(csv(path, "evaluate", TABLES["adgm_compare"]), path, "evaluate", *compared_by)
    models = {r: read_json(run.adgm_run(r)[1] / "model.json", f"adgm@{r.name}", Model).model_dump() for r in every}
    histories = {r: _history(run, r) for r in every if r.variant in GENERATIVE}
    read = {
        r: read_json(run.adgm_run(r)[0] / "samples.json", f"adgm@{r.name}", Samples).model_dump() for r in histories
    }

    lead, draw = leading(run.variants), min(run.draws)
    first = [r for r in every if (r.variant, r.draw) == (lead, draw)]
    drawn = figures.adgm_accuracy(_points(every, arms, by), papers.ADGM_CURVE)
    others = [v for v in VARIANTS if v in run.variants and v != lead]
    return {
        # The fewest and the most labels answer the question; the rest is in the table.
        "answers": [_answer(arms, by, r) for r in first if r.labels in (min(run.labels), max(run.labels))],
        "help": _help(run, lead, compare),
        "arms": [f"{NAMES[v]}: {VARIANTS[v]}" for v in (lead, *others)] if others else [],
        "draws": len(set(run.draws)),
        "accuracy_figure": drawn,
        "accuracy": plot(
            drawn,
            f"Validation accuracy after the last epoch against labels per class, mean over {_draws(run)}, with "
            f"{run.level} intervals over patients. Dashed: the paper\u2019s Figures 5 and 6, read by eye; its "
            "validation images are other ones.",
            "Accuracy against labels per class",
            100 if len(run.classes) > 1 else 60,
        ),
        "table": over_draws(run, arms, by, every),
        "compare": compared(run, compare, lead, others) if others else None,
        "collapse": carried(run, histories, read),
        "runs": every_run(run, by, models),
        "tasks": [_task(run, c, first, cells, histories) for c in sorted(set(run.classes))],
    }


def _draws(run: Artefacts) -> str:
    n = len(set(run.draws))
    return "one label draw" if n == 1 else f"{n} label draws"


def _history(run: Artefacts, one: Run) -> pd.DataFrame:
    return csv(run.adgm_run(one)[0] / "history.csv", f"adgm@{one.name}", ("epoch", *PANELS, *LATENT))


def _points(every: list[Run], arms: Rows, by: Rows) -> pd.DataFrame:
    """What figures.adgm_accuracy draws."""
    rows = []
    for r in [r for r in every if r.draw == min(other.draw for other in every)]:
        arm, one = arms[r[:3]], by[(*r, "last")]
        rows.append({"name": NAMES[r.variant], "classes": r.classes, "labels": r.labels, "accuracy": arm["accuracy"],
                     "low": arm["accuracy_low"], "high": arm["accuracy_high"], "n": one["n"],
                     "majority_share": one["majority_share"]})  # fmt: skip
    return pd.DataFrame(rows)


def _help(run: Artefacts, lead: str, compare: Rows) -> list[dict]:
    """Does the unlabelled data help? One sentence for each task, at the fewest labels, where it should most."""
    if "supervised" not in run.variants or lead in CONTROLS:
        return []
    found = []
    for classes in sorted(set(run.classes)):
        labels = min(run.labels)
        row = compare["supervised", classes, labels, "accuracy"]
        one = row["draws"] == 1  # the interval is then over patients alone
        low, high = (row[name] for name in (("low", "high") if one else ("total_low", "total_high")))
        verdict = "a gain is shown" if low > 0 else "a loss is shown" if high < 0 else "no gain is shown"
        if one and (low > 0 or high < 0):
            verdict += " between one training of each"
        elif row["draws"] == 2 and verdict != "no gain is shown":
            verdict += " by two label draws, which tell little of others"
        over = "patients; one label draw, so another may differ" if one else "patients and label draws"
        if lead in ("paper", "paper_code"):
            over += "; the two differ in class shares and average of weights, too"
        found.append(
            {"classes": classes, "labels": labels, "verdict": verdict, "over": over, "p": row["p"], "name": NAMES[lead],
             "value": Estimate(row["difference"], low, high, "the two never differ")}
        )  # fmt: skip
    return found


def _answer(arms: Rows, by: Rows, one: Run) -> dict:
    row, majority = arms[one[:3]], by[(*one, "last")]["majority_share"]
    if row["accuracy_low"] > majority:
        verdict = "better than that"
    elif row["accuracy_high"] < majority:
        verdict = "worse than that"
    else:
        verdict = "not shown to be better"
    value = Estimate(row["accuracy"], row["accuracy_low"], row["accuracy_high"])
    return {"classes": one.classes, "labels": one.labels, "n": by[(*one, "last")]["n"], "accuracy": value} | {
        "majority": majority, "verdict": verdict, "name": NAMES[one.variant],
    }  # fmt: skip


def _task(run: Artefacts, classes: int, first: list[Run], cells: Rows, histories: dict) -> dict:
    """One number of classes: matrices beside the paper's and curves of the leading variant's first draw; latent
    variables and samples of every variant that has them, at the most labels."""
    names = list(CLASS_NAMES[classes])
    mine = [r for r in first if r.classes == classes]
    matrices = []
    for r in mine:
        counts = [[int(cells[(*r, "last", true, said)]["n"]) for said in names] for true in names]
        right, total = int(np.trace(counts)), int(np.sum(counts))
        title = f"{r.labels:,} labels per class, last epoch"
        matrices.append(Matrix(title, names, counts, f"accuracy {number(right / total, 'share')} of {total:,}"))
    if classes in papers.ADGM_MATRIX:
        foot = f"printed accuracy {number(papers.ADGM_ACCURACY[classes], 'share')} of {papers.ADGM_IMAGES:,}"
        printed = np.sum(papers.ADGM_MATRIX[classes])
        if printed != papers.ADGM_IMAGES:
            foot += f"; the printed cells sum to {printed:,}"
        matrices.append(
            Matrix("Paper, 4,000 labels per class", papers.ADGM_CLASSES[classes], papers.ADGM_MATRIX[classes], foot)
        )
    most, draw = max(run.labels), min(run.draws)
    at_most = {r: h for r, h in histories.items() if r[1:] == (classes, most, draw)}
    own = {f"{r.labels:,} labels": histories[r] for r in mine if r in histories}
    latent = own if len(at_most) < 2 else {NAMES[r.variant]: h for r, h in at_most.items()}
    return {
        "title": f"{classes} classes: {', '.join(names)}",
        "matrices": matrices,
        "curves": own
        and plot(
            figures.adgm_curves(own),
            f"Training and validation by epoch (the paper\u2019s Figure {3 if classes == 2 else 4}): accuracy, "
            "classification loss, the labelled bound L, the unlabelled bound U, the whole objective J\u03b1.",
            "ADGM training curves",
        ),
        "latent": latent
        and plot(
            figures.adgm_latent(latent),
            "What the latent variables carry. A KL near zero with no active unit means that the model has stopped "
            "using the variable.",
            "KL and active units by epoch",
        ),
        "warnings": [
            _collapse(r, h.iloc[-1]) for r, h in histories.items() if r in mine and h.iloc[-1]["active_z"] < 1
        ],
        "samples": [_samples(run, r, names) for r in at_most],
    }


def _samples(run: Artefacts, one: Run, names: list[str]) -> Picture:
    """X-rays drawn from one model, a row per class."""
    shown = image(run.adgm_run(one)[0] / "samples.png", f"adgm@{one.name}")
    return Picture(
        f"X-rays drawn from the model for each class, {NAMES[one.variant]}, {one.labels:,} labels per class (the "
        "paper\u2019s Figure 7).",
        xray_uri(shown, 1400),
        "Samples of the ADGM by class",
        min(100, round(25 * shown.width / shown.height)),
        xray=True,
        rows=names,
    )


def _collapse(one: Run, last: pd.Series) -> str:
    kl = number(last["KL_z"], "number") if math.isfinite(last["KL_z"]) else "n/a"
    return (
        f"At {one.labels:,} labels per class z carries nothing: KL {kl} nats, no active unit. What classifies is then "
        "a supervised network."
    )
