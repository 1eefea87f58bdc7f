"""The classifiers of CheXpert's fourteen findings: the baseline under each label policy, and the final one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cxr import papers
from cxr.core.files import read_table
from cxr.core.findings import FINDINGS, finding, slug
from cxr.report.figures import classifiers as figures
from cxr.report.figures.forest import forest
from cxr.report.inputs import Artefacts
from cxr.report.page import Picture, Table, number, plot
from cxr.report.sections.common import (
    FEW,
    TOTALS,
    areas,
    auc_of,
    backbone_name,
    change_of,
    marks,
    no_number,
    pick,
    policy_name,
    row_name,
    verdict,
)
from cxr.report.sections.generators import plan_of

HISTORY = ("epoch", "train_loss", "valid_loss", "valid_macro_auc")


def _roc(run: Artefacts, models: dict[str, str]) -> Picture | None:
    """ROC curves of the rare findings on the test images. models: model in the tables -> its name on the page."""
    names = [finding(name) for name in run.findings]
    if not names:
        return None
    test = run.table("auc").query("split == 'test'")
    return plot(figures.roc(run.table("roc"), test, names, models), 34 * len(names))


def baseline(run: Artefacts) -> dict:
    """Table 2 and figures 4 and 5 of the paper: test AUC by label policy, ROC curves of the rare findings, training."""
    by = areas(run, "test")
    rows, answers = [], []
    for name in (*FINDINGS, "macro"):
        first = by[run.final_policy, name]
        row = {"finding": row_name(first)} | pick(first, "positives", "n")
        row |= {f"auc_{p}": auc_of(by[p, name]) for p in run.policies}
        row |= {f"floor_{p}": auc_of(by[f"floor_{p}", name]) for p in run.policies}
        row |= {
            f"paper_{p}": papers.mean_auc(p) if name == "macro" else papers.TABLE_2[name][p] for p in papers.POLICIES
        }
        rows.append(row)
        if name == "macro":
            answers = [{**by[p, name], "name": policy_name(p), "auc": row[f"auc_{p}"]} for p in run.policies]
    first = run.seeds[0]
    stages = {p: run.trainers.get(p, f"baseline@{p}-{first}") for p in run.policies}
    trained = {policy_name(p): _history(run, f"baseline/{first}/{p}", stage) for p, stage in stages.items()}
    histories = trained | {"final": _history(run, f"final/{first}", f"final@{first}")}
    return {
        "net": backbone_name(run),
        "table": Table("table2", rows, [*map(finding, run.findings), rows[-1]["finding"]]),
        "columns": [(f"auc_{p}", policy_name(p), "auc") for p in run.policies],
        "metadata": f"floor_{run.final_policy}",
        "paper": [(f"paper_{p}", policy_name(p), "printed") for p in papers.POLICIES],
        "answers": answers,
        "roc": _roc(run, {p: policy_name(p) for p in run.policies}),
        "training": plot(figures.training(histories)),
    }


def _history(run: Artefacts, name: str, stage: str) -> pd.DataFrame:
    return read_table(run.history / f"{name}.csv", stage, HISTORY)


def final(run: Artefacts) -> dict:
    """Table 3 and figure 8 of the paper for all findings: baseline, final, their paired difference, p."""
    by, compare = areas(run, "test"), run.rows("compare", "finding")
    metadata, rows, points = f"floor_{run.final_policy}", [], []
    marked = marks(run, "chexpert", papers.TABLE_3)
    for name in (*FINDINGS, "macro"):
        pair, after = compare[name], by["final", name]
        printed = papers.TABLE_3.get(name, (None, None))
        row = {"finding": row_name(after)} | pick(after, "positives", "n")
        row |= {"baseline": auc_of(by[run.final_policy, name]), "final": auc_of(after)}
        row |= {"difference": change_of(pair, no_number(after)), "total": change_of(pair, no_number(after), TOTALS)}
        row |= {"floor": auc_of(by[metadata, name]), **pick(pair, "trainings", "sd", "detectable", "p", "p_holm")}
        row["verdict"] = verdict(pair, run.alpha, run.verdict_p)
        rows.append(row | dict(zip(("paper_baseline", "paper_final"), printed, strict=True)))
        points.append(_point(row, marked.get(name)))
    plan = plan_of(run).findings
    answers = [
        {"name": name, "generated": plan[slug(name)].generated, **row}
        for name in map(finding, run.findings)
        for row in rows
        if row["finding"] == name
    ]
    return {
        "policy": policy_name(run.final_policy),
        "answers": answers,
        "trainings": len(run.seeds),
        "ensembles": _ensembles(run),
        "marked": bool(marked),
        "forest": plot(forest(pd.DataFrame(points), "difference in AUC, final \u2212 baseline")),
        "table": Table("table3", rows, [finding(name) for name in run.findings]),
        "roc": _roc(run, {run.final_policy: "baseline", "final": "final", metadata: "metadata"}),
    }


def _ensembles(run: Artefacts) -> list[dict]:
    """name, auc, members and change of the mean score of all trainings, macro; none where there is one training."""
    rows = run.rows("ensemble", "model", "finding") if len(run.seeds) > 1 else {}
    names = {run.final_policy: "baseline", "final": "final"}
    return [
        {"name": name, **pick(rows[model, "macro"], "auc", "members"), "change": change_of(rows[model, "macro"], FEW)}
        for model, name in names.items()
        if rows
    ]


def _point(row: dict, printed: tuple | None) -> dict:
    """What the forest plot draws of one row. printed: the paper's AUCs of baseline and final, if marked."""
    value, low, high, why = row["total"] if row["trainings"] > 1 else row["difference"]
    has_value = math.isfinite(value)
    count = f"  ({row['positives']:,.0f} of {row['n']:,.0f})" if row["positives"] == row["positives"] else ""
    paper = printed[1] - printed[0] if printed else np.nan
    return {
        "name": row["finding"] + count,
        "note": number(value, "difference") if has_value else f"n/a \u2014 {why}",
        "difference": value,
        "low": low,
        "high": high,
        "printed": paper,
    }
