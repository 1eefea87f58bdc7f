"""Model cards, datasheets and the checklist: from the run's own files, complete, without ids and paths."""

import dataclasses
import re
import shutil

import pandas as pd
import pytest

from cxr.core.files import write_json
from cxr.data.formats import Manifest
from cxr.report.compose import gather
from cxr.report.documents import documents
from cxr.report.sections.checklist import COLUMNS, ITEMS, NEEDS, checklist, facts
from tests.make import example
from tests.report.fabricated import MARKUP, Page

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def texts(made):
    return {path.name: path.read_text(encoding="utf-8") for path in (made[3] / "documents").iterdir()}


def test_a_run_has_two_model_cards_and_two_datasheets(texts, bare):
    names = {"model_card_classifier.md", "datasheet_chexpert.md", "datasheet_rsna.md"}
    assert set(texts) == names | {"model_card_adgm.md"} and set(bare["documents"]) == names


def test_they_hold_the_numbers_of_the_page_and_no_gap(made, whole, texts):
    card = texts["model_card_classifier.md"]
    macro = next(row for row in whole["final"]["table"].rows if row["finding"].startswith("Mean of"))
    assert f"{macro['final'].value:.3f}" in card and "densenet121" in card and "somebody" not in card
    assert card.count("\n| ") > 14 + 7
    counts = whole["flow"]["table"].rows[0]
    assert f"{counts['images']:,} images of {counts['patients']:,} patients" in texts["datasheet_chexpert.md"]
    for text in texts.values():
        assert not re.search(r"\bnan\b|None|Undefined|built-in|<span|\n{3}|[ \t]$", text, re.M), text


def test_tables_in_markdown_have_equal_rows(texts):
    for text in texts.values():
        for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
            assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_no_patient_no_path(made, texts):
    for text in texts.values():
        assert "patient0" not in text and "view1" not in text and str(made[3]) not in text


def test_the_phantom_is_named_and_real_data_are_not_called_drawn(made, texts, tmp_path):
    assert all("phantom" in text for text in texts.values())
    for name in ("chexpert", "rsna"):
        shutil.copytree(getattr(made[0], name), tmp_path / name)
        write_json(tmp_path / name / "manifest.json", example(Manifest, kind="zip"))
    run = dataclasses.replace(made[0], chexpert=tmp_path / "chexpert", rsna=tmp_path / "rsna")
    real = documents(run, gather(run))
    assert not any("phantom" in text.lower() for text in real.values())
    assert "Stanford" in real["datasheet_chexpert.md"] and "three radiologists" in real["datasheet_chexpert.md"]


def test_markup_of_the_data_stays_text(made, whole, tmp_path):
    run = dataclasses.replace(made[0], params={"classifier": {"size": MARKUP}})
    assert "<script" not in documents(run, whole)["datasheet_chexpert.md"]


def test_a_missing_model_is_named_with_its_cure(made, whole, tmp_path):
    with pytest.raises(ValueError, match="model.json: no such file; `dvc repro final@0` makes it"):
        documents(dataclasses.replace(made[0], models=tmp_path), whole)


def test_both_guidelines_are_complete_and_in_order():
    items = pd.read_csv(ITEMS, dtype=str, keep_default_na=False)
    assert tuple(items) == COLUMNS
    claim, tripod = (items[items["guideline"] == name] for name in ("CLAIM 2024", "TRIPOD+AI"))
    assert claim["item"].tolist() == [str(k) for k in range(1, 45)]
    main = tripod["item"].str.extract(r"^(\d+)([a-g]?)$")
    assert main[0].astype(int).is_monotonic_increasing and set(main[0]) == {str(k) for k in range(1, 28)}
    assert len(tripod) == 52 and tripod["item"].is_unique
    assert ((items["where"] == "") | (items["needs"] != "") <= (items["otherwise"] != "")).all()  # a reason why not


def test_where_an_item_stands_exists_on_the_page(made):
    items = pd.read_csv(ITEMS, dtype=str, keep_default_na=False)
    ids = Page(made[2]).ids
    assert set(items["anchor"]) - {""} <= ids
    assert set(items["needs"]) - {""} <= set(NEEDS)


def test_what_a_run_lacks_is_not_reported(made, whole):
    def where(context, item, run=made[0]):
        return next(r for r in checklist(run, context)["table"].rows if r["item"] == item)

    assert where(whole, "39")["reported"] == "yes"
    hidden = whole | {"errors": {"shown": False, "findings": []}}
    assert where(hidden, "39")["where"] == "not reported" and "error_images" in where(hidden, "39")["remark"]
    assert where(whole, "18")["reported"] == "no"  # no radiologist
    assert where(whole, "33")["reported"] == "yes"
    alone = whole | {"external": {"sets": {}}}
    assert where(alone, "33")["remark"] == "no external test set was given"
    assert where(whole, "13", dataclasses.replace(made[0], findings=[]))["guideline"] == "CLAIM 2024"
    counts = checklist(made[0], whole)["counts"]
    assert counts["CLAIM 2024"]["all"] == 44 and 25 < counts["CLAIM 2024"]["reported"] < 44
    assert set(facts(made[0], whole)) == set(NEEDS)
