"""Other hospitals on the page: the drop, who was refused, what was not scored, and what is said without a data set."""

import dataclasses

import pandas as pd
import pytest

from cxr.report import page
from cxr.report.sections.external import external
from tests.report.fabricated import Page

pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_page_gives_the_drop_and_names_who_and_what_was_left_out(made):
    text, html = Page(made[2]).text, made[2]
    assert "Elsewhere: Saint <b>Elsewhere</b>" in text and "Saint <b>Elsewhere</b>" not in html
    assert "7 images of 3 patients were refused, because the model was trained on these patients" in text
    assert "Not the same as any finding, and not scored: Haze." in text
    assert "Labels: two radiologists." in text
    table = pd.read_csv(made[3] / "tables/external_elsewhere.csv").set_index("finding")
    assert list(table.index) == ["Cardiomegaly", "Lung Lesion", "Mean of 2 findings"]
    assert table["answer"].tolist()[:2] == ["same", "near"]
    assert ((table["internal"] - table["auc"] - table["drop"]).abs() < 1e-5).all()
    assert (table["drop_low"] < table["drop"]).all() and (table["drop"] < table["drop_high"]).all()


def test_the_answer_follows_the_interval_of_the_drop(made, whole):
    one = external(made[0])["sets"]["elsewhere"]
    for change, words in (
        ({"lost": True, "gained": False}, "The model loses there"),
        ({"lost": False, "gained": True}, "does better there than at home"),
        ({"lost": False, "gained": False}, "No loss is shown, and none is excluded"),
        ({"findings": 0}, "no drop can be given"),
        ({"beats_floor": False}, "It is not shown to read the images there"),
    ):
        html = page.render(whole | {"external": {"sets": {"elsewhere": one | change}}})
        assert words in Page(html).text


def test_without_a_data_set_the_page_says_that_nobody_knows(made, whole):
    without = external(dataclasses.replace(made[0], params=made[0].params | {"external": []}))
    assert without == {"sets": {}}
    assert "No external data set was given" in Page(page.render(whole | {"external": without})).text
