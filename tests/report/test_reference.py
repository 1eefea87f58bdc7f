"""The reference standard: the page says who labelled the images wherever it shows a score on CheXpert's labels."""

import dataclasses
import json
import re
import shutil

import pytest

from cxr.core.files import write_json
from cxr.data.formats import Manifest
from cxr.report import page
from cxr.report.compose import gather
from cxr.report.sections.reference import SCORED, By, Standard, standard
from tests.make import example
from tests.report.fabricated import Page

FOLDERS = {"tables": "tables", "papers": "documents"}
SHOWN = {"table2", "table3", "calibration", "operating", "subgroups", "final"}
LABELLER = "Labels: by the automatic labeller, not by a radiologist."
MIXED = "Test labels: by radiologists. Validation labels: by the automatic labeller (train_cheXbert.csv), not by a"


def of_source(small, folder, official, tables=(), **manifest):
    """The run `small` as from a folder source, with these parts and label tables."""
    shutil.copytree(small.splits, folder / "splits")
    shutil.copytree(small.chexpert, folder / "chexpert")
    file = folder / "splits" / "chexpert" / "split.json"
    split = json.loads(file.read_text())
    write_json(file, split | {"official": split["official"] | official})
    sums = dict.fromkeys(("train.csv", "valid.csv", *tables), "0")
    write_json(folder / "chexpert" / "manifest.json", example(Manifest, kind="folder", tables=sums, **manifest))
    return dataclasses.replace(small, chexpert=folder / "chexpert", splits=folder / "splits")


@pytest.mark.parametrize(
    "official, tables, labels, expected",
    [
        ({"test": ["train"], "valid": ["valid"]}, (), None, (By.LABELLER, By.RADIOLOGISTS, None)),
        ({"test": ["train"], "valid": ["train"]}, (), "t.csv", (By.LABELLER, By.LABELLER, "t.csv")),
        ({"test": ["test"], "valid": ["train"]}, ("a/groundtruth.csv",), None, (By.RADIOLOGISTS, By.LABELLER, None)),
        ({"test": ["test"], "valid": ["valid"]}, ("test_labels.csv",), None, (By.RADIOLOGISTS, By.RADIOLOGISTS, None)),
        ({"test": ["test"], "valid": ["valid"]}, ("test.csv",), None, (By.SOURCE, By.RADIOLOGISTS, None)),
    ],
)
def test_who_labelled_follows_from_the_split_and_the_tables(small, tmp_path, official, tables, labels, expected):
    more = {"labels": labels} if labels else {}
    assert standard(of_source(small, tmp_path, official, tables, **more)) == Standard(*expected)
    assert standard(small) == Standard(By.SIMULATED, By.SIMULATED)


def scored_figures(context, html):
    """The text of every table and picture of a scored section that is on the page."""
    figures = re.findall(r"<figure.*?</figure>", html, re.DOTALL)
    for name in SCORED:
        for item in (context.get(name) or {}).values():
            if isinstance(item, page.Table) and item.name != "floor_rsna":
                yield item.name, [f for f in figures if f'id="table-{item.name}"' in f]
            elif isinstance(item, page.Picture):
                yield name, [f for f in figures if item.uri in f]


def test_every_scored_table_and_picture_says_who_labelled(small, tmp_path):
    other = {"tables": ("groundtruth.csv",), "labels": "train_cheXbert.csv"}
    cases = {
        LABELLER: of_source(small, tmp_path / "a", {"valid": ["train"]}),
        MIXED: of_source(small, tmp_path / "b", {"test": ["test"], "valid": ["train"]}, **other),
        "Labels: simulated.": small,
    }
    for sentence, run in cases.items():
        context = gather(run)
        html = page.render(context | FOLDERS)
        seen = dict(scored_figures(context, html))
        assert seen.keys() >= SHOWN
        for name, figures in seen.items():
            assert figures or name not in SHOWN, name  # a section without rows may leave its table out
            assert all(sentence in " ".join(Page(figure).text.split()) for figure in figures), name
        text = Page(html).text
        assert f"CheXpert. {sentence}" in text  # above the answers


