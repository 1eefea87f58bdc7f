"""The report's section on the GAN question, on made-up trainings: its words, its tables, its picture."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import write_table
from cxr.evaluation import classifiers, study
from cxr.report import figures, page
from cxr.report.compose import gather
from cxr.report.compose import tables as tables_of
from cxr.report.sections.study import answer
from cxr.report.sections.study import study as section
from cxr.synthesis import arms
from tests.evaluation.test_study import training
from tests.report.test_report import MARKUP, Page, made  # noqa: F401  (made is a fixture)

SIGNALS = {"baseline": 0.6, "oversampling": 1.0, "gan": 2.2, "gan_untrained": 1.0}
RARE = ["pneumonia", "lung_lesion", "consolidation"]


def judged(folder, signals=SIGNALS, seeds=(0, 1, 2)):
    """The study's tables in a folder, and what the section reads of a run."""
    order = list(arms.ARMS)
    trainings = {(arm, s): training(10 * order.index(arm) + s, v) for arm, v in signals.items() for s in seeds}
    names = ["Pneumonia", "Lung Lesion", "Consolidation"]
    for name, table in study.judge_study(trainings, names, classifiers.Settings(replicates=60)).items():
        write_table(folder / f"{name}.csv", table)
    lists = {"arms": list(signals), "seeds": list(seeds), "findings": RARE}
    return SimpleNamespace(**lists, evaluate=folder, level="95 %", alpha=0.05, power=0.8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return judged(tmp_path_factory.mktemp("study"))


def shown(made, found):  # noqa: F811
    context = gather(dataclasses.replace(made[0], findings=[], classes=[], labels=[])) | {"study": found}
    return page.render(context | {"tables": "tables"})


def test_a_gain_is_said_in_one_sentence_with_its_interval_and_stands_on_top(made, run):  # noqa: F811
    found = section(run)
    text = Page(shown(made, found)).text
    row = pd.read_csv(run.evaluate / "study_differences.csv")
    row = row.query("arm == 'gan' and reference == 'best control' and finding == 'rare'").iloc[0]
    numbers = [page.number(row[key], "difference") for key in ("difference", "total_low", "total_high")]
    sentence = (
        "Mean of 2 rare findings: against the best control, oversampling, the GAN changed the test AUC by "
        f"{numbers[0]} [{numbers[1]}, {numbers[2]}] (interval over patients and trainings), p "
    )
    assert text.count(sentence) == 2  # among the answers and as the section's first sentence
    assert "after Holm's correction: a gain" in text and "3 trainings of each arm" in text
    assert [a["name"] for a in found["answers"]] == ["Mean of 2 rare findings", "Pneumonia", "Lung Lesion",
                                                     "Consolidation"]  # fmt: skip
    assert "Consolidation: against the best control, oversampling, the GAN changed the test AUC by n/a" in text
    assert "n/a \u2014 4 positives : could not be tested 4 positive of 160" in text
    assert "No control arm was run" not in text and "outside the study of control arms" in text


def test_what_the_page_cannot_conclude_follows_what_was_run(made, run):  # noqa: F811
    alone = "That unlabelled images help the ADGM"
    once, gans = "each model was trained once, from one seed", "each GAN was trained once"
    text = Page(made[2]).text  # the ADGM without its control arms, one draw, no study
    assert alone in text and once in text and gans not in text
    context = gather(made[0])  # with supervised, two draws
    text = Page(page.render(context | {"tables": "tables"})).text
    assert alone not in text and "outside the ADGM's label draws was trained once" in text and gans not in text
    text = Page(shown(made, section(run))).text  # a study of three seeds, no ADGM
    assert alone not in text and "outside the study of control arms was trained once" in text and gans in text


def test_every_arm_is_explained(made, run):  # noqa: F811
    text = Page(shown(made, section(run))).text
    for arm in SIGNALS:
        assert f"{arms.ARMS[arm].title} : {arms.ARMS[arm].description}" in text, arm
    assert arms.ARMS["blurred"].description not in text


ROW = {"finding": "rare", "difference": 0.01, "low": -0.02, "high": 0.04, "total_low": -0.03, "total_high": 0.05}
ROW |= {"p": 0.4, "p_holm": 1.0, "detectable": 0.043, "seeds": 3, "positives": np.nan, "n": 160, "findings": 2}


@pytest.mark.parametrize(
    ("changed", "said", "why"),
    [
        ({}, "no difference shown", "with power 0.8, in a single test before the correction, is 0.043"),
        ({"p": 0.03}, "no difference shown after the correction for all arms", "before the correction, is 0.043"),
        ({"p": 0.001, "p_holm": 0.008}, "a gain", ""),
        ({"detectable": 2.3}, "no difference shown", "could have shown no difference whatever with power 0.8"),
        ({"p": 0.001, "p_holm": 0.008, "seeds": 2}, "a gain", "two trainings of each tell little of others"),
        ({"difference": -0.1, "p": 0.001, "p_holm": 0.008}, "a loss", ""),
        ({"seeds": 1, "p": np.nan, "p_holm": np.nan}, "not to be told", "two trainings of the same table, from two"),
        ({"difference": np.nan, "p": np.nan, "p_holm": np.nan}, "could not be tested", ""),
    ],
)
def test_what_an_answer_says(changed, said, why):
    found = answer(ROW | changed, 0.8, 0.05)
    assert found["said"].startswith(said) and why in found["why"] and bool(why) == bool(found["why"])
    ends = ("low", "high") if changed.get("seeds") == 1 else ("total_low", "total_high")
    assert found["change"][1:3] == tuple(ROW[end] for end in ends)


def test_tables_are_what_evaluate_found(made, run):  # noqa: F811
    found = section(run)
    named = {table.name: table for table in tables_of({"study": found})}
    assert set(named) == {"study", "study_baseline", "study_control"}
    theirs = pd.read_csv(run.evaluate / "study_differences.csv")
    for reference, name in (("baseline", "study_baseline"), ("best control", "study_control")):
        ours, source = named[name].frame(), theirs[theirs["reference"] == reference]
        assert len(ours) == len(source) == 3 * 5
        for column, of in (("difference", "difference"), ("difference_low", "low"), ("p_holm", "p_holm")):
            assert np.allclose(np.sort(ours[column]), np.sort(source[of]), equal_nan=True), column
    html = shown(made, found)
    assert all(f'id="table-{name}"' in html for name in named)


def test_one_training_of_each_is_said_to_tell_nothing(made, tmp_path):  # noqa: F811
    found = section(judged(tmp_path, {"baseline": 0.6, "gan": 2.0}, (0,)))
    text = Page(shown(made, found)).text
    assert "not to be told from one training of each : two trainings of the same table" in text and "a gain" not in text
    assert "One training of each arm: nothing can be said of other trainings, so there is no test." in text


def test_without_arms_the_page_says_what_would_answer(made):  # noqa: F811
    text = Page(made[2]).text
    assert "presets/study.yaml answers the question with control arms" in text
    assert "AUC changed by" in text and "between one training of each" in text  # the comparison of final stays
    assert not list((made[3] / "tables").glob("study*")) and not (made[3] / "figures/study.png").exists()


def test_an_arm_named_markup_is_text(made, tmp_path):  # noqa: F811
    run = judged(tmp_path, {"baseline": 0.6, "gan": 2.0})
    for name in ("study", "study_differences"):
        path = tmp_path / f"{name}.csv"
        pd.read_csv(path).replace("baseline", MARKUP).replace({"reference": {MARKUP: "baseline"}}).to_csv(path)
    run.arms = [MARKUP, "gan"]
    found = Page(shown(made, section(run)))
    assert not {"script"} & set(found.tags) and all(v.startswith("data:image/") for v in found.loads)
    assert found.text.count("<script>alert(1)</script>") > 5


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("study", None, "study.csv: no such file; `dvc repro evaluate` makes it"),
        ("study", lambda t: t[t["arm"] != "gan"], r"no row of \('gan', 'Pneumonia'\); `dvc repro -f evaluate`"),
        ("study_differences", lambda t: t.assign(p_holm=1.2), "p_holm is 1.2; `dvc repro -f evaluate`"),
        ("study_differences", lambda t: t[t["finding"] != "rare"], "no row of .*'rare'.; `dvc repro -f evaluate`"),
    ],
)
def test_tables_edited_by_hand_are_one_line(tmp_path, file, change, message):
    run = judged(tmp_path, {"baseline": 0.6, "gan": 2.0}, (0, 1))
    path = tmp_path / f"{file}.csv"
    table = pd.read_csv(path)
    path.unlink()
    if change:
        change(table).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        section(run)


