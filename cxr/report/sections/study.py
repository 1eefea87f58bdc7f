"""The GAN question: every arm of the study beside the baseline and the best control."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from cxr.core.findings import finding
from cxr.report.figures.forest import study as draw_arms
from cxr.report.inputs import Artefacts, Rows
from cxr.report.page import Estimate, Picture, Table, plot
from cxr.report.sections.common import BOUNDS, FEW, TOTALS, Verdict, change_of, pick, too_few
from cxr.synthesis.arms import ARMS

MEANS = {"rare": "Mean of {} rare findings", "macro": "Mean of {} findings"}
OVER_BOTH = ("sd", "p", "p_holm", "detectable")


def arm_name(arm: str) -> str:
    """An arm's name on the page."""
    return ARMS[arm].title if arm in ARMS else arm


def study(run: Artefacts) -> dict:
    """answers (the first is the rare findings' mean), arms (name, description), control, picture and tables.

    What this study does not have is None or empty.
    """
    empty = {"answers": [], "arms": [], "seeds": 0, "control": None, "chosen": None, "forest": None}
    empty |= dict.fromkeys(("table", "against_baseline", "against_control"))
    if not run.arms:
        return empty
    areas = run.rows("study", "arm", "finding")
    table = run.table("study_differences", "reference", "control")
    by = Rows(table, run.evaluate / "study_differences.csv", "evaluate", "arm", "reference", "finding")
    control = next(iter(table.loc[table["reference"] == "best control", "control"]), None)
    names = [*(finding(name) for name in run.findings), *MEANS]
    context = empty | {"arms": [_described(arm) for arm in run.arms], "seeds": len(run.seeds)}
    context |= {"table": _areas(run, areas, names), "chosen": _chosen(areas, run.arms[0])}
    if "baseline" in run.arms and len(run.arms) > 1:
        context["against_baseline"] = _differences(run, by, names, "baseline", "baseline")
    if control:
        context |= {"control": arm_name(control), "forest": _forest(run, by, names, control)}
        context["against_control"] = _differences(run, by, names, "best control", control)
    if control and "gan" in run.arms:
        context["answers"] = [answer(by["gan", "best control", name], run.alpha) for name in ("rare", *names[:-2])]
    return context


def _described(arm: str) -> tuple[str, str]:
    return arm_name(arm), ARMS[arm].description if arm in ARMS else ""


def answer(row: Mapping, alpha: float) -> dict:
    """What one row of study_differences shows. alpha: the level of its test.

    repeated: whether the interval is over trainings, too; possible: whether any difference could have been found.
    """
    repeated = row["seeds"] > 1
    if not math.isfinite(row["difference"]):
        verdict = Verdict.UNTESTED
    elif not repeated:
        verdict = Verdict.ONE_TRAINING
    elif row["p_holm"] < alpha:
        verdict = Verdict.GAIN if row["difference"] > 0 else Verdict.LOSS
    else:
        verdict = Verdict.UNCORRECTED if row["p"] < alpha else Verdict.NONE
    change = change_of(row, _no_number(row), TOTALS if repeated else BOUNDS)
    entry = {"name": _row_name(row), "change": change, "repeated": repeated, "verdict": verdict}
    entry |= {"possible": not row["detectable"] >= 1}  # an AUC cannot differ by 1 or more
    return entry | pick(row, "detectable", "p", "p_holm", "positives", "n", "seeds")


def _row_name(row: Mapping) -> str:
    """The finding's name, or what its mean is over."""
    return MEANS[row["finding"]].format(f"{row['findings']:.0f}") if row["finding"] in MEANS else row["finding"]


def _no_number(row: Mapping) -> str:
    if row["finding"] in MEANS:
        return FEW
    return too_few({"positives": row["positives"], "negatives": row["n"] - row["positives"]})


def _areas(run: Artefacts, areas: Rows, names: list[str]) -> Table:
    rows = []
    for name in names:
        for arm in run.arms:
            row = areas[arm, name]
            auc = Estimate(row["auc"], row["low"], row["high"], _no_number(row))
            counts = pick(row, "positives", "n", "patients", "seeds", "sd", "valid_auc")
            rows.append({"finding": _row_name(row), "arm": arm_name(arm), "auc": auc, **counts})
    return Table("study", rows, _means(rows))


def _means(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(row["finding"] for row in rows if pd.isna(row["positives"])))


def _chosen(areas: Rows, arm: str) -> dict:
    """What the best control was chosen by: the same for every arm, for it depends on the images alone."""
    rare = math.isfinite(areas[arm, "rare"]["valid_auc"])
    return {"rare": rare, "findings": areas[arm, "rare" if rare else "macro"]["valid_findings"]}


def _differences(run: Artefacts, by: Rows, names: list[str], reference: str, control: str) -> Table:
    rows = []
    for name in names:
        for arm in run.arms:
            if arm != control:
                row = by[arm, reference, name]
                head = {"finding": _row_name(row), "arm": arm_name(arm), "difference": change_of(row, _no_number(row))}
                total = change_of(row, _no_number(row), TOTALS)
                rows.append(head | pick(row, "positives", "n", "seeds", *OVER_BOTH) | {"total": total})
    return Table("study_baseline" if reference == "baseline" else "study_control", rows, _means(rows))


def _forest(run: Artefacts, by: Rows, names: list[str], control: str) -> Picture:
    lines = []
    for name in ["rare", *(name for name in names if name not in MEANS)]:
        for arm in run.arms:
            row = by[arm, "best control", name] if arm != control else {"difference": 0.0}
            numbers = {key: row.get(key, np.nan) for key in ("difference", *BOUNDS, *TOTALS)}
            lines.append({"panel": "Mean of the rare" if name == "rare" else name, "arm": arm, **numbers})
    return plot(draw_arms(pd.DataFrame(lines), {arm: arm_name(arm) for arm in run.arms}, control))
