"""The baseline and the final classifier on the page, the label question, the groups."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import FINDINGS
from cxr.report import page
from cxr.report.sections import classifiers
from cxr.report.sections.labels import labels
from tests.report.fabricated import Page

pytestmark = pytest.mark.usefixtures("undrawn")


def test_table3_has_evaluates_numbers(made):
    ours = pd.read_csv(made[3] / "tables/table3.csv").set_index("finding")
    theirs = pd.read_csv(made[3] / "evaluate/compare.csv").set_index("finding")
    assert list(ours.index[:-1]) == list(FINDINGS)
    for column, source in (("difference", "difference"), ("difference_low", "low"), ("p", "p"), ("p_holm", "p_holm")):
        assert np.allclose(ours[column][:-1], theirs.loc[list(FINDINGS), source], equal_nan=True), column
    assert ours["paper_final"].dropna().to_dict() == {"Lung Lesion": 0.75, "Consolidation": 0.73, "Pneumonia": 0.79}
    assert "n/a \u2014 0 positives" in Page(made[2]).text  # the fracture that no test image has


def test_an_ensemble_stands_beside_its_members(made, whole, tmp_path):
    assert whole["final"]["ensembles"] == [] and "an ensemble, against its members" not in made[2]
    shutil.copytree(made[0].evaluate, tmp_path / "evaluate")
    numbers = {"trainings": 3, "members": 0.75, "auc": 0.7704, "difference": 0.0204, "low": 0.01, "high": 0.03}
    rows = [{"model": m, "finding": "macro", "detectable": 0.02, **numbers} for m in (made[0].final_policy, "final")]
    pd.DataFrame(rows).to_csv(tmp_path / "evaluate/ensemble.csv", index=False)
    run = dataclasses.replace(made[0], evaluate=tmp_path / "evaluate", seeds=[0, 1, 2])
    shown = classifiers._ensembles(run)
    text = Page(page.render(whole | {"final": whole["final"] | {"ensembles": shown, "trainings": 3}})).text
    assert "of all 3 trainings, an ensemble, against its members" in text
    assert "baseline 0.770 against 0.750, +0.020 [+0.010, +0.030] ; final 0.770 against 0.750" in text


def test_one_training_of_each_gives_no_verdict_and_no_p_among_the_answers(made):
    answers = made[2][made[2].index('id="answers"') : made[2].index('<h2 id="data"')]
    text = Page(answers).text
    row = pd.read_csv(made[3] / "evaluate/compare.csv").set_index("finding").loc["Pneumonia"]
    numbers = [page.number(row[key], "difference") for key in ("difference", "low", "high")]
    change = f"{numbers[0]} [{numbers[1]}, {numbers[2]}] . One training of each cannot say."
    assert f"Pneumonia: the AUC changed by {change}" in text
    assert "U-Ones instead of U-Zeroes changed the mean AUC" in text and "1 training of each policy" in text
    assert not {" gain", " loss", "Holm"} & {word for word in (" gain", " loss", "Holm") if word in text}


def test_no_generated_xray_of_a_finding_is_stated(whole):
    answers = [whole["final"]["answers"][0] | {"generated": 0}]
    text = Page(page.render(whole | {"final": whole["final"] | {"answers": answers}})).text
    assert text.count("No X-ray of this finding was generated.") == 1


def test_the_label_question_has_an_answer_and_tables(made):
    run, _, html, root = made
    pairs = pd.read_csv(run.evaluate / "policies.csv").query("finding == 'macro'").set_index("policy")
    change = page.cell(page.Estimate(*pairs.loc["u_ones", ["difference", "low", "high"]]), "difference")
    assert f"U-Ones instead of U-Zeroes changed the mean AUC by {change}" in html
    assert html.count("Does the policy for uncertain labels matter?") == 2
    table = pd.read_csv(root / "tables/policies.csv")
    assert table["policy"].tolist() == ["U-Zeroes", "U-Ones", "Best of each finding"]
    assert table["difference"].isna().tolist() == [True, False, False]
    choice = pd.read_csv(root / "tables/best_of.csv").set_index("finding")
    taken = pd.read_csv(run.evaluate / "best_of.csv").set_index("finding")
    assert choice.loc["Edema", "taken"] == {"u_zeroes": "U-Zeroes", "u_ones": "U-Ones"}[taken.loc["Edema", "policy"]]
    assert choice.loc["Fracture", "taken"] == "U-Zeroes, by default"  # without a positive
    auc = pd.read_csv(run.evaluate / "auc.csv").query("split == 'test' and model == 'best_of'").set_index("finding")
    assert choice.loc["Edema", "test"] == pytest.approx(auc.loc["Edema", "auc"])


def test_one_policy_asks_no_label_question(made, whole, tmp_path):
    run = dataclasses.replace(made[0], policies=["u_zeroes"], evaluate=tmp_path / "evaluate")
    shutil.copytree(made[0].evaluate, run.evaluate)
    for name in ("policies.csv", "best_of.csv"):
        (run.evaluate / name).unlink()
    assert labels(run) is None
    html = page.render(whole | {"labels": None})
    assert "Does the policy for uncertain labels matter?" not in html


def test_a_groups_calibration_gap_is_on_the_page(made):
    theirs = pd.read_csv(made[3] / "evaluate/subgroups.csv").query("model == 'final' and finding == 'macro'")
    gaps = theirs.query("attribute != 'all'")["offset_gap"]
    ours = pd.read_csv(made[3] / "tables/subgroups.csv")
    assert np.allclose(ours["offset_gap"][1:], gaps, equal_nan=True) and gaps.notna().sum() > 3
    assert page.number(gaps.iloc[0], "difference") in Page(made[2]).text


def test_the_metadata_baseline_is_named_in_every_case(whole):
    words = {
        "gain": "more than the metadata",
        "loss": "less than the metadata",
        "none": "the test found no difference; at this sample size it can miss large ones",
        "untested": "could not be tested",
    }
    for verdict, text in words.items():
        answers = [whole["reliability"]["metadata_answers"][0] | {"verdict": verdict}]
        section = whole["reliability"] | {"metadata_answers": answers}
        assert text in Page(page.render(whole | {"reliability": section})).text
