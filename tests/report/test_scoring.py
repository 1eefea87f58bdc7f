"""The same predictions scored in other ways, as the page shows them; radiologists where there are some."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import FINDINGS
from cxr.evaluation.names import FIVE
from cxr.report import page
from cxr.report.figures.benefit import curves
from cxr.report.figures.classifiers import roc
from cxr.report.sections.scoring import scoring
from tests.report.fabricated import Page

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def evaluated(made):
    names = ("per_study", "uncertain", "precision", "benefit")
    return {name: pd.read_csv(made[0].evaluate / f"{name}.csv") for name in names}


def row(table, **where):
    for key, value in where.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_the_page_shows_evaluates_numbers(made, whole, evaluated):
    part = whole["scoring"]
    edema = next(r for r in part["per_study"].rows if r["finding"] == "Edema")
    assert edema["final"].value == row(evaluated["per_study"], unit="study", model="final", finding="Edema")["auc"]
    assert edema["by_image"].value == row(evaluated["per_study"], unit="image", model="final", finding="Edema")["auc"]
    assert (
        edema["floor"].value
        == row(evaluated["per_study"], unit="study", model="floor_u_zeroes", finding="Edema")["auc"]
    )
    five = part["per_study"].rows[-1]
    assert five["finding"] == "Mean of the competition\u2019s 5" and len(part["per_study"].rows) == 16
    uncertain = next(r for r in part["uncertain"].rows if r["finding"] == "Edema")
    for rule in ("left_out", "zero", "one"):
        assert uncertain[rule].value == row(evaluated["uncertain"], model="final", rule=rule, finding="Edema")["auc"]
    precise = next(r for r in part["precision"].rows if r["finding"] == "Edema")
    expected = row(evaluated["precision"], model="final", finding="Edema")
    assert (precise["ap_final"].value, precise["prevalence"]) == (expected["ap"], expected["prevalence"])
    call = next(r for r in part["predictive"].rows if r["finding"] == "Edema")
    assert (call["called"], call["ppv"].value) == (expected["called"], expected["ppv"])
    benefit = part["benefit"].rows  # lung lesion has too few positives on validation
    assert {r["finding"] for r in benefit} == {"Pneumonia", "Consolidation"} and part["without"] == ["Lung Lesion"]
    assert len(benefit) == 2 * len(part["thresholds"])
    expected = row(evaluated["benefit"], model="final", finding="Pneumonia", threshold=0.1)
    assert benefit[1]["over_all"].value == expected["over_all"]


def test_a_mean_over_fewer_of_the_five_says_so(made, tmp_path):
    shutil.copytree(made[0].evaluate, tmp_path / "evaluate")
    table = pd.read_csv(tmp_path / "evaluate/per_study.csv")
    table.loc[table["finding"] == "five", "findings"] = 3
    table.to_csv(tmp_path / "evaluate/per_study.csv", index=False)
    part = scoring(dataclasses.replace(made[0], evaluate=tmp_path / "evaluate"))
    assert part["per_study"].rows[-1]["finding"] == "Mean of 3 of the competition\u2019s 5"


def with_readers(made, tmp_path):
    shutil.copytree(made[0].evaluate, tmp_path / "evaluate")
    rows = []
    for model in ("u_zeroes", "final"):
        for finding in ("Edema", "Pneumonia"):
            for reader, at in (("bc4", 0.7), ("bc6", 0.8)):
                one = {
                    "model": model,
                    "reader": reader,
                    "finding": finding,
                    "n": 200,
                    "positives": 40,
                    "negatives": 160,
                }
                one |= {"patients": 150, "sensitivity": at, "specificity": 0.9, "at": 0.75, "difference": 0.75 - at}
                one |= {f"{k}_{end}": one[k] + d for k in ("sensitivity", "specificity", "at", "difference")
                        for end, d in (("low", -0.05), ("high", 0.05))}  # fmt: skip
                rows.append(one)
    pd.DataFrame(rows).to_csv(tmp_path / "evaluate/readers.csv", index=False)
    return dataclasses.replace(made[0], evaluate=tmp_path / "evaluate")


def test_radiologists_are_shown_where_there_are_some_and_nothing_where_there_are_none(made, whole, tmp_path):
    assert whole["scoring"]["readers"] is None and whole["scoring"]["readers_others"] is None
    assert (
        "radiologist"
        not in Page(made[2]).text.partition("Other ways to score Every")[2].partition("Other hospitals")[0]
    )
    part = scoring(with_readers(made, tmp_path))
    assert [(r["finding"], r["reader"]) for r in part["readers"].rows] == [
        ("Edema", "bc4"), ("Edema", "bc6"),
    ]  # fmt: skip
    assert [(r["finding"], r["reader"]) for r in part["readers_others"].rows] == [
        ("Pneumonia", "bc4"),
        ("Pneumonia", "bc6"),
    ]
    text = Page(page.render(whole | {"scoring": part})).text
    assert "Beside radiologists" in text and "Diamonds: 2 radiologists" in text
    drawn = part["roc"].figure.axes
    edema = next(ax for ax in drawn if ax.get_title(loc="left") == "Edema")
    points = next(line for line in edema.lines if line.get_marker() == "D")
    assert np.allclose(points.get_xdata(), 0.1) and sorted(points.get_ydata()) == [0.7, 0.8]
    assert not any(line.get_marker() == "D" for ax in drawn if ax is not edema for line in ax.lines)


def test_a_run_without_rare_findings_has_no_decision_curve(bare):
    part = bare["scoring"]
    assert part["curves"] is None and list(part["benefit"].frame()) == ["finding", "threshold", "n"]
    assert "No rare finding has calibrated probabilities" in page.render(bare)


def test_decision_curves_hold_what_was_given():
    rows = []
    for k, model in enumerate(("a", "final")):
        for t in (0.05, 0.1, 0.2, 0.4):  # at 0.4 neither is of use: the axis ends before
            value = 0.1 - 0.3 * t + 0.01 * k
            one = {"model": model, "finding": "Edema", "threshold": t, "benefit": value, "everyone": 0.2 - t}
            rows.append(one | {"benefit_low": value - 0.02, "benefit_high": value + 0.02, "positives": 20, "n": 100})
    (axes,) = curves(pd.DataFrame(rows), ["Edema"], {"a": "baseline", "final": "final"}).axes
    lines = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 3 and lines[1] == pytest.approx([0.095, 0.08, 0.05])
    assert lines[2] == pytest.approx([0.15, 0.1, 0])


def test_a_roc_without_points_has_no_radiologist():
    curve = pd.DataFrame({"model": "m", "finding": "Edema", "fpr": [0.0, 1], "tpr": [0.0, 1]})
    area = pd.DataFrame({"model": ["m"], "finding": ["Edema"], "n": [9], "positives": [3], "auc": [0.5]})
    for points in (None, pd.DataFrame(columns=["finding", "fpr", "tpr"])):
        (axes,) = roc(curve, area, ["Edema"], {"m": "model"}, points).axes
        assert not any(line.get_marker() == "D" for line in axes.lines)


def test_the_five_are_findings():
    assert set(FIVE) < set(FINDINGS) and len(FIVE) == 5
