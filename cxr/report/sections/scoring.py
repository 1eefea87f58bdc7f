"""The same predictions scored in the field's other ways: per study, beside radiologists, with uncertain labels counted,
by average precision, predictive values and net benefit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from cxr.core.findings import FINDINGS, finding
from cxr.evaluation.names import FIVE, RULES
from cxr.report.figures import classifiers as roc_figures
from cxr.report.figures.benefit import curves as benefit_curves
from cxr.report.inputs import Artefacts, Rows
from cxr.report.page import Estimate, Picture, Table, plot
from cxr.report.sections.calibration import no_number, part
from cxr.report.sections.common import auc_of, pick, row_name


def scoring(run: Artefacts) -> dict:
    """Tables and figures of the section; readers and its pictures are None where there is nothing to draw."""
    models = {run.final_policy: "baseline", "final": "final"}
    readers = _readers(run)
    return {
        **_per_study(run, models),
        "way": run.study_scores,
        "roc": _roc(run, models, readers),
        "readers": _reader_table("readers", [row for row in readers if row["finding"] in FIVE]) if readers else None,
        "readers_others": (
            _reader_table("readers_others", [row for row in readers if row["finding"] not in FIVE]) if readers else None
        ),
        "reader_count": len({row["reader"] for row in readers}) if readers else 0,
        "uncertain": _uncertain(run),
        **_precision(run, models),
        "benefit": _benefit_table(run),
        "curves": _curves(run, models),
        "without": [name for name in map(finding, run.findings) if name not in _of_final(run)[1]],
        "thresholds": run.thresholds,
    }


def _name(row: dict, competition: int = len(FIVE)) -> str:
    """The finding's name, or what its mean is over."""
    if row["finding"] != "five":
        return row_name(row)
    known = int(row["findings"])
    return f"Mean of the competition\u2019s {competition}" if known == competition else (
        f"Mean of {known} of the competition\u2019s {competition}"
    )  # fmt: skip


def _per_study(run: Artefacts, models: dict[str, str]) -> dict:
    by = run.rows("per_study", "unit", "model", "finding")
    rows, answers = [], []
    for name in (*FINDINGS, "macro", "five"):
        study, image = by["study", "final", name], by["image", "final", name]
        row = {"finding": _name(study)} | pick(study, "positives", "n", "patients")
        row |= {"floor": auc_of(by["study", f"floor_{run.final_policy}", name])}
        row |= {title: auc_of(by["study", model, name]) for model, title in models.items()}
        rows.append(row | {"images": image["n"], "by_image": auc_of(image)})
    for model, title in models.items():
        macro, five = by["study", model, "macro"], by["study", model, "five"]
        answer = {"name": title, "auc": auc_of(macro), "five": auc_of(five), "five_findings": five["findings"]}
        answers.append(answer | pick(macro, "findings", "n", "patients"))
    strong = [*map(finding, run.findings), rows[-2]["finding"], rows[-1]["finding"]]
    return {"answers": answers, "per_study": Table("per_study", rows, strong)}


def _readers(run: Artefacts) -> list[dict]:
    """The rows of the readers beside final; empty where the data set has no readers."""
    if not (run.evaluate / "readers.csv").exists():
        return []
    table = run.table("readers", "model", "reader", "finding").query("model == 'final'")
    return table.to_dict("records")


def _reader_table(name: str, readers: Sequence[dict]) -> Table:
    """Rows by finding, the competition's in its order first, then by reader."""
    order = {name: k for k, name in enumerate((*FIVE, *(name for name in FINDINGS if name not in FIVE)))}
    rows = [
        pick(row, "finding", "reader", "positives", "n")
        | {key: part(row, key, "") for key in ("sensitivity", "specificity", "at", "difference")}
        for row in sorted(readers, key=lambda row: (order[row["finding"]], str(row["reader"])))
    ]
    return Table(name, rows, empty=("finding", "reader", "n"))


def _roc(run: Artefacts, models: dict[str, str], readers: Sequence[dict]) -> Picture | None:
    """ROC curves per study of the competition's findings that have one, with the readers' points."""
    lines = run.table("study_roc", "model", "finding", "fpr", "tpr")
    names = [name for name in FIVE if (lines["finding"] == name).any()]
    if not names:
        return None
    points = pd.DataFrame(
        [{"finding": row["finding"], "fpr": 1 - row["specificity"], "tpr": row["sensitivity"]} for row in readers],
        columns=["finding", "fpr", "tpr"],
    )
    areas = run.table("per_study", "unit").query("unit == 'study'")
    return plot(roc_figures.roc(lines, areas, names, models, points), 34 * len(names))


def _uncertain(run: Artefacts) -> Table:
    by = run.rows("uncertain", "model", "rule", "finding")
    rows = []
    for name in (*FINDINGS, "macro"):
        left_out = by["final", "left_out", name]
        row = {"finding": row_name(left_out)} | pick(left_out, "uncertain", "positives", "n")
        rows.append(row | {rule: auc_of(by["final", rule, name]) for rule in RULES})
    return Table("uncertain", rows, [*map(finding, run.findings), rows[-1]["finding"]])


def _precision(run: Artefacts, models: dict[str, str]) -> dict[str, Table]:
    """Average precision of the models, and final's predictive values."""
    by = run.rows("precision", "model", "finding")
    rows, calls = [], []
    for name in (*FINDINGS, "macro"):
        one = by["final", name]
        row = {"finding": row_name(one)} | pick(one, "positives", "n", "prevalence", "chance")
        row |= {
            f"ap_{title}": part(by[model, name], "ap", no_number(one, one["ap"])) for model, title in models.items()
        }
        rows.append(row | {"above": part(one, "above", no_number(one, one["above"]))})
        why = "too few on validation" if math.isfinite(one["ap"]) else no_number(one, one["ap"])
        call = {"finding": row_name(one | {"findings": one["called_findings"]})}
        call |= pick(one, "positives", "n", "prevalence", "threshold", "called")
        if name == "macro":  # which is over the findings with an average precision
            call["prevalence"] = None
        calls.append(call | {key: part(one, key, why) for key in ("ppv", "npv")})
    rare = [*map(finding, run.findings)]
    return {
        "precision": Table("precision", rows, [*rare, rows[-1]["finding"]]),
        "predictive": Table("predictive", calls, [*rare, calls[-1]["finding"]]),
    }


def _of_final(run: Artefacts) -> tuple[pd.DataFrame, list[str]]:
    """(net benefit of final, the findings of the run that have one)."""
    table = run.table("benefit", "model", "finding", "threshold")
    names = [name for name in map(finding, run.findings) if (table["finding"] == name).any()]
    return table, names


def _benefit_table(run: Artefacts) -> Table:
    table, names = _of_final(run)
    by = Rows(table[table["model"] == "final"], run.evaluate / "benefit.csv", "evaluate", "finding", "threshold")
    rows = []
    for name in names:
        for threshold in run.thresholds:
            one = by[name, threshold]
            row = pick(one, "finding", "threshold", "positives", "n", "called", "everyone")
            row |= {key: part(one, key, "") for key in ("benefit", "over_all")}
            rows.append(row | {"none": Estimate(0.0)})
    return Table("benefit", rows, empty=("finding", "threshold", "n"))


def _curves(run: Artefacts, models: dict[str, str]) -> Picture | None:
    table, names = _of_final(run)
    return plot(benefit_curves(table, names, models), 34 * len(names)) if names else None
