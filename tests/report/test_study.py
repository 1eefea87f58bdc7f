"""The GAN question on the page, on made-up trainings: its answers, its tables, its picture."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import write_table
from cxr.evaluation import classifiers, study
from cxr.report import page
from cxr.report.compose import tables as tables_of
from cxr.report.figures.forest import study as draw_arms
from cxr.report.figures.style import svg
from cxr.report.sections.study import answer
from cxr.report.sections.study import study as section
from cxr.synthesis import arms
from tests.evaluation.test_study import training
from tests.report.fabricated import MARKUP, Page

SIGNALS = {"baseline": 0.6, "oversampling": 1.0, "gan": 2.2, "gan_untrained": 1.0}
RARE = ["pneumonia", "lung_lesion", "consolidation"]


def judged(made, folder, signals=SIGNALS, seeds=(0, 1, 2)):
    """The fabricated run with a study, whose tables are written into `folder`."""
    order = list(arms.ARMS)
    trainings = {(arm, s): training(10 * order.index(arm) + s, v) for arm, v in signals.items() for s in seeds}
    names = ["Pneumonia", "Lung Lesion", "Consolidation"]
    for name, table in study.judge_study(trainings, names, classifiers.Settings(replicates=60)).items():
        write_table(folder / f"{name}.csv", table)
    return dataclasses.replace(made[0], arms=list(signals), seeds=list(seeds), findings=RARE, evaluate=folder)


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    return judged(made, tmp_path_factory.mktemp("study"))


def answers(text: str) -> str:
    return text[text.index("Do generated X-rays help") : text.index("Do the classifiers read more")]


def test_an_answer_has_its_interval_and_names_what_it_is_about(bare, run):
    result = section(run)
    text = answers(Page(page.render(bare | {"study": result})).text)
    row = pd.read_csv(run.evaluate / "study_differences.csv")
    row = row.query("arm == 'gan' and reference == 'best control' and finding == 'rare'").iloc[0]
    numbers = [page.number(row[key], "difference") for key in ("difference", "total_low", "total_high")]
    assert (
        f"Mean of 2 rare findings: the GAN arm changed the test AUC by {numbers[0]} [{numbers[1]}, {numbers[2]}] "
        "(interval over patients and classifier trainings), compared with the best control (oversampling). p "
    ) in text
    assert "The test found a gain of this one GAN." in text and "3 trainings of each arm" in text
    assert [a["name"] for a in result["answers"]] == ["Mean of 2 rare findings", "Pneumonia", "Lung Lesion",
                                                     "Consolidation"]  # fmt: skip
    assert "Consolidation: the GAN arm changed the test AUC by n/a \u2014 4 positives , compared" in text
    assert "It could not be tested. 4 positive of 160 test images" in text


def test_what_the_page_cannot_show_depends_on_what_was_trained(made, whole, bare, run):
    alone = "That unlabelled images help the ADGM"
    once, gans = "Each model was trained once, from one seed", "Each GAN was trained once"
    text = Page(made[2]).text  # the ADGM without its control arms, one draw, no study
    assert alone in text and once in text and gans not in text and "No control arm was trained" in text
    text = Page(page.render(whole)).text  # with supervised, two draws
    assert alone not in text and "Outside the ADGM\u2019s label draws, each model" in text and gans not in text
    text = Page(page.render(bare | {"study": section(run)})).text  # a study of three seeds, no ADGM
    assert alone not in text and "Outside the study of control arms, each model" in text and gans in text
    assert "not another GAN" in text and "No control arm was trained" not in text


def test_every_arm_is_explained(bare, run):
    result = section(run)
    text = Page(page.render(bare | {"study": result})).text
    for name in SIGNALS:
        assert f" {arms.ARMS[name].title} : {arms.ARMS[name].description}" in text, name
    assert arms.ARMS["blurred"].description not in text


ROW = {"finding": "rare", "difference": 0.01, "low": -0.02, "high": 0.04, "total_low": -0.03, "total_high": 0.05}
ROW |= {"p": 0.4, "p_holm": 1.0, "detectable": 0.043, "seeds": 3, "positives": np.nan, "n": 160, "findings": 2}


@pytest.mark.parametrize(
    ("changed", "verdict", "sentence"),
    [
        (
            {},
            "none",
            "It can miss large ones: with power 0.8 a single test, before the correction, finds 0.043 or more.",
        ),
        ({"p": 0.03}, "uncorrected", "no difference after the correction for all arms. It can miss large ones"),
        ({"p": 0.001, "p_holm": 0.008}, "gain", "The test found a gain of this one GAN. 160 test images"),
        ({"detectable": 2.3}, "none", "With power 0.8 this study could have found no difference at all"),
        ({"detectable": np.nan}, "none", "The test found no difference. 160 test images"),
        ({"p": 0.001, "p_holm": 0.008, "seeds": 2}, "gain", "Two trainings of each arm say little about further ones."),
        ({"difference": -0.1, "p": 0.001, "p_holm": 0.008}, "loss", "The test found a loss of this one GAN."),
        ({"seeds": 1, "p": np.nan, "p_holm": np.nan}, "one training", "One training of each arm cannot say."),
        ({"difference": np.nan, "p": np.nan, "p_holm": np.nan}, "untested", "It could not be tested."),
    ],
)
def test_what_an_answer_says(bare, changed, verdict, sentence):
    result = answer(ROW | changed, 0.05)
    assert result["verdict"] == verdict
    ends = ("low", "high") if changed.get("seeds") == 1 else ("total_low", "total_high")
    assert result["change"][1:3] == tuple(ROW[end] for end in ends)
    study_context = bare["study"] | {"answers": [result], "control": "oversampling"}
    assert sentence in answers(Page(page.render(bare | {"study": study_context})).text)


def test_tables_have_evaluates_numbers(bare, run):
    result = section(run)
    named = {table.name: table for table in tables_of({"study": result})}
    assert set(named) == {"study", "study_baseline", "study_control"}
    theirs = pd.read_csv(run.evaluate / "study_differences.csv")
    for reference, name in (("baseline", "study_baseline"), ("best control", "study_control")):
        ours, source = named[name].frame(), theirs[theirs["reference"] == reference]
        assert len(ours) == len(source) == 3 * 5
        columns = {"difference": "difference", "difference_low": "low", "total_low": "total_low", "p_holm": "p_holm"}
        for column, key in columns.items():
            assert np.allclose(np.sort(ours[column]), np.sort(source[key]), equal_nan=True), column
    html = page.render(bare | {"study": result})
    assert all(f'id="table-{name}"' in html for name in named)


def test_one_training_of_each_gives_no_verdict(made, bare, tmp_path):
    result = section(judged(made, tmp_path, {"baseline": 0.6, "gan": 2.0}, (0,)))
    text = Page(page.render(bare | {"study": result})).text
    assert "One training of each arm cannot say. Two trainings of the same table" in text
    assert " gain" not in answers(text)
    assert "so there is no test: nothing is known about further trainings." in text


def test_without_arms_the_page_names_the_preset_that_answers(made):
    text = Page(made[2]).text
    assert "presets/study.yaml answers the question with control arms" in text
    assert "the AUC changed by" in text  # the comparison of final stays
    assert not list((made[3] / "tables").glob("study*")) and not (made[3] / "figures/study.png").exists()


def test_an_arm_named_markup_is_text(made, bare, tmp_path):
    run = judged(made, tmp_path, {"baseline": 0.6, "gan": 2.0})
    for name in ("study", "study_differences"):
        path = tmp_path / f"{name}.csv"
        pd.read_csv(path).replace("baseline", MARKUP).replace({"reference": {MARKUP: "baseline"}}).to_csv(path)
    run.arms[0] = MARKUP
    result = Page(page.render(bare | {"study": section(run)}))
    assert not {"script"} & set(result.tags) and all(v.startswith("data:image/") for v in result.loads)
    assert result.text.count("<script>alert(1)</script>") > 5


def test_absent_tables_and_rows_are_named_with_their_cure(made, tmp_path):
    run = judged(made, tmp_path, {"baseline": 0.6, "gan": 2.0}, (0, 1))
    path = tmp_path / "study.csv"
    table = pd.read_csv(path)
    table[table["arm"] != "gan"].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"no row of \('gan', 'Pneumonia'\); `dvc repro -f evaluate`"):
        section(run)
    path.unlink()
    with pytest.raises(ValueError, match="study.csv: no such file; `dvc repro evaluate` makes it"):
        section(run)


def test_the_picture_has_a_panel_a_finding_and_a_thin_line_over_each_thick_one():
    rows = pd.DataFrame({"panel": ["A"] * 3 + ["B"] * 3, "arm": ["baseline", "oversampling", "gan"] * 2})
    rows = rows.assign(difference=[-0.1, 0, 0.2, np.nan, 0, 0.1], low=[-0.2, np.nan, 0.1, np.nan, np.nan, 0.0])
    rows["high"] = rows["difference"] + 0.1
    rows = rows.assign(total_low=rows["low"] - 0.02, total_high=rows["high"] + 0.05)
    names = {"baseline": "baseline", "oversampling": "oversampling", "gan": "GAN"}
    drawn = draw_arms(rows, names, "oversampling")
    first, second = drawn.axes[:2]
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("A", "B")
    thin, thick = (lines.get_segments()[0][:, 0].tolist() for lines in first.collections[-2:])  # the GAN's
    assert thin == pytest.approx([0.08, 0.35]) and thick == pytest.approx([0.1, 0.3])
    assert [t.get_text() for t in second.texts] == ["n/a"]
    dotted = [line.get_xdata()[0] for line in first.lines if line.get_linestyle() == ":"]
    assert dotted == [-0.1] and svg(drawn) == svg(draw_arms(rows, names, "oversampling"))
