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
from tests.report.fabricated import Page


def test_generated_xrays_have_a_sentence_and_two_tables(made):
    text = Page(made[2]).text
    answer = text[text.index("Pneumonia: KID") :]
    assert answer.startswith("Pneumonia: KID 0.25 [0.12, 0.38] , between real X-rays 0.00 [\u22120.06, 0.06] : ")
    assert (
        "further from real X-rays than real X-rays are from each other ; duplicates of training X-rays 2.5 %" in answer
    )
    assert "80 generated; 80 real of 60 patients, in halves of 40; 20 held out" in answer
    quality = pd.read_csv(made[3] / "tables/fidelity.csv")
    assert len(quality) == 5 and set(quality["n"]) == {40} and set(quality["floor_high"]) == {0.0625}
    assert quality["verdict"].to_list() == ["worse", "worse", "nearer", "nearer", "different"]
    memory = pd.read_csv(made[3] / "tables/memorisation.csv")
    assert set(memory["space"]) == {"features", "pixels"} and set(memory["membership_low"]) == {0.41}


def test_a_weak_test_is_not_called_quality(made, whole, tmp_path):
    run = dataclasses.replace(made[0], findings=["pneumonia"], fidelity=tmp_path)
    shutil.copytree(made[0].fidelity / "pneumonia", tmp_path / "pneumonia")
    path = tmp_path / "pneumonia/fidelity.json"
    judged = json.loads(path.read_text())
    judged["quality"]["kid"]["told_apart"] = False
    write_json(path, judged)
    text = Page(page.render(whole | {"fidelity": fidelity(run)})).text
    assert "KID found no difference" in text and "misses differences that the eye sees" in text


def test_what_could_not_be_judged_is_stated(made, whole, tmp_path):
    run = dataclasses.replace(made[0], findings=["pneumonia"], fidelity=tmp_path)
    shutil.copytree(made[0].fidelity / "pneumonia", tmp_path / "pneumonia")
    path = tmp_path / "pneumonia/fidelity.json"
    judged = json.loads(path.read_text()) | {"quality": {}, "half": 0}
    judged["memorisation"] = dict.fromkeys(("duplicates", "duplicates_low", "duplicates_high")) | {"spaces": {}}
    write_json(path, judged)
    text = Page(page.render(whole | {"fidelity": fidelity(run)})).text
    assert (
        "KID n/a, too few patients for two halves ; duplicates of training X-rays n/a \u2014 no held-out X-ray" in text
    )
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
