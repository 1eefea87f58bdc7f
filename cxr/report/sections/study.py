"""The report's section on the GAN question: every arm of the study beside the baseline and the best control.

As cxr/report/sections/classifiers.py: the names that the template uses, nothing computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from cxr.core.findings import finding
from cxr.evaluation.names import TABLES
from cxr.report import figures
from cxr.report.inputs import Artefacts, Rows, csv
from cxr.report.page import Column, Estimate, Table, number
from cxr.report.sections.classifiers import plot, too_few
from cxr.synthesis.arms import ARMS

MEANS = {"rare": "Mean of {} rare findings", "macro": "Mean of {} findings"}


def arm_name(arm: str) -> str:
    return ARMS[arm].title if arm in ARMS else arm


def study(run: Artefacts) -> dict:
    """answer (of the rare findings' mean) and answers, arms (name, how it differs), the picture and the tables; what
    the study has not is None or empty.
    """
    nothing = {"answer": None, "answers": [], "arms": [], "seeds": 0, "control": None, "forest": None}
    nothing |= dict.fromkeys(("forest_figure", "table", "against_baseline", "against_control"))
    if not run.arms:
        return nothing
    path = run.evaluate / "study.csv"
    areas = Rows(csv(path, "evaluate", TABLES["study"]), path, "evaluate", "arm", "finding")
    path = run.evaluate / "study_differences.csv"
    table = csv(path, "evaluate", TABLES["study_differences"])
    by = Rows(table, path, "evaluate", "arm", "reference", "finding")
    controls = set(table.loc[table["reference"] == "best control", "control"])
    control = controls.pop() if controls else None
    names = [*(finding(f) for f in run.findings), *MEANS]
    found = nothing | {"arms": [(arm_name(arm), ARMS[arm].description if arm in ARMS else "") for arm in run.arms]}
    found |= {"seeds": len(run.seeds), "control": control and arm_name(control), "table": _areas(run, areas, names)}
    if "baseline" in run.arms and len(run.arms) > 1:
        found["against_baseline"] = _differences(run, by, names, "baseline", "baseline")
    if control:
        drawn = _forest(run, by, names, control)
        found |= drawn | {"against_control": _differences(run, by, names, "best control", control)}
    if control and "gan" in run.arms:
        found["answers"] = [
            answer(by["gan", "best control", name], run.power, run.alpha) for name in ("rare", *names[:-2])
        ]
        found["answer"] = found["answers"][0]
    return found


def answer(row: dict, power: float, level: float) -> dict:
    """One row of study_differences in words: name, change with its interval, said, and after it what it rests on.
    level: below which p is significant.
    """
    trainings = row["seeds"] > 1
    ends = ("total_low", "total_high") if trainings else ("low", "high")
    change = Estimate(row["difference"], *(row[end] for end in ends), _why(row))
    over = "patients and trainings" if trainings else "patients"
    two = "two trainings of each tell little of others" if row["seeds"] == 2 else ""
    least = (
        f"the smallest difference that this study could have shown with power {power:g}, in a single test before the "
        f"correction, is {number(row['detectable'], 'auc')}"
    )
    if row["detectable"] >= 1:  # an AUC cannot differ by more
        least = f"this study could have shown no difference whatever with power {power:g}: trainings differ too much"
    if not math.isfinite(row["difference"]):
        said, why = "could not be tested", ""
    elif not trainings:
        said = "not to be told from one training of each"
        why = "two trainings of the same table, from two seeds, may differ by as much; give study.seeds at least three"
    elif row["p_holm"] < level:
        said, why = ("a gain" if row["difference"] > 0 else "a loss"), two
    else:
        corrected = " after the correction for all arms" if row["p"] < level else ""
        said, why = f"no difference shown{corrected}", least if math.isfinite(row["detectable"]) else ""
    found = {"name": _named(row), "change": change, "over": over, "said": said, "why": why}
    return found | {k: row[k] for k in ("p", "p_holm", "positives", "n", "seeds")}


def _named(row: Mapping) -> str:
    """The finding's name, or what its mean is over."""
    return MEANS[row["finding"]].format(f"{row['findings']:.0f}") if row["finding"] in MEANS else row["finding"]


def _why(row: dict) -> str:
    """Why a row has no number."""
    if row["finding"] in MEANS:
        return "no finding has enough positives"
    return too_few({"positives": row["positives"], "negatives": row["n"] - row["positives"]})


def _areas(run: Artefacts, areas: Rows, names: list[str]) -> Table:
    rows = []
    for name in names:
        for arm in run.arms:
            row = areas[arm, name]
            auc = Estimate(row["auc"], row["low"], row["high"], _why(row))
            parts = ("positives", "n", "patients", "seeds", "sd", "valid_auc")
            rows.append({"finding": _named(row), "arm": arm_name(arm), "auc": auc} | {k: row[k] for k in parts})
    columns = [
        Column("finding", "Finding"),
        Column("arm", "arm", "text"),
        Column("positives", "positive", "count", "test"),
        Column("n", "n", "count", "test"),
        Column("patients", "patients", "count", "test"),
        Column("seeds", "trainings", "count"),
        Column("auc", f"AUC, {run.level} interval over patients", "auc", "mean over trainings"),
        Column("sd", "SD over trainings", "auc", "mean over trainings"),
        Column("valid_auc", "validation AUC", "auc", "mean over trainings"),
    ]
    notes = [_chosen(areas, run.arms[0])]
    return Table("study", "Every arm of the study on the test patients", columns, rows, notes, _means(rows))


def _means(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(row["finding"] for row in rows if pd.isna(row["positives"])))


def _chosen(areas: Rows, arm: str) -> str:
    """What the best control was chosen by: the same for every arm, since it hangs on the images alone."""
    name = "rare" if math.isfinite(areas[arm, "rare"]["valid_auc"]) else "macro"
    what = MEANS[name].format(f"{areas[arm, name]['valid_findings']:.0f}")
    return (
        f"The best control is chosen on validation, never on test: by the AUC\u2019s {what[0].lower()}{what[1:]}, "
        "those with enough positives there."
    )


def _differences(run: Artefacts, by: Rows, names: list[str], reference: str, control: str) -> Table:
    rows = []
    for name in names:
        for arm in run.arms:
            if arm == control:
                continue
            row = by[arm, reference, name]
            change = Estimate(row["difference"], row["low"], row["high"], _why(row))
            parts = ("positives", "n", "seeds", "sd", "total_low", "total_high", "p", "p_holm", "detectable")
            head = {"finding": _named(row), "arm": arm_name(arm), "difference": change}
            rows.append(head | {k: row[k] for k in parts})
    columns = [
        Column("finding", "Finding"),
        Column("arm", "arm", "text"),
        Column("positives", "positive", "count", "test"),
        Column("n", "n", "count", "test"),
        Column("seeds", "trainings", "count"),
        Column("difference", f"difference, {run.level} interval", "difference", "over patients"),
        Column("sd", "SD of it", "auc", "over trainings"),
        Column("total_low", "from", "difference", "over both"),
        Column("total_high", "to", "difference", "over both"),
        Column("p", "p", "p", "over both"),
        Column("p_holm", "Holm", "p", "over both"),
        Column("detectable", "detectable", "auc", "over both"),
    ]
    notes = [
        "Each difference is taken seed by seed on the same test patients. Over both: other patients and other "
        "trainings. Holm\u2019s correction counts all arms and rare findings of this table together, and of the means "
        f"all arms. Detectable: the smallest true difference found with power {run.power:g}, in one test.",
    ]
    if len(run.seeds) == 1:
        notes.append("One training of each arm: nothing can be said of other trainings, so there is no test.")
    if len(run.seeds) == 2:
        notes.append("Two trainings of each arm tell little of others: where trainings differ much, p is too small.")
    title = "baseline" if reference == "baseline" else f"best control, {arm_name(control)}"
    name = {"baseline": "study_baseline"}.get(reference, "study_control")
    return Table(name, f"Every arm less the {title}: test AUC", columns, rows, notes, _means(rows))


def _forest(run: Artefacts, by: Rows, names: list[str], control: str) -> dict:
    panels = ["rare", *(name for name in names if name not in MEANS)]
    lines = []
    for name in panels:
        for arm in run.arms:
            known = by[arm, "best control", name] if arm != control else {"difference": 0.0}
            keys = ("difference", "low", "high", "total_low", "total_high")
            panel = "Mean of the rare" if name == "rare" else name
            lines.append({"panel": panel, "arm": arm} | {key: known.get(key, np.nan) for key in keys})
    labels = {arm: arm_name(arm) for arm in run.arms}
    drawn = figures.study(pd.DataFrame(lines), labels, control)
    caption = (
        f"Test AUC of each arm less that of the best control ({arm_name(control)}), mean over trainings. Thick: "
        f"{run.level} interval over patients. Thin: over patients and trainings. Blue: the thin line is clear of "
        "zero, before any correction. Dotted: the baseline. Hollow: the best control itself."
    )
    return {"forest_figure": drawn, "forest": plot(drawn, caption, "Forest plot of the study\u2019s arms")}
