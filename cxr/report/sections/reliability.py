"""The report's section on how far to believe the classifiers: the metadata-only floor, calibration, operating points,
subgroups.

As cxr/report/sections/classifiers.py: the names that the template uses, nothing computed anew.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, finding
from cxr.evaluation.names import GROUP_NUMBERS, TABLES
from cxr.report import figures
from cxr.report.inputs import Artefacts, Rows, csv
from cxr.report.page import Column, Estimate, Table
from cxr.report.sections.calibration import calibration, operating, part, why
from cxr.report.sections.classifiers import areas, estimate, named, plot, policy_name, verdict

ABOVE = ("model", "finding", "positives", "floor", "auc", "difference", "low", "high", "detectable", "p_holm")
VIEWS = ("classes", "labels", "view", "n", "auc", "low", "high")


def trust(run: Artefacts) -> dict:
    """Four questions: more than metadata? do probabilities hold? does the threshold hold? is it the same for all?"""
    models = {run.final_policy: "baseline", "final": "final"}
    groups = _groups(run)
    return _floor(run, models, groups) | calibration(run, models) | operating(run, models) | _subgroups(run, groups)


def _groups(run: Artefacts) -> Rows:
    path = run.evaluate / "subgroups.csv"
    return Rows(csv(path, "evaluate", TABLES["subgroups"]), path, "evaluate", "model", "finding", "attribute", "group")


def _within(groups: Rows, model: str, name: str, view: str) -> Estimate | None:
    row = groups.get((model, name, "view", view))
    return row and part(row, "auc", why(row, row["auc"]))


def _floor(run: Artefacts, models: dict[str, str], groups: Rows) -> dict:
    path, floor = run.evaluate / "floor.csv", f"floor_{run.final_policy}"
    above = Rows(csv(path, "evaluate", ABOVE), path, "evaluate", "model", "finding")
    _, by = areas(run, "test")
    rows, points = [], []
    for name in (*FINDINGS, "macro"):
        pair, ours, theirs = above["final", name], by["final", name], by[floor, name]
        row = {"finding": named(ours), "positives": ours["positives"], "n": ours["n"], "p_holm": pair["p_holm"]}
        row |= {"final": estimate(ours), "floor": estimate(theirs), "detectable": pair["detectable"]}
        row |= {"difference": Estimate(pair["difference"], pair["low"], pair["high"])}
        row |= {f"{key}_{v}": _within(groups, m, name, v) for v in ("AP", "PA") for key, m in
                (("final", "final"), ("floor", floor))}  # fmt: skip
        for view in ("AP", "PA"):
            group = groups.get(("final", name, "view", view), {})
            row |= {f"{count}_{view}": group.get(count) for count in ("positives", "n")}
        rows.append(row)
    for model, called in models.items():
        pair = above[model, "macro"]
        change = Estimate(pair["difference"], pair["low"], pair["high"], "no finding has enough positives")
        said = verdict(pair | {"p_holm": 0.0}, run.alpha)  # one mean: nothing to correct for
        found = {"a gain": "more than metadata", "a loss": "less than metadata"}.get(said, said)
        points.append({"name": called, "auc": estimate(by[model, "macro"]), "floor": estimate(by[floor, "macro"])}
                      | {"change": change, "verdict": found}
                      | {k: by[model, "macro"][k] for k in ("n", "patients", "findings")})  # fmt: skip
    test = f"test AUC and {run.level} interval"
    columns = [
        Column("finding", "Finding"),
        Column("positives", "positive", "count", "test images"),
        Column("n", "n", "count", "test images"),
        Column("floor", "metadata alone", "auc", test),
        Column("final", "final", "auc", test),
        Column("difference", "final less metadata", "difference", test),
        Column("detectable", "detectable", "auc", test),
        Column("p_holm", "Holm p", "p", "DeLong"),
    ]
    within = [columns[0]]
    for view in ("AP", "PA"):
        title = f"within {view}: AUC and {run.level} interval"
        counts, scores = {"positives": "positive", "n": "n"}, {"floor": "metadata alone", "final": "final"}
        within += [Column(f"{key}_{view}", head, "count", title) for key, head in counts.items()]
        within += [Column(f"{key}_{view}", head, "auc", title) for key, head in scores.items()]
    notes = [
        "Metadata alone is a logistic regression on sex, age and view, fitted on the training images under "
        f"{policy_name(run.final_policy)}. Detectable: the smallest true difference that a test set like this one "
        f"would have shown with power {run.power:g}.",
    ]
    views = [
        "Within one view only sex and age are left to the metadata, and a classifier that merely reads the view off "
        "the image has nothing left. A mean is over the findings with enough positives in that view, so it is not of "
        "the same findings as the mean over all views.",
    ]
    strong = [*(finding(f) for f in run.findings), rows[-1]["finding"]]
    table = Table("floor", "The final classifier beside what sex, age and view predict", columns, rows, notes, strong)
    return {
        "floor_answers": points,
        "floor": table,
        "within": Table("floor_views", "The same within AP and within PA images", within, rows, views, strong),
        "rsna": _rsna(run) if all((run.variants, run.classes, run.labels, run.draws)) else None,
    }


def _rsna(run: Artefacts) -> Table:
    path = run.evaluate / "adgm_floor.csv"
    found = csv(path, "evaluate", VIEWS).assign(labels=lambda t: t["labels"].fillna(0))  # 0: metadata alone
    by = Rows(found, path, "evaluate", "classes", "labels", "view")
    rows = []
    for classes in sorted(run.classes):
        for n in (0, *sorted(run.labels)):
            name = f"{n:,} labels per class" if n else "sex, age and view alone"
            row = {"task": f"{classes} classes, {name}"}
            for view in ("all", "AP", "PA"):
                one = by[classes, n, view]
                few = "" if math.isfinite(one["auc"]) else "a class has too few images"
                row |= {f"n_{view}": one["n"], view: Estimate(one["auc"], one["low"], one["high"], few)}
            rows.append(row | {"n": row["n_all"]})
    columns = [Column("task", "Classes and model"), Column("n", "n", "count", "all views")]
    columns += [Column("all", "AUC", "auc", "all views")]
    for view in ("AP", "PA"):
        columns += [Column(f"n_{view}", "n", "count", f"within {view}"), Column(view, "AUC", "auc", f"within {view}")]
    notes = [
        f"AUC of one class against the rest, mean over the classes, {run.level} intervals over patients, last "
        "epoch, first label draw. The metadata\u2019s regression learnt from every training image\u2019s class, the "
        "ADGM from the labels named.",
    ]
    return Table("floor_rsna", "RSNA: the ADGM beside what sex, age and view predict", columns, rows, notes)


def _subgroups(run: Artefacts, groups: Rows) -> dict:
    tables, gaps = {}, []
    for key, names in (("means", ["macro"]), ("rare", [finding(f) for f in run.findings])):
        rows = []
        for row in groups.values():
            if row["model"] != "final" or row["finding"] not in names:
                continue
            title = "Everybody" if row["attribute"] == "all" else f"{row['attribute']}: {row['group']}"
            line = {"group": title, "finding": named(row)}
            line |= {k: row[k] for k in ("patients", "n", "positives", "findings")}
            for n in GROUP_NUMBERS:
                line |= {n: part(row, n, why(row, row[n], "few on validation")), f"{n}_gap": None}
                if row["attribute"] != "all" and math.isfinite(row[n]):
                    line |= {f"{n}_gap": part(row, f"{n}_gap", "few others")}
            rows.append(line)
            if key == "means" and math.isfinite(row["auc_gap"]):
                gaps.append({"name": title, "n": row["n"], "difference": row["auc_gap"], "low": row["auc_gap_low"]}
                            | {"high": row["auc_gap_high"]})  # fmt: skip
        order = {name: i for i, name in enumerate(names)}
        rows.sort(key=lambda line: order.get(line["finding"], 0))
        tables[key] = rows
    head = [Column("patients", "patients", "count", "test"), Column("n", "n", "count", "test")]
    columns = [
        *(Column(n, title, kind, head_) for n, title, kind, head_ in (
            ("auc", "AUC", "auc", "AUC"), ("auc_gap", "gap", "difference", "AUC"),
            ("fnr", "missed", "share", "false negative rate"), ("fnr_gap", "gap", "difference", "false negative rate"),
            ("offset", "offset", "difference", "calibration"), ("offset_gap", "gap", "difference", "calibration"))),
    ]  # fmt: skip
    notes = [
        f"Gap: the group less all the others, {run.level} intervals over patients, not corrected for the number of "
        f"groups. Missed: positives below the threshold set for everybody at {run.sensitivity} sensitivity on "
        "validation. Offset: mean calibrated probability less the share of positives; its gap is how much more "
        "a group\u2019s risk is overstated than everybody else\u2019s. A mean is over the findings with "
        "enough positives in that group, a gap\u2019s over those with enough outside it, too, so means of different "
        "groups are not of the same findings.",
    ]
    points = pd.DataFrame([g | {"printed": np.nan, "note": f"n {g['n']:,.0f}"} for g in gaps])
    drawn = figures.forest(points, "difference in mean AUC, group \u2212 others") if len(points) else None
    away = sum(g["low"] > 0 or g["high"] < 0 for g in gaps)
    return {
        "gaps": {"groups": len(gaps), "away": away, "worst": min(gaps, key=lambda g: g["difference"], default=None)},
        "gap_plot": drawn
        and plot(
            drawn,
            f"Mean test AUC of the final classifier in each group less that of all the others, {run.level} intervals "
            "over patients. Blue: clear of zero, before any correction for looking at every group.",
            "Forest plot of subgroup gaps in AUC",
            80,
        ),
        "subgroups": Table(
            "subgroups",
            "The final classifier by sex, age and view: means over the findings",
            [Column("group", "Group"), *head, Column("findings", "findings", "count", "test"), *columns],
            tables["means"],
            notes,
        ),
        "rare": Table(
            "subgroups_rare",
            "The final classifier by sex, age and view: each rare finding",
            [Column("finding", "Finding"), Column("group", "group"), *head[1:],
             Column("positives", "positive", "count", "test"), *columns],
            tables["rare"],
        ),
    }  # fmt: skip
