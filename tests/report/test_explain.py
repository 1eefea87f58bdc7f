"""Heat maps on the page: the answer, the numbers, the pictures that only the phantom may show."""

import dataclasses
import json

import pandas as pd
import pytest

from cxr.report import page
from cxr.report.sections.explain import explain
from tests.report.fabricated import Page

NO = "do not point at Lung Opacity better than a map that has seen no X-ray. They are no evidence of where it lies."


def test_the_page_says_that_the_maps_do_not_beat_the_mean_box(made):
    text = Page(made[2]).text
    assert NO in text and "84 test X-rays of 48 patients" in text and "160 training X-rays" in text
    table = pd.read_csv(made[3] / "tables/explain.csv").set_index("method")
    assert table.loc["grad_cam", "hit"] == 0.25 and table.loc["grad_cam", "hit_floor"] == 0.5
    assert table.loc["grad_cam", "hit_gain"] == -0.25 and table.loc["grad_cam", "hit_gain_high"] == -0.125
    assert table.loc["grad_cam", "random"] == 0.125 and pd.isna(table.loc["integrated_gradients", "random"])
    assert 'alt="X-rays with boxes and heat maps"' in made[2]


@pytest.fixture
def changed(made, tmp_path):
    """A function that gives the section of a run whose explain.json is changed."""

    def make(change) -> dict:
        numbers = json.loads((made[0].explain / "explain.json").read_text())
        change(numbers)
        (tmp_path / "explain.json").write_text(json.dumps(numbers))
        return explain(dataclasses.replace(made[0], explain=tmp_path))

    return make


def test_maps_that_beat_it_are_named_so_and_x_rays_of_patients_are_not_shown(changed, whole):
    def better(numbers):
        numbers["data"] = "folder"
        numbers["methods"]["grad_cam"]["hit"] |= {"value": 0.75, "gain_low": 0.125, "gain_high": 0.375, "beats": True}

    got = changed(better)
    html = page.render(whole | {"explain": got})
    text = Page(html).text
    assert "point at Lung Opacity better than a map that has seen no X-ray" in text and NO not in text
    assert got["examples"] is None and 'alt="X-rays with boxes and heat maps"' not in html


def test_a_missing_file_names_its_stage(made, tmp_path):
    with pytest.raises(ValueError, match="dvc repro explain"):
        explain(dataclasses.replace(made[0], explain=tmp_path))


def test_boxes_of_other_hospitals_have_a_table_of_their_own(made, whole):
    text, html = Page(made[2]).text, made[2]
    assert "On the boxes of Saint <b>Elsewhere</b> a map points at Cardiomegaly better than the mean box does." in text
    assert "1 finding has enough images with boxes." in text and "Saint <b>Elsewhere</b>" not in html
    table = pd.read_csv(made[3] / "tables/external_boxes.csv").set_index("method")
    assert table["hit"].to_dict() == {"grad_cam": 1, "integrated_gradients": 0} and set(table["hit_floor"]) == {0.5}
    assert table["hit_gain"].to_dict() == {"grad_cam": 0.5, "integrated_gradients": -0.5}
    assert table.loc["grad_cam", "random"] == 0.25 and pd.isna(table.loc["integrated_gradients", "random"])
    without = explain(dataclasses.replace(made[0], params=made[0].params | {"external": []}))
    assert without["elsewhere"]["titles"] == []
    assert "Other findings, on boxes" not in Page(page.render(whole | {"explain": without})).text
