"""What else was trained on, on the page and in the model card."""

import dataclasses

import pytest

from cxr.core.files import write_json
from cxr.data.formats import Extra, Labelled
from cxr.report import page
from cxr.report.documents import documents
from cxr.report.sections.extra import extra
from tests.make import example
from tests.report.fabricated import Page

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def run(made, tmp_path):
    """The fabricated run, trained on another hospital's images as well."""
    findings = {"cardiomegaly": Labelled(images=70, positives=9, answer="same")}
    findings["lung_lesion"] = Labelled(images=60, positives=8, answer="near")
    known = {"name": "elsewhere", "title": "Saint <b>Elsewhere</b>", "images": 70, "patients": 40, "data": "zip"}
    known |= {
        "held_out_images": 5,
        "held_out_patients": 1,
        "unlabelled": 0,
        "unreadable": 1,
        "labelled_by": "a program",
    }
    (tmp_path / "elsewhere").mkdir()
    whole = example(Extra, **known, patient_key="patient", findings=findings)
    write_json(tmp_path / "elsewhere/dataset.json", Extra(**whole))
    params = made[0].params | {"classifier": {"extra": ["elsewhere"]}}
    return dataclasses.replace(made[0], params=params, extra_data=tmp_path)


def test_the_page_and_the_model_card_name_it_with_the_findings_that_count(run, whole):
    got = extra(run)
    html = page.render(whole | {"extra": got})
    text = Page(html).text
    assert "70 training images of 40 patients of Saint <b>Elsewhere</b>. Labels: a program." in text
    assert "5 images of 1 patient are left out" in text and "<b>Elsewhere" not in html
    assert [row["answer"] for row in got["table"].rows] == ["same", "near"]
    card = documents(run, whole | {"extra": got})["model_card_classifier.md"]
    assert "(elsewhere): 70 images of 40 patients, for Cardiomegaly, Lung Lesion alone." in card
    assert "\n\n\n" not in card


def test_without_one_the_page_says_nothing_of_it(made, whole):
    assert extra(made[0])["sets"] == [] and "What else the classifiers were trained on" not in made[2]


def test_a_missing_file_names_its_stage(run, tmp_path):
    (tmp_path / "elsewhere/dataset.json").unlink()
    with pytest.raises(ValueError, match="dvc repro extra_data@elsewhere"):
        extra(run)
