"""The report's paragraphs on calibration and operating points, for cxr/report/sections/reliability.py.

As cxr/report/sections/classifiers.py: the names that the template uses, nothing computed anew.
"""

from __future__ import annotations

import math

from cxr.core.findings import finding
from cxr.evaluation.names import ERRORS, FORMS, RATES
from cxr.report import figures
from cxr.report.inputs import Artefacts, Rows, csv
from cxr.report.page import Column, Estimate, Table
from cxr.report.sections.classifiers import named, plot, too_few

COUNTS = ("model", "finding", "n", "positives", "negatives", "valid_positives", "valid_negatives", "findings")


def part(row: dict, name: str, reason: str) -> Estimate:
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], reason)


def why(row: dict, number: float, few: str = "") -> str:
    """Why a row has no number: too few in the test images, or for what is fitted, too few on validation."""
    if math.isfinite(number):
        return ""
    if row["finding"] == "macro":
        return "no finding has enough positives"
    fitted = {key: row.get(f"valid_{key}", math.nan) for key in ("positives", "negatives")}
    if few and math.isfinite(row["auc"] if "auc" in row else math.nan):
        return few
    if math.isfinite(fitted["positives"]) and min(fitted.values()) < min(row["positives"], row["negatives"]):
        return f"{too_few(fitted)} on validation"
    return too_few(row)


def _shown(run: Artefacts) -> list[str]:
    return [*(finding(f) for f in run.findings), "macro"]


def calibration(run: Artefacts, models: dict[str, str]) -> dict:
    """models: as in the tables -> its name on the page."""
    path = run.evaluate / "calibration.csv"
    table = csv(path, "evaluate", (*COUNTS, "trained_share", "true_share", *ERRORS))
    by = Rows(table, path, "evaluate", "model", "finding")
    rows, answers = [], []
    for name in _shown(run):
        for model, called in models.items():
            one = by[model, name]
            row = {"finding": named(one), "model": called} | {k: one[k] for k in ("n", "positives", "valid_positives")}
            row |= {k: one[k] for k in ("trained_share", "true_share")}
            for error in (f"{k}_{form}" for form in FORMS for k in ("ece", "brier")):
                row |= {error: part(one, error, why(one, one[error]))}
            rows.append(row)
            if name == "macro":
                answers.append({"name": called, "n": one["n"], "findings": one["findings"]}
                               | {form: row[f"ece_{form}"] for form in FORMS})  # fmt: skip
    columns = [
        Column("finding", "Finding"),
        Column("model", "model"),
        Column("positives", "positive", "count", "test images"),
        Column("n", "n", "count", "test images"),
        Column("valid_positives", "validation", "count", "positive"),
        Column("trained_share", "as trained", "share", "share of positives"),
        Column("true_share", "real training", "share", "share of positives"),
        *(Column(f"ece_{form}", name, "auc", "calibration error (ECE)") for form, name in FORMS.items()),
    ]
    brier = columns[:4] + [Column(f"brier_{form}", name, "auc", "Brier score") for form, name in FORMS.items()]
    notes = [
        "As trained: with generated images and the policy\u2019s uncertain labels counted in. Prior shift moves a "
        "probability from that share to the real training images\u2019. Calibrated: scaled on validation, then moved "
        "from validation\u2019s share to the same. No test label is used. An ECE is never negative, so that "
        "with few images it is above zero even for true probabilities.",
    ]
    path = run.evaluate / "reliability.csv"
    curves = csv(path, "evaluate", ("model", "finding", "form", "bin", "n", "predicted", "observed", "low", "high"))
    names = [f for f in _shown(run)[:-1] if (curves["finding"] == f).any()]
    drawn = figures.reliability(curves[curves["model"] == "final"], names, FORMS) if names else None
    picture = drawn and plot(
        drawn,
        "Reliability of the final classifier on the test images: share of positives against mean probability, in "
        f"bins of equal mass, {run.level} intervals over patients of the last form. On the diagonal 30 % is 30 in 100.",
        "Reliability diagram of the rare findings",
        min(100, 34 * len(names)),
    )
    return {
        "calibration_answers": answers,
        "reliability": picture,
        "reliability_figure": drawn,
        "brier": Table("brier", "Brier score on the test images, lower is better", brier, rows),
        "calibration": Table(
            "calibration", "Calibration error on the test images, lower is better", columns, rows, notes, ["macro"]
        ),
    }


def operating(run: Artefacts, models: dict[str, str]) -> dict:
    path = run.evaluate / "operating.csv"
    by = Rows(csv(path, "evaluate", (*COUNTS, "threshold", *RATES)), path, "evaluate", "model", "finding")
    rows, answers = [], []
    for name in _shown(run):
        for model, called in models.items():
            one = by[model, name]
            row = {"finding": named(one), "model": called} | {k: one[k] for k in ("n", "positives", "valid_positives")}
            row |= {rate: part(one, rate, why(one, one[rate])) for rate in ("sensitivity", "specificity")}
            rows.append(row | {"threshold": one["threshold"]})
            if name == "macro":
                answers.append(row | {"name": called, "findings": one["findings"]})
    columns = [
        Column("finding", "Finding"),
        Column("model", "model"),
        Column("valid_positives", "positive", "count", "validation"),
        Column("threshold", "threshold", "auc", "validation"),
        Column("positives", "positive", "count", "test images"),
        Column("n", "n", "count", "test images"),
        Column("sensitivity", "sensitivity", "share", f"test, {run.level} interval"),
        Column("specificity", "specificity", "share", f"test, {run.level} interval"),
    ]
    notes = [
        f"Each threshold is the highest that finds {run.sensitivity} of the validation positives. The intervals are "
        "over test patients; that the threshold itself rests on few validation positives is not in them."
    ]
    caption = f"Operating points set at {run.sensitivity} sensitivity on validation, on the test images"
    return {"operating_answers": answers, "operating": Table("operating", caption, columns, rows, notes)}
