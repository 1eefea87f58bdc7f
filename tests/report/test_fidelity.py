"""Generated X-rays on the page: measures, duplicates, which state of a generator was kept."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest

from cxr.core.files import write_json
from cxr.report import page
from cxr.report.sections.fidelity import fidelity
from cxr.report.sections.generators import gan, plan_of
from tests.report.fabricated import APART, Page

pytestmark = pytest.mark.usefixtures("undrawn")

TOLD = (
    "a classifier tells them from real X-rays : AUC 0.975 in pixels (p 0.005; between halves of the real patients "
    "0.500 [0.438, 0.562] ); AUC 0.812 in features (p 0.005; between halves of the real patients 0.500 [0.438, 0.562] )"
)


def test_generated_xrays_have_a_sentence_and_three_tables(made):
    text = Page(made[2]).text
    answer = text[text.index("Pneumonia: a classifier") :]
    assert answer.startswith(
        f"Pneumonia: {TOLD}. KID 0.25 [0.12, 0.38] , between real X-rays 0.00 [\u22120.06, 0.06] ; "
        "duplicates of training X-rays 2.5 %"
    )
    assert "80 generated; 80 real of 60 patients, for KID in halves of 40; 20 held out" in answer
    tested = pd.read_csv(made[3] / "tables/two_sample.csv")
    assert tested["auc"].to_list() == list(APART.values()) and set(tested["n"]) == {80}
    assert set(tested["floor_low"]) == {0.4375} and set(tested["held_out_auc"]) == {0.53125}
    quality = pd.read_csv(made[3] / "tables/fidelity.csv")
    assert len(quality) == 7 and set(quality["n"]) == {40} and set(quality["floor_high"]) == {0.0625}
    memory = pd.read_csv(made[3] / "tables/memorisation.csv")
    assert set(memory["space"]) == {"features", "pixels"} and set(memory["membership_low"]) == {0.41}


def test_the_test_stands_beside_the_pictures(made):
    page_of = made[2]
    sheet, strip = page_of.index('alt="Generated X-rays, Pneumonia"'), page_of.index("The same noise after epoch")
    assert f"Pneumonia, generated against real: {TOLD}." in Page(page_of[sheet:strip]).text


def test_no_measure_is_a_verdict(made):
    """Whatever FID, KID, precision and recall are, the page says the same of likeness."""
    text = Page(made[2]).text
    assert "Measures, not verdicts" in text and "look at the pictures , too" in text
    for claim in (
        "difference found",
        "found no difference . KID",
        "further from real X-rays than",
        "nearer to the real",
    ):
        assert claim not in text, claim
    assert "verdict" not in pd.read_csv(made[3] / "tables/fidelity.csv")


def changed(made, tmp_path, **values):
    """The fabricated run with one finding, whose fidelity.json has other values; and its file."""
    run = dataclasses.replace(made[0], findings=["pneumonia"], fidelity=tmp_path)
    shutil.copytree(made[0].fidelity / "pneumonia", tmp_path / "pneumonia")
    path = tmp_path / "pneumonia/fidelity.json"
    judged = json.loads(path.read_text()) | values
    write_json(path, judged)
    return run, path, judged


def test_features_that_know_their_training_xrays_say_little(made, whole, tmp_path):
    judged = json.loads((made[0].fidelity / "pneumonia/fidelity.json").read_text())
    judged["two_sample"]["spaces"]["features"]["held_out"] = {"auc": 0.75, "p": 0.005}
    run, _, _ = changed(made, tmp_path, two_sample=judged["two_sample"])
    text = Page(page.render(whole | {"fidelity": fidelity(run)})).text
    note = (
        ", but held-out real X-rays are told from training ones as well (AUC 0.750, p 0.005), so this space says little"
    )
    assert text.count(note) == 2 and Page(made[2]).text.count("so this space says little") == 0


def test_what_is_not_told_apart_is_a_weak_test_and_no_praise(made, whole, tmp_path):
    test = json.loads((made[0].fidelity / "pneumonia/fidelity.json").read_text())["two_sample"]
    run, _, _ = changed(made, tmp_path, two_sample=test | {"told_apart": False, "n": 29})
    text = Page(page.render(whole | {"fidelity": fidelity(run)})).text
    assert "Pneumonia: the classifier could not tell them from real X-rays at n = 29 : AUC 0.975" in text
    assert "misses differences that the eye sees" in text


def test_what_could_not_be_judged_is_stated(made, whole, tmp_path):
    test = {"n": 3, "patients": 1, "permutations": 199, "told_apart": None, "spaces": {}}
    memorisation = dict.fromkeys(("duplicates", "duplicates_low", "duplicates_high")) | {"spaces": {}}
    run, path, judged = changed(made, tmp_path, quality={}, half=0, two_sample=test, memorisation=memorisation)
    text = Page(page.render(whole | {"fidelity": fidelity(run)})).text
    assert "Pneumonia: too few patients to test whether a classifier tells them from real X-rays . KID n/a" in text
    assert "; duplicates of training X-rays n/a \u2014 no held-out X-ray" in text
    assert "1,024 before the last layer" in text and "Inception" not in text
    write_json(path, judged | {"features": "inception"})
    text = Page(page.render(whole | {"fidelity": fidelity(run)})).text
    assert "2,048 pooled ones of Inception v3" in text and "1,024 before" not in text
    judged["memorisation"]["duplicates"] = "few"
    write_json(path, judged)
    with pytest.raises(ValueError, match=r"memorisation.duplicates is .*; `dvc repro -f fidelity@pneumonia-0`"):
        fidelity(run)


def test_which_state_was_kept_and_why(made, whole, tmp_path):
    text = Page(made[2]).text
    assert "The generator after epoch 30 of 40 is kept, as a running average of its weights." in text
    assert (
        "it has the lowest KID: 0.5." in text and "20 X-rays of training patients that were kept from the GAN" in text
    )
    assert "Training stopped after epoch 40 of 90: no better KID in 1 looks." in text
    assert "Two of its X-rays differ 0.60 times as much as two real ones, in the same features." in text
    run = dataclasses.replace(made[0], findings=["pneumonia"], gan=tmp_path)
    shutil.copytree(made[0].gan / "pneumonia", tmp_path / "pneumonia")
    path = tmp_path / "pneumonia/kept.json"
    kept = json.loads(path.read_text())
    write_json(path, kept | {"mode": "pooled", "select": "last", "average": 0.0, "stopped_at": None})
    text = Page(page.render(whole | {"gan": gan(run)})).text
    assert "nobody knows the finding of a generated X-ray" in text and "epoch 30 of 40 is kept." in text
    assert "lowest KID" not in text and "Training stopped" not in text
    write_json(path, kept | {"epoch": 77})
    with pytest.raises(ValueError, match="no epoch 77; `dvc repro -f gan@pneumonia-0` makes both again"):
        gan(run)


def test_a_plan_of_other_findings_is_refused(made):
    with pytest.raises(ValueError, match=r"'findings.edema' is missing; `dvc repro -f balance@0` makes it again"):
        plan_of(dataclasses.replace(made[0], findings=["edema"]))
