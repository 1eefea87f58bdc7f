"""The GAN question on the page, on made-up trainings: its answers, its tables, its picture."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import write_table
from cxr.evaluation import classifiers, study
from cxr.report import page
from cxr.report.compose import tables as tables_of
from cxr.report.figures.doses import doses as draw_doses
from cxr.report.figures.forest import study as draw_controls
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
    controls = [arm for arm in signals if arm not in (study.BASELINE, study.GAN)]
    return dataclasses.replace(made[0], arms=controls, seeds=list(seeds), findings=RARE, evaluate=folder)


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    return judged(made, tmp_path_factory.mktemp("study"))


def answers(text: str) -> str:
    return text[text.index("Do generated X-rays help") : text.index("Do the classifiers read more")]


def test_an_answer_has_its_interval_and_names_what_it_is_about(bare, run):
    result = section(run)
    text = answers(Page(page.render(bare | {"study": result})).text)
    row = pd.read_csv(run.evaluate / "study_claims.csv").set_index("finding").loc["rare"]
    numbers = [page.number(row[key], "difference") for key in ("difference", "total_low", "total_high")]
    assert (
        f"Mean of 2 rare findings (the primary question): the GAN arm\u2019s test AUC less that of "
        f"{arms.ARMS[row['control']].title}, the hardest of 3 controls, is {numbers[0]} [{numbers[1]}, {numbers[2]}] "
        "(interval over patients and trainings). p "
    ) in text
    assert "Generated X-rays help: better than every control." in text and "3 trainings of each arm" in text
    assert [a["name"] for a in result["answers"]] == ["Mean of 2 rare findings", "Pneumonia", "Lung Lesion",
                                                     "Consolidation", "Mean of 13 findings"]  # fmt: skip
    assert "controls, is n/a \u2014 4 positives . It could not be tested. 4 positive of 160 test images" in text


def test_what_the_page_cannot_show_depends_on_what_was_trained(made, whole, bare, run):
    alone, arm = "That unlabelled images help the ADGM", "It trained no control arm"
    once, both = "This run trained the classifiers and the GANs", "This run trained the classifiers and the GANs and"
    text = Page(made[2]).text  # the ADGM without its control arms, one draw, no study
    assert alone in text and f"{both} the ADGMs once" in text and "No control arm was trained" in text
    text = Page(page.render(whole)).text  # with supervised, two draws
    assert alone not in text and f"{once} once, from one seed" in text and arm not in text
    three = bare | {"study": section(run), "final": bare["final"] | {"trainings": 3}}
    text = Page(page.render(three)).text  # a study of three seeds, no ADGM
    assert alone not in text and "This run trained" not in text and "These are of the first of 3 trainings" in text
    assert "No control arm was trained" not in text


def test_doses_are_drawn_in_their_order_from_the_same_steps_without_images(made, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "cxr.report.sections.study.draw_doses", lambda rows, label: drawn.append(rows) or draw_doses(rows, label)
    )
    signals = {"baseline": 0.6, "baseline_steps": 0.7, "gan_dose_100": 1.5, "gan_dose_25": 1.0, "oracle_dose_50": 1.8}
    run = judged(made, tmp_path, signals | {"oracle": 2.0, "gan": 1.4})
    result = section(run)
    [rows] = drawn
    assert rows["dose"].tolist() == ["0", "0.25", "1", "all", "0", "0.5", "all"]
    assert rows["kind"].tolist() == ["GAN"] * 4 + ["oracle"] * 3
    areas = pd.read_csv(tmp_path / "study.csv").set_index(["arm", "finding"])["auc"]
    order = ["baseline_steps", "gan_dose_25", "gan_dose_100", "gan", "baseline_steps", "oracle_dose_50", "oracle"]
    assert rows["auc"].tolist() == [areas[arm, "rare"] for arm in order]
    assert result["doses"] and result["arms"][0][0] == "baseline"


def test_without_a_dose_no_dose_is_drawn(bare, run):
    assert section(run)["doses"] is None and "added positives" not in page.render(bare | {"study": section(run)})


def test_every_arm_is_explained(bare, run):
    result = section(run)
    text = Page(page.render(bare | {"study": result})).text
    for name in SIGNALS:
        assert f" {arms.ARMS[name].title} : {arms.ARMS[name].description}" in text, name
    assert arms.ARMS["blurred"].description not in text


ROW = {"finding": "rare", "difference": 0.01, "low": -0.02, "high": 0.04, "total_low": -0.03, "total_high": 0.05}
ROW |= {"p_every": 0.4, "p_holm": np.nan, "detectable": 0.043, "seeds": 3, "positives": np.nan, "n": 160}
ROW |= {"findings": 2, "primary": True, "control": "oversampling", "controls": 4}
SECOND = {"finding": "Edema", "primary": False, "positives": 30}


@pytest.mark.parametrize(
    ("changed", "verdict", "sentence"),
    [
        ({}, "none", "It can miss large ones: with power 0.8 a single test against this control finds 0.043 or more."),
        ({"p_every": 0.03}, "none", "No gain over every control was shown."),  # one side of the level, .025
        ({"p_every": 0.02}, "gain", "Generated X-rays help: better than every control. 160 test images"),
        (SECOND | {"p_every": 0.02, "p_holm": 0.06}, "uncorrected", "No gain shown after the correction for several"),
        (SECOND | {"p_every": 0.002, "p_holm": 0.006}, "gain", "better than every control. 30 positive of 160 test"),
        ({"detectable": 2.3}, "none", "With power 0.8 this study could have found no difference at all"),
        ({"detectable": np.nan}, "none", "No gain over every control was shown. 160 test images"),
        ({"p_every": 0.01, "seeds": 2}, "gain", "Two trainings of each arm say little about further ones."),
        ({"p_every": 0.99, "total_high": -0.01}, "loss", "Generated X-rays do worse than this control. 160 test"),
        ({"seeds": 1, "p_every": np.nan}, "one training", "One training of each arm cannot say."),
        ({"difference": np.nan, "p_every": np.nan}, "untested", "It could not be tested."),
    ],
)
def test_what_an_answer_says(bare, changed, verdict, sentence):
    result = answer(ROW | changed, 0.05)
    assert result["verdict"] == verdict
    ends = ("low", "high") if changed.get("seeds") == 1 else ("total_low", "total_high")
    assert result["change"][1:3] == tuple((ROW | changed)[end] for end in ends)
    study_context = bare["study"] | {"answers": [result]}
    assert sentence in answers(Page(page.render(bare | {"study": study_context})).text)


def test_tables_have_evaluates_numbers(bare, run):
    result = section(run)
    named = {table.name: table for table in tables_of({"study": result})}
    assert set(named) == {"study", "study_baseline", "study_controls"}
    theirs = pd.read_csv(run.evaluate / "study_differences.csv")
    for chosen, name in (("control == 'baseline'", "study_baseline"), ("arm == 'gan'", "study_controls")):
        ours, source = named[name].frame(), theirs.query(chosen)
        assert len(ours) == len(source) == 3 * 5
        columns = {"difference": "difference", "difference_low": "low", "total_low": "total_low", "p_holm": "p_holm"}
        for column, key in columns.items():
            assert np.allclose(np.sort(ours[column]), np.sort(source[key]), equal_nan=True), column
    html = page.render(bare | {"study": result})
    assert all(f'id="table-{name}"' in html for name in named)


def test_one_training_of_each_gives_no_verdict(made, bare, tmp_path):
    result = section(judged(made, tmp_path, {"baseline": 0.6, "oversampling": 1.0, "gan": 2.0}, (0,)))
    text = Page(page.render(bare | {"study": result})).text
    assert "One training of each arm cannot say. Two trainings of the same table" in text
    assert " gain" not in answers(text)
    assert "so there is no test: nothing is known about further trainings." in text


def test_without_arms_the_page_names_the_preset_that_answers(made):
    text = Page(made[2]).text
    assert "it trained no control arm (oversampling, class weights, more steps). presets/study.yaml does" in text
    assert "the AUC changed by" in text  # the comparison of final stays
    assert not list((made[3] / "tables").glob("study*")) and not (made[3] / "figures/study.png").exists()


def test_an_arm_named_markup_is_text(made, bare, tmp_path, monkeypatch):
    run = judged(made, tmp_path, {"baseline": 0.6, "oversampling": 1.0, "gan": 2.0})
    for name in ("study", "study_differences", "study_claims"):
        path = tmp_path / f"{name}.csv"
        pd.read_csv(path).replace("oversampling", MARKUP).to_csv(path)
    run.arms[0] = MARKUP
    monkeypatch.setitem(arms.ARMS, MARKUP, dataclasses.replace(arms.ARMS["oversampling"], title=MARKUP))
    result = Page(page.render(bare | {"study": section(run)}))
    assert not {"script"} & set(result.tags) and all(v.startswith("data:image/") for v in result.loads)
    assert result.text.count("<script>alert(1)</script>") > 5


def test_absent_tables_and_rows_are_named_with_their_cure(made, tmp_path):
    run = judged(made, tmp_path, {"baseline": 0.6, "oversampling": 1.0, "gan": 2.0}, (0, 1))
    path = tmp_path / "study.csv"
    table = pd.read_csv(path)
    table[table["arm"] != "gan"].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"no row of \('gan', 'Pneumonia'\); `dvc repro -f evaluate`"):
        section(run)
    path.unlink()
    with pytest.raises(ValueError, match="study.csv: no such file; `dvc repro evaluate` makes it"):
        section(run)


def test_the_picture_has_a_panel_a_finding_and_a_thin_line_over_each_thick_one():
    rows = pd.DataFrame({"panel": ["A"] * 2 + ["B"] * 2, "control": ["baseline", "oversampling"] * 2})
    rows = rows.assign(difference=[-0.1, 0.2, np.nan, 0.1], low=[-0.2, 0.1, np.nan, 0.0])
    rows["high"] = rows["difference"] + 0.1
    rows = rows.assign(total_low=rows["low"] - 0.02, total_high=rows["high"] + 0.05)
    names = {"baseline": "baseline", "oversampling": "oversampling"}
    drawn = draw_controls(rows, names)
    first, second = drawn.axes[:2]
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("A", "B")
    thin, thick = (lines.get_segments()[0][:, 0].tolist() for lines in first.collections[-2:])
    assert thin == pytest.approx([0.08, 0.35]) and thick == pytest.approx([0.1, 0.3])
    assert [t.get_text() for t in second.texts] == ["n/a"]
    assert svg(drawn) == svg(draw_controls(rows, names))


@pytest.mark.parametrize(
    ("oracle", "sentence"),
    [
        (4.0, "There is room for a generator to help: this is at least twice the"),
        (1.0, "This study could not show that a generator helps: even real X-rays of new patients add less than"),
    ],
)
def test_the_oracle_says_whether_a_generator_could_help(made, bare, tmp_path, oracle, sentence):
    signals = {"baseline": 0.6, "oversampling": 1.0, "gan": 1.4, "oracle": oracle}
    result = section(judged(made, tmp_path, signals))
    assert sentence in answers(Page(page.render(bare | {"study": result})).text)
    assert result["headroom"]["control"] == arms.ARMS["oversampling"].title and "oracle" not in result["controls"]
    table = pd.read_csv(tmp_path / "study_differences.csv").query("finding == 'rare'").set_index(["arm", "control"])
    closed = table.loc[("gan", "oversampling"), "difference"] / table.loc[("oracle", "oversampling"), "difference"]
    assert result["headroom"]["closed"] == (pytest.approx(closed) if oracle > 1 else None)


def test_without_an_oracle_there_is_no_word_of_it(run):
    assert section(run)["headroom"] is None
