"""Calibration of the classifiers' probabilities, and their operating points."""

from __future__ import annotations

import math

from cxr.core.findings import finding
from cxr.evaluation.names import FORMS
from cxr.report.figures.reliability import reliability
from cxr.report.inputs import Artefacts
from cxr.report.page import Estimate, Table, plot
from cxr.report.sections.common import FEW, pick, row_name, too_few


def part(row: dict, name: str, why: str) -> Estimate:
    """One number of a row with its interval. why: it has none."""
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], why)


def no_number(row: dict, value: float, few: str = "") -> str:
    """Why a row has no number: too few test images, or too few on validation of what is fitted there.

    few: the reason where the row has an AUC but not this number.
    """
    if math.isfinite(value):
        return ""
    if row["finding"] == "macro":
        return FEW
    fitted = {key: row.get(f"valid_{key}", math.nan) for key in ("positives", "negatives")}
    if few and math.isfinite(row.get("auc", math.nan)):
        return few
    if math.isfinite(fitted["positives"]) and min(fitted.values()) < min(row["positives"], row["negatives"]):
        return f"{too_few(fitted)} on validation"
    return too_few(row)


def calibration(run: Artefacts, models: dict[str, str]) -> dict:
    """Calibration errors and Brier scores of the rare findings and the mean. models: in the tables -> on the page."""
    by = run.rows("calibration", "model", "finding")
    rows, answers = [], []
    names = [finding(name) for name in run.findings]
    for name in (*names, "macro"):
        for model, title in models.items():
            one = by[model, name]
            row = {"finding": row_name(one), "model": title}
            row |= pick(one, "positives", "n", "valid_positives", "trained_share", "true_share")
            for form in FORMS:
                row[f"ece_{form}"] = Estimate(one[f"ece_{form}"], why=no_number(one, one[f"ece_{form}"]))
                why = row[f"ece_{form}"].why or "the classes do not overlap"
                for error in (f"{kind}_{form}" for kind in ("perfect", "slope", "intercept", "brier")):
                    row[error] = part(one, error, why)
            rows.append(row)
            if name == "macro":
                answers.append({"name": title, "findings": one["findings"], "forms": _forms(one, row)})
    curves = run.table("reliability", "model", "finding").query("model == 'final'")
    names = [name for name in names if (curves["finding"] == name).any()]
    return {
        "calibration_answers": answers,
        "reliability": plot(reliability(curves, names, FORMS), 34 * len(names)) if names else None,
        "forms": FORMS,
        "calibration": Table("calibration", rows, [rows[-1]["finding"]]),
    }


def _forms(one: dict, row: dict) -> list[dict]:
    """What one mean says of each form."""
    return [
        {"name": title} | {key: row[f"{key}_{form}"] for key in ("ece", "perfect", "slope", "intercept")}
        for form, title in FORMS.items()
        if math.isfinite(one[f"ece_{form}"])
    ]


def operating(run: Artefacts, models: dict[str, str]) -> dict:
    """Sensitivity and specificity on the test images at thresholds set on validation. models: as for calibration."""
    by = run.rows("operating", "model", "finding")
    rows, answers = [], []
    for name in (*map(finding, run.findings), "macro"):
        for model, title in models.items():
            one = by[model, name]
            row = {"finding": row_name(one), "model": title}
            row |= pick(one, "valid_positives", "threshold", "positives", "n")
            row |= {rate: part(one, rate, no_number(one, one[rate])) for rate in ("sensitivity", "specificity")}
            rows.append(row)
            if name == "macro":
                answers.append({"name": title, "findings": one["findings"], **row})
    return {"operating_answers": answers, "operating": Table("operating", rows, [rows[-1]["finding"]])}
