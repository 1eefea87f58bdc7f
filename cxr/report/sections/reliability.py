"""How far to trust the classifiers: against the metadata baseline, calibration, operating points, subgroups."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, finding
from cxr.evaluation.names import GROUP_NUMBERS
from cxr.report.figures.forest import forest
from cxr.report.inputs import Artefacts, Rows
from cxr.report.page import Estimate, Table, plot
from cxr.report.sections.calibration import calibration, no_number, operating, part
from cxr.report.sections.common import (
    BOUNDS,
    TOTALS,
    Verdict,
    areas,
    auc_of,
    change_of,
    pick,
    row_name,
    verdict,
)
from cxr.report.sections.common import no_number as no_auc
from cxr.report.sections.within_views import METADATA, area_of, floor_rows


def reliability(run: Artefacts) -> dict:
    """Four questions: more than metadata? do probabilities hold? does the threshold hold? as good for everybody?"""
    models = {run.final_policy: "baseline", "final": "final"}
    groups = run.rows("subgroups", "model", "finding", "attribute", "group")
    metadata = _metadata(run, models, groups)
    return metadata | calibration(run, models) | operating(run, models) | _subgroups(run, groups)


def _metadata(run: Artefacts, models: dict[str, str], groups: Rows) -> dict:
    """The classifiers beside the metadata baseline, over all views and within one."""
    pairs, by = run.rows("floor", "model", "finding"), areas(run, "test")
    metadata, rows = f"floor_{run.final_policy}", []
    for name in (*FINDINGS, "macro"):
        pair, final = pairs["final", name], by["final", name]
        row = {"finding": row_name(final), **pick(final, "positives", "n")}
        row |= {"floor": auc_of(by[metadata, name]), "final": auc_of(final)}
        row |= {"difference": change_of(pair, no_auc(final)), **pick(pair, "detectable", "p_holm")}
        for view in ("AP", "PA"):
            group = groups.get(("final", name, "view", view), {})
            row |= {f"{count}_{view}": group.get(count) for count in ("positives", "n")}
            for key, model in (("floor", metadata), ("final", "final")):
                one = groups.get((model, name, "view", view))
                row[f"{key}_{view}"] = one and part(one, "auc", no_number(one, one["auc"]))
        rows.append(row)
    answers, above = [], run.rows("above_metadata", "model")
    for model, title in models.items():
        pair, area = above[model], by[model, "macro"]
        answer = {"name": title, "auc": auc_of(area), "metadata": auc_of(by[metadata, "macro"])}
        ends = TOTALS if pair["trainings"] > 1 else BOUNDS
        answer |= {"change": change_of(pair, ends=ends), "verdict": verdict(pair, run.alpha, run.verdict_p)}
        answers.append(answer | pick(area, "n", "patients", "findings"))
    adgm = all((run.variants, run.classes, run.labels, run.draws))
    return {
        "metadata_answers": answers,
        "metadata": Table("floor", rows, [*map(finding, run.findings), rows[-1]["finding"]]),
        "rsna": _rsna(run) if adgm else None,
    }


def _rsna(run: Artefacts) -> Table:
    """The ADGM beside the metadata baseline, over all views and within one."""
    by, rows = floor_rows(run), []
    for classes in sorted(run.classes):
        for labels in (METADATA, *sorted(run.labels)):
            row = {"classes": classes, "model": f"{labels:,} labels per class" if labels else "metadata baseline"}
            for view in ("all", "AP", "PA"):
                one = by[classes, labels, view]
                row |= {f"n_{view}": one["n"], view: area_of(one)}
            rows.append(row | {"n": row["n_all"]})
    return Table("floor_rsna", rows)


def _subgroups(run: Artefacts, groups: Rows) -> dict:
    """The final classifier by sex, age and view: means over the findings, and each rare finding."""
    means = _group_rows(groups, ["macro"])
    rare = _group_rows(groups, [finding(name) for name in run.findings])
    gaps = []
    for row in means:
        if row["auc_gap"] and math.isfinite(row["auc_gap"].value):
            value, low, high, _ = row["auc_gap"]
            gaps.append({"name": row["group"], "n": row["n"], "difference": value, "low": low, "high": high})
    points = pd.DataFrame([gap | {"printed": np.nan, "note": f"n {gap['n']:,.0f}"} for gap in gaps])
    worst = run.rows("worst_gaps", "model", "finding")["final", "macro"]
    return {
        "groups": len(gaps),
        "away": sum(gap["low"] > 0 or gap["high"] < 0 for gap in gaps),
        "worst": _worst(worst, run.alpha, run.verdict_p) if gaps else None,
        "gap_plot": plot(forest(points, "difference in mean AUC, group \u2212 others")) if gaps else None,
        "subgroups": Table("subgroups", means),
        "rare": Table("subgroups_rare", rare, empty=("finding", "group", "n")),
    }


def _worst(row: dict, alpha: float, strict: float) -> dict:
    """The lowest gap beside the lowest that is expected under no gap. verdict: LOSS where it is below chance.
    alpha, strict: as of `verdict`.
    """
    name, gap = f"{row['attribute']}: {row['group']}", Estimate(row["gap"], row["gap_low"], row["gap_high"])
    return {
        "name": name,
        "gap": gap,
        **pick(row, "expected", "expected_low", "p"),
        "verdict": Verdict.LOSS if row["p"] <= strict else Verdict.UNSURE if row["p"] < alpha else Verdict.NONE,
        "once": round(1 / alpha),
    }


def _group_rows(groups: Rows, names: list[str]) -> list[dict]:
    rows = []
    for name in names:
        for one in groups.values():
            if (one["model"], one["finding"]) != ("final", name):
                continue
            everybody = one["attribute"] == "all"
            row = {
                "finding": row_name(one),
                "group": "everybody" if everybody else f"{one['attribute']}: {one['group']}",
            }
            row |= pick(one, "patients", "n", "positives", "findings")
            for key in GROUP_NUMBERS:
                row[key] = part(one, key, no_number(one, one[key], "few on validation"))
                gap = not everybody and math.isfinite(one[key])
                row[f"{key}_gap"] = part(one, f"{key}_gap", "few others") if gap else None
            rows.append(row)
    return rows
