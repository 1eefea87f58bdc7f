"""The ADGM on the page: the metadata baseline in its table, its answers, what it does not claim."""

import pandas as pd
import pytest

from cxr.report import page
from tests.report.fabricated import Page


def test_the_table_starts_with_the_metadata_baseline(made):
    ours = pd.read_csv(made[3] / "tables/adgm.csv")
    theirs = pd.read_csv(made[3] / "evaluate/adgm_floor.csv").query("labels.isna() and view == 'all'")
    assert (ours["task"][0], ours["variant"][0]) == ("2 classes", "metadata baseline")
    assert ours["macro_auc"][0] == pytest.approx(theirs.query("classes == 2")["auc"].item())


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
    ("verdict", "sentence"), [("gain", "lies above that"), ("loss", "lies below that"), ("none", "contains that")]
)
def test_beside_the_commonest_class(whole, verdict, sentence):
    text = answers(whole, answers={"verdict": verdict})
    assert f"the interval {sentence} ." in text and "Such an interval is too favourable." in text


def test_without_a_supervised_arm_the_question_is_open(made):
    text = Page(made[2]).text
    assert "This run cannot say: it trained no supervised classifier to compare with" in text
    assert "It has no test set: the validation images also guided the choice of settings." in text
