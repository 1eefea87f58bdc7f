"""The ADGM on the page: the metadata baseline in its table, its answers, what it does not claim."""

import dataclasses

import pandas as pd
import pytest

from cxr.adgm.variants import Run
from cxr.evaluation.names import MAJORITY, SCORES
from cxr.report import page
from cxr.report.inputs import Rows
from cxr.report.sections.adgm import _answer
from cxr.report.sections.adgm_tables import NAMES, compared, efficiency
from cxr.report.sections.common import Verdict
from tests.report.fabricated import Page

pytestmark = pytest.mark.usefixtures("undrawn")

NAN = float("nan")


def test_the_table_starts_with_the_metadata_baseline(made):
    ours = pd.read_csv(made[3] / "tables/adgm.csv")
    theirs = pd.read_csv(made[3] / "evaluate/adgm_floor.csv").query("labels.isna() and view == 'all'")
    assert (ours["task"][0], ours["variant"][0]) == ("2 classes", "metadata baseline")
    assert ours["macro_auc"][0] == pytest.approx(theirs.query("classes == 2")["auc"].item())


def test_labels_that_the_labelled_alone_need_are_a_sentence(made, whole, tmp_path):
    rows = [
        {"variant": "corrected", "control": "supervised", "classes": 2, "labels": 25, "draws": 5, "fewest": 25,
         "most": 250, "equal": equal, "low": low, "high": high}
        for equal, low, high in [(61.4, 25.0, NAN), (NAN, 180.0, NAN)]
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "adgm_efficiency.csv", index=False)
    shown = efficiency(dataclasses.replace(made[0], evaluate=tmp_path))
    text = Page(page.render(whole | {"adgm": whole["adgm"] | {"efficiency": shown}})).text
    assert (
        "ADGM with 25 labels, 2 classes: labelled images alone needs 61 [25 or fewer, more than 250]." in text
        and "needs more than 250 [180, more than 250]." in text
    )
    assert (
        "needs to reach the ADGM\u2019s AUC"
        not in Page(page.render(whole | {"adgm": whole["adgm"] | {"efficiency": []}})).text
    )


def test_every_leading_variant_is_compared_with_every_control():
    pairs = [("corrected", "supervised"), ("features", "supervised"), ("features", "probe"), ("corrected", "features"),
             ("supervised", MAJORITY), ("corrected", MAJORITY)]  # fmt: skip
    numbers = dict.fromkeys(("difference", "low", "high", "total_low", "total_high", "sd", "p", "detectable"), 0.1)
    rows = [
        {"variant": v, "control": c, "classes": 2, "labels": 25, "score": s, "draws": 2, **numbers}
        for v, c in pairs
        for s in SCORES
    ]
    compare = Rows(pd.DataFrame(rows), "x", "evaluate", "variant", "control", "classes", "labels", "score")
    table = compared(compare, ["corrected", "supervised", "features", "probe"])
    assert [(row["variant"], row["control"]) for row in table.rows] == [
        (NAMES[v], NAMES[c]) for v, c in pairs if c != MAJORITY
    ]  # fmt: skip


def answers(whole, **changed) -> str:
    section = whole["adgm"] | {name: [whole["adgm"][name][0] | values] for name, values in changed.items()}
    text = Page(page.render(whole | {"adgm": section})).text
    return text[text.index("Does the unlabelled data help") : text.index("1 The data Who")]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"verdict": "gain", "draws": 3}, "The interval shows a gain."),
        ({"verdict": "loss", "draws": 2}, "The interval shows a loss. Two label draws say little about further ones."),
        ({"verdict": "none", "draws": 3}, "no difference; at this sample size it can hide large ones."),
        ({"verdict": "one training", "draws": 1}, "One label draw cannot say."),
        ({"shared": False}, "The two also differ in class shares and in the average of the weights."),
    ],
)
def test_whether_unlabelled_data_helps(whole, changed, sentence):
    assert sentence in answers(whole, help=changed)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"verdict": "gain", "exact": False, "p": 0.01}, ", p 0.010: better than that ."),
        ({"verdict": "loss", "exact": True, "p": 0.0004}, ", exact McNemar p <0.001: worse than that ."),
        ({"verdict": "none", "exact": True, "p": 0.17}, ", exact McNemar p 0.170: the test found no difference from"),
        ({"verdict": "untested", "p": NAN}, ": it could not be tested ."),
    ],
)
def test_beside_the_commonest_class(whole, changed, sentence):
    text = answers(whole, answers=changed)
    assert sentence in text and "Balanced accuracy" in text and "(by chance 50.0 %)" in text


def test_the_verdict_needs_the_paired_interval_and_the_exact_test(made):
    """An accuracy whose own interval lies above the commonest class's share is no gain when the paired one holds 0."""
    run, one = made[0], Run("corrected", 2, 50, 0)
    scores = {f"{s}{end}": 0.744 for s in SCORES for end in ("", "_low", "_high")}
    arms = {one[:3]: scores | {"accuracy_low": 0.692, "accuracy_high": 0.796}}

    def verdict(low, high, p, draws=1, total=(NAN, NAN)):
        last = {"n": 250, "majority_share": 0.688, "mcnemar_p": p if draws == 1 else NAN}
        over = {"difference": 0.056, "low": low, "high": high, "draws": draws, "p": p if draws > 1 else NAN}
        over |= dict(zip(("total_low", "total_high"), total, strict=True))
        return _answer(run, arms, {(*one, "last"): last}, {("corrected", MAJORITY, 2, 50, "accuracy"): over}, one)

    assert verdict(-0.017, 0.129, 0.17)["verdict"] == Verdict.NONE
    assert verdict(0.002, 0.110, 0.06)["verdict"] == Verdict.NONE  # the interval alone does not do
    assert verdict(0.02, 0.129, 0.004)["verdict"] == Verdict.GAIN
    assert verdict(-0.129, -0.02, 0.004)["verdict"] == Verdict.LOSS
    assert verdict(-0.129, -0.02, 0.04)["verdict"] == Verdict.UNSURE  # another machine may not find it
    several = verdict(0.02, 0.129, 0.2, 3, (-0.01, 0.14))
    assert several["verdict"] == Verdict.NONE and several["over"][1:3] == (-0.01, 0.14) and not several["exact"]


def test_without_a_supervised_arm_the_question_is_open(made):
    text = Page(made[2]).text
    assert "This run cannot say: it trained no supervised classifier to compare with" in text
    assert "It has no test set: the validation images also guided the choice of settings." in text