def test_the_picture_has_a_panel_a_finding_and_a_thin_line_over_each_thick_one():
    rows = pd.DataFrame({"panel": ["A"] * 3 + ["B"] * 3, "arm": ["baseline", "oversampling", "gan"] * 2})
    rows = rows.assign(difference=[-0.1, 0, 0.2, np.nan, 0, 0.1], low=[-0.2, np.nan, 0.1, np.nan, np.nan, 0.0])
    rows["high"] = rows["difference"] + 0.1
    rows = rows.assign(total_low=rows["low"] - 0.02, total_high=rows["high"] + 0.05)
    arms = {"baseline": "baseline", "oversampling": "oversampling", "gan": "GAN"}
    drawn = figures.study(rows, arms, "oversampling")
    first, second = drawn.axes[:2]
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("A", "B")
    thin, thick = (lines.get_segments()[0][:, 0].tolist() for lines in first.collections[-2:])  # the GAN's
    assert thin == pytest.approx([0.08, 0.35]) and thick == pytest.approx([0.1, 0.3])
    assert [t.get_text() for t in second.texts] == ["n/a"]
    dotted = [line.get_xdata()[0] for line in first.lines if line.get_linestyle() == ":"]
    assert dotted == [-0.1] and figures.svg(drawn) == figures.svg(figures.study(rows, arms, "oversampling"))
