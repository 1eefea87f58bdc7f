"""The ADGM (RSNA): does the unlabelled data help, accuracy against labels, confusion matrices, curves, samples."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from cxr import papers
from cxr.adgm.formats import Fitted, Model, Samples
from cxr.adgm.variants import FITTED, GENERATIVE, VARIANTS, Run, leading, runs
from cxr.adgm.variants import LATENT as WITH_LATENT
from cxr.cohort.formats import RsnaSplit
from cxr.core.files import read_json, read_table
from cxr.core.findings import CLASS_NAMES
from cxr.evaluation.names import MAJORITY
from cxr.report.figures import adgm as figures
from cxr.report.inputs import Artefacts, Rows, image
from cxr.report.page import Estimate, Matrix, plot, xray
from cxr.report.sections.adgm_tables import NAMES, compared, efficiency, every_run, latent, over_draws, scored
from cxr.report.sections.common import BOUNDS, TOTALS, Verdict, change_of, from_interval, marks, reported
from cxr.report.sections.within_views import floor_rows, within_views

ENDS = [f"_{end}" for end in BOUNDS]
CURVES = [f"{part}_{key}" for part in ("train", "valid") for key in figures.PANELS]
LATENT = ("KL_z", "KL_a", "active_z", "active_a")


def adgm(run: Artefacts) -> dict:
    """The question and its answers, figures 3 to 7 of the paper, variants and control arms. Empty without runs."""
    every = runs(run.variants, run.classes, run.labels, run.draws)
    if not every:
        return {"accuracy": None, "answers": [], "help": [], "tasks": [], "draws": 0, "part": None, "efficiency": []}
    by = run.rows("adgm", *Run._fields, "which")
    cells = run.rows("confusion", *Run._fields, "which", "true", "predicted")
    arms = run.rows("adgm_arms", "variant", "classes", "labels")
    compare = run.rows("adgm_compare", "variant", "control", "classes", "labels", "score")
    models = {r: _model(run, r) for r in every}
    histories = {r: _history(run, r) for r in every if r.variant in WITH_LATENT}
    sampled = [r for r in histories if r.variant in GENERATIVE]
    samples = {r: read_json(run.adgm_run(r)[0] / "samples.json", r.stage, Samples) for r in sampled}

    lead, draw = leading(run.variants), min(run.draws)
    first = [r for r in every if (r.variant, r.draw) == (lead, draw)]
    others = [v for v in VARIANTS if v in run.variants and v != lead]
    printed = marks(run, "rsna", papers.ADGM_CURVE)
    floors = floor_rows(run)
    split = read_json(run.splits / "rsna" / "split.json", "split@rsna", RsnaSplit)
    accuracy = figures.accuracy(_points(every, arms, by), printed)
    return {
        # The fewest and the most labels answer the question; the table has the rest.
        "answers": [
            _answer(run, arms, by, compare, r) | {"views": within_views(floors, r)}
            for r in first
            if r.labels in (min(run.labels), max(run.labels))
        ],
        "help": _help(run, lead, compare),
        "lead": NAMES[lead],
        "part": reported(split),
        "arms": [(NAMES[v], VARIANTS[v]) for v in (lead, *others)] if others else [],
        "draws": len(set(run.draws)),
        "printed": bool(printed),
        "prior": run.params.get("adgm", {}).get("prior"),
        "accuracy": plot(accuracy, 100 if len(set(run.classes)) > 1 else 60),
        "table": over_draws(run, arms, by, compare, every),
        "compare": compared(compare, run.variants) if others else None,
        "efficiency": efficiency(run),
        "latent": latent(run, histories, samples),
        "runs": every_run(by, models),
        "tasks": [_task(run, classes, first, cells, histories) for classes in sorted(set(run.classes))],
    }


def _model(run: Artefacts, one: Run) -> Model | Fitted:
    return read_json(run.adgm_run(one)[1] / "model.json", one.stage, Fitted if one.variant in FITTED else Model)


def _history(run: Artefacts, one: Run) -> pd.DataFrame:
    return read_table(run.adgm_run(one)[0] / "history.csv", one.stage, ("epoch", *CURVES, *LATENT))


def _points(every: list[Run], arms: Rows, by: Rows) -> pd.DataFrame:
    """What figures.accuracy draws: a row for each variant, number of classes and of labels."""
    rows = []
    for r in [r for r in every if r.draw == min(other.draw for other in every)]:
        arm, last = arms[r[:3]], by[(*r, "last")]
        row = {"name": NAMES[r.variant], "classes": r.classes, "labels": r.labels}
        row |= {f"{score}{end}": arm[f"{score}{end}"] for score in ("accuracy", "macro_auc") for end in ("", *ENDS)}
        rows.append(row | {"n": last["n"], "majority_share": last["majority_share"]})
    return pd.DataFrame(rows)


def _help(run: Artefacts, lead: str, compare: Rows) -> list[dict]:
    """Whether the unlabelled data helps: an answer for each task, at the fewest labels, where it should most."""
    if "supervised" not in run.variants or lead not in GENERATIVE:
        return []
    answers = []
    for classes in sorted(set(run.classes)):
        row = compare[lead, "supervised", classes, min(run.labels), "accuracy"]
        ends = BOUNDS if row["draws"] == 1 else TOTALS
        verdict = Verdict.ONE_TRAINING if row["draws"] == 1 else _verdict(run, row, ends, row["p"])
        change = change_of(row, "the two never differ", ends)
        answers.append({"classes": classes, "labels": min(run.labels), "verdict": verdict, "change": change})
        answers[-1] |= {"p": row["p"], "draws": row["draws"], "shared": lead not in ("paper", "paper_code")}
    return answers


def _answer(run: Artefacts, arms: Rows, by: Rows, compare: Rows, one: Run) -> dict:
    """Accuracy less that of naming the commonest class, on the same images and draws of patients.

    p: McNemar's for one label draw, else of patients and draws together.
    """
    row, last = arms[one[:3]], by[(*one, "last")]
    over = compare[one.variant, MAJORITY, one.classes, one.labels, "accuracy"]
    exact = over["draws"] == 1
    ends, p = (BOUNDS, last["mcnemar_p"]) if exact else (TOTALS, over["p"])
    verdict = _verdict(run, over, ends, p)
    answer = {"name": NAMES[one.variant], "classes": one.classes, "labels": one.labels, "n": last["n"]}
    answer |= {name: scored(row, name) for name in ("accuracy", "balanced_accuracy", "macro_auc")}
    answer |= {"majority": last["majority_share"], "over": change_of(over, "the two never differ", ends)}
    return answer | {"p": p, "exact": exact, "verdict": verdict}


def _verdict(run: Artefacts, row: Mapping, ends: tuple[str, str], p: float) -> Verdict:
    """GAIN or LOSS where the interval is clear of 0 and p small enough for a verdict on trained networks; UNSURE where
    it is only below the level; NONE where it is not.
    """
    found = from_interval(*(row[end] for end in ends))
    if found not in (Verdict.GAIN, Verdict.LOSS) or p <= run.verdict_p:
        return found
    return Verdict.UNSURE if p < run.alpha else Verdict.NONE


def _task(run: Artefacts, classes: int, first: list[Run], cells: Rows, histories: dict) -> dict:
    """One number of classes: matrices and curves of the leading variant's first draw, beside the paper's matrix;
    latent variables and samples of every variant that has them, at the most labels.
    """
    names = list(CLASS_NAMES[classes])
    of_task = [r for r in first if r.classes == classes]
    counts = {r: [[int(cells[(*r, "last", t, p)]["n"]) for p in names] for t in names] for r in of_task}
    printed = classes in papers.ADGM_MATRIX and Matrix(papers.ADGM_CLASSES[classes], papers.ADGM_MATRIX[classes])
    at_most = {r: h for r, h in histories.items() if r[1:] == (classes, max(run.labels), min(run.draws))}
    curves = {f"{r.labels:,} labels": histories[r] for r in of_task if r in histories}
    beside = curves if len(at_most) < 2 else {NAMES[r.variant]: h for r, h in at_most.items()}
    last = {r: histories[r].iloc[-1] for r in of_task if r in histories}
    return {
        "classes": classes,
        "names": names,
        "matrices": [{"labels": r.labels, "matrix": Matrix(names, table)} for r, table in counts.items()],
        "printed": printed,
        "printed_accuracy": papers.ADGM_ACCURACY.get(classes),
        "printed_images": papers.ADGM_IMAGES,
        "curves": plot(figures.training(curves)) if curves else None,
        "latent": plot(figures.latent(beside)) if beside else None,
        "collapsed": [{"labels": r.labels, "kl": Estimate(h["KL_z"])} for r, h in last.items() if h["active_z"] < 1],
        "samples": [_samples(run, r) for r in at_most if r.variant in GENERATIVE],
    }


def _samples(run: Artefacts, one: Run) -> dict:
    """X-rays drawn from one model, a row per class."""
    grid = image(run.adgm_run(one)[0] / "samples.png", one.stage)
    return {
        "name": NAMES[one.variant],
        "labels": one.labels,
        "picture": xray(grid, 1400, round(25 * grid.width / grid.height)),
    }