def test_a_table_of_rsna_has_no_such_sentence(made):
    (table,) = re.findall(r'<figure[^>]*id="table-floor_rsna".*?</figure>', made[2], re.DOTALL)
    assert "Labels:" not in table and made[2].count("Labels: simulated.") > 10


@pytest.mark.usefixtures("undrawn")
def test_the_adgms_scores_say_which_images_they_are_of(made, tmp_path):
    """Of the validation images, on which settings were chosen, or of a test part; file_order has none."""
    assert "Scores on the validation images after the last epoch" in made[2]
    text = Page(made[2]).text
    assert "RSNA has no test images here" in text and "It has no test set" in text and "own slices" not in text
    shutil.copytree(made[0].splits, tmp_path / "splits")
    file = tmp_path / "splits" / "rsna" / "split.json"
    split = json.loads(file.read_text())
    run = dataclasses.replace(made[0], splits=tmp_path / "splits")

    def page_of(**changes):
        file.write_text(json.dumps(split | changes))
        return Page(page.render(gather(run) | FOLDERS)).text

    text = page_of(splits=split["splits"] | {"test": split["splits"]["valid"]})
    assert "Scores on the test images after the last epoch" in text and "Nothing is chosen on these test images" in text
    assert "Nothing is chosen on RSNA’s test images." in text and "It has no test set" not in text
    assert "RSNA 2018, test" in text and "also guided the choice" not in text
    text = page_of(by="file_order", shared_images=1)
    assert "on which settings were chosen. These are the second paper’s own slices." in text


@pytest.mark.usefixtures("undrawn")
def test_an_official_test_set_without_sex_age_and_view_answers_no_question_on_metadata(small, tmp_path):
    run = of_source(small, tmp_path, {"test": ["test"], "valid": ["train"], "unused": ["valid"]}, ("groundtruth.csv",))
    shutil.copytree(small.explore, tmp_path / "explore")
    file = tmp_path / "explore" / "summary.json"
    summary = json.loads(file.read_text())
    nobody = {
        "by_sex": {"F": 0, "M": 0, "unknown": 500},
        "mean_age": dict.fromkeys("FM"),
        "share_50_to_75": dict.fromkeys("FM"),
    }
    test = {"images": 668, "patients": 500, "studies": 500, "frontal": 518, "lateral": 150, "per_patient": nobody}
    test |= {"views": dict.fromkeys(("AP", "PA", "LL", "RL"), 0) | {"unknown": 668}, "per_image": nobody}
    summary["chexpert"]["test"] = test | {"share_of_images_with_a_sibling": 0.5}
    file.write_text(json.dumps(summary))
    text = Page(page.render(gather(dataclasses.replace(run, explore=tmp_path / "explore")) | FOLDERS)).text
    assert "CheXpert’s test images are the official test set, its validation images are drawn from train.csv." in text
    assert "This test set cannot say:" in text and "more than the metadata" not in text
    assert "CheXpert, official test set" in text
    assert "This test set cannot say:" not in Page(page.render(gather(small) | FOLDERS)).text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        (
            ["valid"],
            "The other 30 patients that radiologists labelled (valid.csv) are in no part: nothing trains on them.",
        ),
        (
            ["train", "valid"],
            "The other 30 patients (train.csv and valid.csv) are in no part: nothing trains on them. Of train.csv, "
            "those were left out who are more than split.train_share or split.rare_patients lets stay, or whom "
            "split.rare_in_pa takes out.",
        ),
    ],
)
def test_patients_in_no_part_are_those_that_the_split_left_out(small, tmp_path, own, sentence):
    run = of_source(small, tmp_path, {"test": ["train"], "valid": ["train"], "unused": own})
    file = run.splits / "chexpert" / "split.json"
    split = json.loads(file.read_text())
    part = split["splits"]["test"] | {"patients": 30, "images": 40}
    write_json(file, split | {"splits": split["splits"] | {"unused": part}})
    text = Page(page.render(gather(run) | FOLDERS)).text
    assert sentence in text
    assert ("Of train.csv, those" in text) == ("train" in own)
