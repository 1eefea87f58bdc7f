"""The whole page: self-contained, escaped, without ids and paths, the same bytes each time, every table as CSV."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import write_json
from cxr.data.formats import Manifest
from cxr.report import page
from cxr.report.compose import gather, parameters, write
from cxr.report.inputs import Artefacts
from cxr.report.sections.adgm import adgm
from cxr.report.sections.audit import audit
from cxr.report.sections.classifiers import baseline, final
from cxr.report.sections.data import data
from cxr.report.sections.errors import errors
from cxr.report.sections.fidelity import fidelity
from cxr.report.sections.flow import flow
from cxr.report.sections.generators import gan
from cxr.report.sections.labels import labels
from cxr.report.sections.scoring import scoring
from stages.cli import main
from stages.report import run as stage
from tests.make import example
from tests.report.fabricated import MARKUP, Page, arguments, fabricate

NAMES = {"tables": "tables", "papers": "documents"}
FOLDERS = ("tables", "figures", "documents")


def test_self_contained(made):
    assert made[1].startswith(f"report: {made[3] / 'report.html'} (")
    parsed = Page(made[2])
    assert made[2].startswith("<!DOCTYPE html>")
    plots, misread = 22, 13  # an error's picture for each finding with an AUC
    assert len(parsed.loads) == plots + misread and all(v.startswith("data:image/") for v in parsed.loads)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(parsed.tags)
    assert not re.search(r"url\(|@import", made[2])
    assert parsed.links <= parsed.ids
    assert "built-in method" not in parsed.text  # a template that names a dict's method


def test_sentences_have_no_gaps(made):
    text = Page(made[2]).text
    assert not re.findall(r"\w[.:;,][A-Z][a-z]+ ", text)


def test_what_came_from_data_is_escaped(made):
    assert "not &lt;script&gt;JPEG&lt;/script&gt;" in made[2] and "&lt;b&gt;&amp;" in made[2]
    assert "<script" not in made[2]


def test_markup_in_every_text_of_the_data_is_text(small, tmp_path):
    """Paths, reasons, advice of the checks, classes, sources, parameters."""
    names = ("explore", "audit", "stores", "splits", "chexpert")
    run = dataclasses.replace(small, **{name: tmp_path / name for name in names})
    for name in names:
        shutil.copytree(getattr(small, name), tmp_path / name)
    for file in (run.explore / "checks.csv", run.explore / "rsna_classes.csv", *run.stores.rglob("rejected.csv")):
        table = pd.read_csv(file)
        for column in table.select_dtypes(exclude="number"):
            if column != "severity":
                table[column] = MARKUP
        table.assign(path="a.jpg").to_csv(file, index=False)
    texts = dict.fromkeys(("place", "quantity", "stated", "claimed", "recomputed", "reason"), MARKUP)
    pd.read_csv(run.audit / "audit.csv").assign(**texts).to_csv(run.audit / "audit.csv", index=False)
    pd.read_csv(run.audit / "data.csv").assign(why=MARKUP).to_csv(run.audit / "data.csv", index=False)
    table1 = pd.read_csv(run.explore / "table1.csv").assign(remark=MARKUP)
    table1.to_csv(run.explore / "table1.csv", index=False)
    write_json(run.chexpert / "manifest.json", example(Manifest, kind=MARKUP))
    split = json.loads((run.splits / "rsna" / "split.json").read_text())
    split["splits"]["train"]["classes"] = {MARKUP: 3}
    split["by"] = MARKUP
    write_json(run.splits / "rsna" / "split.json", split)
    run = dataclasses.replace(run, params={MARKUP: {MARKUP: MARKUP}})
    parsed = Page(
        page.render(gather(run) | {"tables": MARKUP, "papers": MARKUP})
    )  # which also refuses every on... attribute
    assert not {"script"} & set(parsed.tags) and all(v.startswith("data:image/") for v in parsed.loads)
    assert parsed.text.count("<script>alert(1)</script>") > 8
    audited = parsed.text[parsed.text.index("The papers\u2019 own numbers Do") :]
    assert audited.count("<script>alert(1)</script>") > 6 * 12


def test_no_patient_no_path(made):
    root = made[3]
    written = [made[2], *(p.read_text() for p in (root / "tables").iterdir())]
    for text in written:
        assert "patient0" not in text and "view1" not in text and str(root) not in text


@pytest.mark.usefixtures("undrawn")
def test_phantom_banner_only_for_phantoms(made, small, tmp_path):
    text = Page(made[2]).text
    assert "Drawn, not taken." in text and "CheXpert and RSNA 2018 are the phantom cohort" in text
    assert "The phantom imitates labels" in text and "automatic labeller" not in text
    for name in ("chexpert", "rsna"):
        shutil.copytree(getattr(small, name), tmp_path / name)
        write_json(tmp_path / name / "manifest.json", example(Manifest, kind="zip"))
    assert data(dataclasses.replace(small, chexpert=tmp_path / "chexpert"))["phantoms"] == ["RSNA 2018"]
    real = dataclasses.replace(small, chexpert=tmp_path / "chexpert", rsna=tmp_path / "rsna")
    text = Page(page.render(gather(real) | NAMES)).text
    assert "Drawn, not taken." not in text and "X-rays from a zip source" in text
    assert "by the automatic labeller, not by a radiologist" in text


def test_empty_lists_are_empty_sections_and_the_same_bytes_each_time(small, tmp_path):
    for part in ("a", "b"):
        context = gather(small)
        write(context, tmp_path / part / "report.html", *(tmp_path / part / name for name in FOLDERS))
    assert context["adgm"]["answers"] == context["final"]["answers"] == context["gan"]["findings"] == []
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()
    assert "No ADGM was trained in this run" in (tmp_path / "a/report.html").read_text()
    assert not (tmp_path / "a/tables/adgm.csv").exists()
    assert list(pd.read_csv(tmp_path / "a/tables/balance.csv"))[:2] == ["finding", "n"]


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_dcgans_says_nothing_of_any(made, small):
    assert "DCGANs generate X-rays" in made[2]
    without = gather(dataclasses.replace(small, generators=[]))
    assert not without["gan"]["findings"] and "DCGANs generate X-rays" not in page.render(without | NAMES)


def test_every_table_is_a_csv_with_its_n(made):
    names = {p.stem for p in (made[3] / "tables").iterdir()}
    assert names == set(re.findall(r'id="table-(\w+)"', made[2]))
    assert names >= {"table1", "table2", "table3", "adgm", "balance", "splits", "positives", "cohort", "audit"}
    assert names >= {"floor", "floor_rsna", "calibration", "operating", "subgroups", "subgroups_rare"}
    for name in ("table1", "table2", "table3", "adgm", "balance", "checks", "rejected", "fidelity"):
        assert {"n", "count"} & set(pd.read_csv(made[3] / "tables" / f"{name}.csv")), name


def test_every_auc_is_beside_the_metadata_baselines_and_one_training_has_no_least_detectable(made):
    tables = {name: pd.read_csv(made[3] / f"tables/{name}.csv") for name in ("table2", "table3", "floor")}
    auc = pd.read_csv(made[3] / "evaluate/auc.csv").query("split == 'test' and model == 'floor_u_zeroes'")
    for name, column in (("table2", "floor_u_zeroes"), ("table3", "floor"), ("floor", "floor")):
        assert np.allclose(tables[name][column], auc["auc"], equal_nan=True), name
    assert tables["table3"][["detectable", "total_low", "p"]].isna().all(axis=None)
    least, width = (tables["floor"][c] for c in ("detectable", "difference_high"))
    width = width - tables["floor"]["difference_low"]
    # Both come from the same replicates: 2.80 standard errors beside an interval of about 3.92.
    assert (least.isna() == width.isna()).all() and (least / width).dropna().between(0.5, 1.0).all()


def test_previews(made):
    names = {p.name for p in (made[3] / "figures").iterdir()}
    expected = (
        "roc final_roc differences reliability adgm_accuracy gan per_study_roc net_benefit flow_chexpert flow_rsna"
    )
    assert names == {f"{name}.png" for name in expected.split()}
    for name in names:
        with Image.open(made[3] / "figures" / name) as picture:
            assert min(picture.size) > 90


@pytest.mark.parametrize(
    "section, option, file, cure",
    [
        (baseline, "evaluate", "auc.csv", "dvc repro evaluate"),
        (baseline, "history", "baseline/0/u_zeroes.csv", "dvc repro baseline@u_zeroes-0"),
        (labels, "evaluate", "policies.csv", "dvc repro evaluate"),
        (gan, "gan", "pneumonia", "dvc repro -f gan@pneumonia-0"),
        (fidelity, "fidelity", "pneumonia/fidelity.json", "dvc repro fidelity@pneumonia-0"),
        (final, "evaluate", "auc.csv", "dvc repro evaluate"),
        (adgm, "adgm", "corrected-2-50-0/history.csv", "dvc repro adgm@corrected-2-50-0"),
        (adgm, "models", "adgm/corrected-2-50-0/model.json", "dvc repro adgm@corrected-2-50-0"),
        (data, "splits", "chexpert/split.json", "dvc repro split@chexpert"),
        (scoring, "evaluate", "per_study.csv", "dvc repro evaluate"),
        (flow, "chexpert", "records.parquet", "dvc repro download@chexpert"),
        (errors, "predictions", "final/0.parquet", "dvc repro final@0"),
        (data, "stores", "chexpert/rejected.csv", "dvc repro resize@chexpert"),
        (data, "explore", "summary.json", "dvc repro explore"),
        (audit, "audit", "audit.csv", "dvc repro audit"),
    ],
)
def test_a_missing_file_is_named_with_its_cure(made, tmp_path, section, option, file, cure):
    with pytest.raises(ValueError) as error:
        section(dataclasses.replace(made[0], **{option: tmp_path}))
    assert str(tmp_path / file) in str(error.value) and cure in str(error.value)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"final_policy": "u_ignore"}, "'u_ignore': choose one of the policies trained (u_zeroes, u_ones)"),
        ({"findings": ["measles"]}, "unknown finding 'measles'"),
        ({"params": "absent.yaml"}, "absent.yaml"),
        ({"explore": "gone"}, "`dvc repro explore` makes it"),
    ],
)
def test_bad_input_is_one_line_and_the_old_report_stays(made, tmp_path, capsys, changed, message):
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(SystemExit) as end:
        main(stage, arguments(made[0], tmp_path, **changed))
    printed = capsys.readouterr().err
    assert end.value.code == 1 and message in printed and len(printed.splitlines()) == 1
    assert (tmp_path / "report.html").read_text() == "old" and not (tmp_path / "tables").exists()


def test_parameters_are_flat_and_in_words():
    flat = parameters({"seed": 3, "gan": {"deep": {"a": [1, 2]}, "flip": False, "weights": None}})
    assert flat == [("", [("seed", "3")]), ("gan", [("deep.a", "1, 2"), ("flip", "no"), ("weights", "none")])]


@pytest.mark.usefixtures("undrawn")
def test_where_rsnas_patients_are_known_the_page_counts_them(made, whole):
    text = Page(made[2]).text
    assert "patientId names an image" not in text and "unknown: one may stand" not in text
    assert "RSNA by patient" in text and whole["data"]["rsna_shared"] == 0
    facts = {fact["name"]: fact for fact in whole["data"]["facts"]}
    assert facts["RSNA 2018"]["patients"] == sum(facts["RSNA 2018"]["parts"].values()) == 450
    leaking = whole | {"data": whole["data"] | {"rsna_by": "image", "rsna_shared": 7}}
    assert "RSNA by image. 7 RSNA patients have images on both sides." in Page(page.render(leaking)).text


@pytest.mark.usefixtures("undrawn")
def test_where_rsnas_patients_are_unknown_the_page_says_images(tmp_path):
    context = gather(Artefacts(**fabricate(tmp_path, labels=[50], patient_key="image"))) | NAMES
    text = Page(page.render(context)).text
    assert "patients unknown: one may stand on both sides of the split images by split, drawn by image" in text
    for sentence in (
        "RSNA: one patient may stand in training and in validation.",
        "26,684 images are of 11,439 patients, 4,355 of them with several.",
        "Of a tenth of the images, drawn at random, 71.0 % share their patient with the rest.",
        "data.rsna_patients , then split.rsna: patient",
        "RSNA\u2019s patients are unknown: for RSNA it draws images.",
        "ADGM accuracy is over validation images, with the interval over images.",
        "How well the ADGM reads new patients: RSNA\u2019s patients are unknown",
        "every patient has exactly one image RSNA 2018 900 warning",
    ):
        assert sentence in text, sentence
    answer = text[text.index("Does the unlabelled data help") : text.index("1 The data Who")]
    assert "interval over images" in answer and "patients" not in answer
    section = text[
        text.index("The auxiliary deep generative model (ADGM) has images") : text.index("Every training, after")
    ]
    assert "patient" not in section and "over images" in section and "Paired by label draw and image" in section
    beside = text[text.index("RSNA: the ADGM beside the metadata baseline") : text.index("Do the probabilities mean")]
    assert "intervals over images" in beside and "patient" not in beside
    assert context["data"]["facts"][1]["patients"] is None
    assert "intervals over images" in context["documents"]["model_card_adgm.md"]
    assert "Patients: unknown." in context["documents"]["datasheet_rsna.md"]
    rows = {row["split"]: row for row in context["data"]["splits"].rows}
    assert rows["RSNA 2018, train"]["patients"] is None and rows["RSNA 2018, train"]["images"] == 720
    assert pd.read_csv(tmp_path / "evaluate/adgm.csv")["patients"].isna().all()
    assert pd.read_csv(tmp_path / "evaluate/adgm_floor.csv")["patients"].isna().all()
