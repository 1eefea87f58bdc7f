"""The GAN question: the GAN arm beside every control arm, and every arm beside the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from cxr.core.findings import finding
from cxr.report.figures.doses import doses as draw_doses
from cxr.report.figures.forest import study as draw_controls
from cxr.report.inputs import Artefacts, Rows
from cxr.report.page import Estimate, Picture, Table, plot
from cxr.report.sections.common import BOUNDS, FEW, TOTALS, Verdict, change_of, mean_of, pick, too_few
from cxr.synthesis.arms import ARMS

MEANS = {"rare": "rare finding", "macro": "finding"}  # what each is a mean of
OVER_BOTH = ("sd", "p", "p_greater", "p_holm", "detectable")


def arm_name(arm: str) -> str:
    """An arm's name on the page."""
    return ARMS[arm].title if arm in ARMS else arm


def study(run: Artefacts) -> dict:
    """answers (the first is the primary claim), arms (name, description), the picture and the tables.

    What this run does not have is None or empty: without control arms there is no study.
    """
    empty = {"answers": [], "arms": [], "seeds": 0, "controls": [], "forest": None, "doses": None, "headroom": None}
    empty["view"] = run.study_view
    empty |= dict.fromkeys(("table", "against_baseline", "against_controls"))
    if not run.arms:
        return empty
    arms = ["baseline", *run.arms, "gan"]
    areas = run.rows("study", "arm", "finding")
    pairs = run.rows("study_differences", "arm", "control", "finding")
    claims = run.table("study_claims").to_dict("records")
    names = [*(finding(name) for name in run.findings), *MEANS]
    controls = [arm for arm in arms if ARMS[arm].control]
    others = [arm for arm in arms if arm != "baseline"]
    return empty | {
        "arms": [(arm_name(arm), ARMS[arm].description) for arm in arms],
        "seeds": len(run.seeds),
        "controls": [arm_name(arm) for arm in controls],
        "answers": [answer(row, run.alpha) for row in claims],
        "headroom": headroom(areas, pairs, controls, run.endpoint) if "oracle" in run.arms else None,
        "table": _areas(areas, arms, names),
        "doses": _doses(areas, arms, run.endpoint),
        "forest": _forest(pairs, controls, ["rare", *names[:-2]]),
        "against_controls": _differences(pairs, "study_controls", [("gan", control) for control in controls], names),
        "against_baseline": _differences(pairs, "study_baseline", [(arm, "baseline") for arm in others], names),
    }


def answer(row: Mapping, alpha: float) -> dict:
    """What one row of study_claims shows: the claim that the GAN arm beats every control. alpha: two-sided level of its
    test, of which one side is used.

    possible: whether any difference could have been found.
    """
    if not math.isfinite(row["difference"]):
        verdict = Verdict.UNTESTED
    elif row["seeds"] < 2:
        verdict = Verdict.ONE_TRAINING
    elif not math.isfinite(row["p_every"]):
        verdict = Verdict.UNTESTED
    elif row["p_every"] < alpha / 2 and (row["primary"] or row["p_holm"] < alpha / 2):
        verdict = Verdict.GAIN
    elif row["total_high"] < 0:
        verdict = Verdict.LOSS
    else:
        verdict = Verdict.UNCORRECTED if row["p_every"] < alpha / 2 else Verdict.NONE
    change = change_of(row, _no_number(row), TOTALS if row["seeds"] > 1 else BOUNDS)
    numbers = pick(row, "primary", "controls", "detectable", "p_every", "p_holm", "positives", "n", "seeds")
    head = {"name": _row_name(row), "control": arm_name(row["control"]), "change": change, "verdict": verdict}
    return head | numbers | {"possible": not row["detectable"] >= 1}  # an AUC cannot differ by 1 or more


def headroom(areas: Rows, pairs: Rows, controls: list[str], endpoint: str) -> dict:
    """The oracle less the control with the highest AUC, for the study's endpoint: room for a generator to help.

    enough: whether it is at least twice what the test detects, None without a number; closed: the GAN arm's share of
    it, None where the oracle is not clear of that control.
    """
    best = max(controls, key=lambda control: np.nan_to_num(areas[control, endpoint]["auc"], nan=-1.0))
    row, gan = pairs["oracle", best, endpoint], pairs["gan", best, endpoint]
    ends = TOTALS if row["seeds"] > 1 else BOUNDS
    measured = math.isfinite(row["difference"]) and math.isfinite(row["detectable"])
    return {
        "control": arm_name(best),
        "change": change_of(row, _no_number(row), ends),
        "detectable": row["detectable"],
        "enough": bool(row["difference"] >= 2 * row["detectable"]) if measured else None,
        "closed": gan["difference"] / row["difference"] if row[ends[0]] > 0 else None,
    }


def _row_name(row: Mapping) -> str:
    """The finding's name, or what its mean is over."""
    return mean_of(row, MEANS[row["finding"]]) if row["finding"] in MEANS else row["finding"]


def _no_number(row: Mapping) -> str:
    if row["finding"] in MEANS:
        return FEW
    return too_few({"positives": row["positives"], "negatives": row["n"] - row["positives"]})


def _areas(areas: Rows, arms: list[str], names: list[str]) -> Table:
    rows = []
    for name in names:
        for arm in arms:
            row = areas[arm, name]
            auc = Estimate(row["auc"], row["low"], row["high"], _no_number(row))
            counts = pick(row, "positives", "n", "patients", "seeds", "sd")
            rows.append({"finding": _row_name(row), "arm": arm_name(arm), "auc": auc, **counts})
    return Table("study", rows, _means(rows))


def _means(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(row["finding"] for row in rows if pd.isna(row["positives"])))


def _differences(pairs: Rows, table: str, chosen: list[tuple[str, str]], names: list[str]) -> Table:
    rows = []
    for name in names:
        for arm, control in chosen:
            row = pairs[arm, control, name]
            head = {"finding": _row_name(row), "arm": arm_name(arm), "control": arm_name(control)}
            head |= {"difference": change_of(row, _no_number(row)), "total": change_of(row, _no_number(row), TOTALS)}
            rows.append(head | pick(row, "positives", "n", "seeds", *OVER_BOTH))
    return Table(table, rows, _means(rows))


def _doses(areas: Rows, arms: list[str], endpoint: str) -> Picture | None:
    """The endpoint's AUC over the dose, of the GAN's X-rays and of the oracle's; None where no dose was trained."""
    lines = []
    for kind in ("gan", "oracle"):
        own = sorted((ARMS[arm].dose, arm) for arm in arms if arm.startswith(f"{kind}_dose_"))
        if own:
            points = [("0", "baseline_steps"), *((f"{dose:g}", arm) for dose, arm in own), ("all", kind)]
            lines += [
                {"kind": arm_name(kind), "dose": dose, **pick(areas[arm, endpoint], "auc", *BOUNDS)}
                for dose, arm in points
                if arm in arms
            ]
    return plot(draw_doses(pd.DataFrame(lines), "test AUC")) if lines else None


def _forest(pairs: Rows, controls: list[str], names: list[str]) -> Picture:
    lines = []
    for name in names:
        for control in controls:
            numbers = {key: pairs["gan", control, name].get(key, np.nan) for key in ("difference", *BOUNDS, *TOTALS)}
            lines.append({"panel": "Mean of the rare" if name == "rare" else name, "control": control, **numbers})
    return plot(draw_controls(pd.DataFrame(lines), {arm: arm_name(arm) for arm in controls}))
