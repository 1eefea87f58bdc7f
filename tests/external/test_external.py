"""External data: what labels mean, who is refused, and the numbers against hand counts and references."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr.core.findings import FINDINGS, SLUGS
from cxr.data.formats import Manifest, Recipe
from cxr.data.sources.registry import DATASETS, people_of
from cxr.evaluation import external, intervals
from cxr.evaluation.classifiers import Settings
from cxr.evaluation.formats import External
from cxr.external import mapping, seen
from tests.make import example

NIH, RSNA, CHEXPERT, VINDR = (DATASETS[name] for name in ("nih", "rsna", "chexpert", "vindr"))


def labels(dataset, **given) -> pd.DataFrame:
    n = len(next(iter(given.values())))
    blank = {name: [np.nan] * n for name in dataset.findings}
    return pd.DataFrame(blank | {name.replace("_", " "): values for name, values in given.items()})[list(blank)]


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS.keys())
def test_every_label_of_every_data_set_has_an_answer_and_a_source(dataset):
    rows = mapping.meanings(dataset)
    assert sorted(row.label for row in rows) == sorted(dataset.findings)
    for row in rows:
        assert row.answer in ("same", "near", "not the same") and row.source
        assert row.finding in FINDINGS or (row.finding == "" and row.answer == "not the same")
        assert row.reason or row.answer == "same"


def test_seven_findings_of_nih_are_the_same_and_an_infiltration_is_no_opacity():
    same = {row.finding for row in mapping.meanings(NIH) if row.answer == "same" and row.label in NIH.findings[:15]}
    assert same == {
        "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion", "Pneumonia", "Pneumothorax",
    }  # fmt: skip
    (infiltration,) = [row for row in mapping.meanings(NIH) if row.label == "Infiltration"]
    assert infiltration.finding == "Lung Opacity" and infiltration.answer == "not the same"
    truth, _ = mapping.truth(labels(NIH, Infiltration=[1.0, 0.0], Edema=[0.0, 1.0]), NIH)
    assert np.isnan(truth[:, FINDINGS.index("Lung Opacity")]).all()
    assert truth[:, FINDINGS.index("Edema")].tolist() == [0, 1]


def test_two_labels_of_one_finding_are_joined_and_an_unknown_part_leaves_it_open():
    nodule, mass = [1.0, 0.0, 0.0, np.nan, 0.0], [0.0, 0.0, 1.0, 0.0, -1.0]
    truth, _ = mapping.truth(labels(NIH, Nodule=nodule, Mass=mass), NIH)
    assert np.array_equal(truth[:, FINDINGS.index("Lung Lesion")], [1, 0, 1, np.nan, np.nan], equal_nan=True)


def test_a_blank_is_negative_in_reports_and_unknown_elsewhere():
    blank = labels(CHEXPERT, Edema=[np.nan, 1.0, 0.0, -1.0])
    truth, _ = mapping.truth(blank, CHEXPERT)
    assert np.array_equal(truth[:, FINDINGS.index("Edema")], [0, 1, 0, np.nan], equal_nan=True)
    truth, _ = mapping.truth(blank, DATASETS["table"])
    assert np.array_equal(truth[:, FINDINGS.index("Edema")], [np.nan, 1, 0, np.nan], equal_nan=True)


def manifest(kind="folder", **recipe) -> Manifest:
    more = {"recipe": Recipe(patients=20, seed=0, **recipe)} if kind == "phantom" else {}
    return Manifest(kind=kind, images=1, bytes=1, tables={}, **more)


NOBODY = pd.Series([], dtype=str)
ROWS = pd.DataFrame({"image_id": ["a", "b", "c"], "patient_id": ["00000001", "00000001", "00000002"]})


def test_rsna_and_nih_show_the_same_people_and_the_trained_ones_are_refused():
    trained = seen.seen_by(["none"], people_of(RSNA, manifest()), pd.Series(["00000001"]), NOBODY)
    kept = seen.refuse(ROWS, people_of(NIH, manifest()), "patient", trained, "nih")
    assert kept.rows["image_id"].tolist() == ["c"] and kept.trained == (1, 2) and kept.chosen == (0, 0)
    others = seen.refuse(ROWS, people_of(CHEXPERT, manifest()), "patient", trained, "x")
    assert len(others.rows) == 3 and others.trained == others.chosen == (0, 0)
    with pytest.raises(ValueError, match="external nih: all 1 patients were trained or validated on"):
        seen.refuse(ROWS[:2], "nih", "patient", trained, "nih")
    with pytest.raises(ValueError, match="nothing says whose image is whose"):
        seen.refuse(ROWS, "nih", "image", trained, "rsna")


def test_patients_that_epoch_scaling_and_thresholds_were_chosen_on_are_refused_and_counted_apart():
    whom = seen.seen_by(["none"], "nih", pd.Series(["00000001"]), pd.Series(["00000002", "00000001"]))
    more = pd.concat([ROWS, ROWS[:1].assign(image_id="d", patient_id="00000003")], ignore_index=True)
    kept = seen.refuse(more, "nih", "patient", whom, "nih")
    assert kept.rows["image_id"].tolist() == ["d"] and kept.trained == (1, 2) and kept.chosen == (1, 1)


def test_each_phantom_hospital_has_patients_of_its_own():
    first, second = (people_of(CHEXPERT, manifest("phantom", **site)) for site in ({}, {"site": 2}))
    assert first != second and first == people_of(CHEXPERT, manifest("phantom", site=1))
    trained = seen.seen_by(["none"], first, ROWS["patient_id"], NOBODY)
    assert len(seen.refuse(ROWS, second, "patient", trained, "two").rows) == 3


@pytest.mark.parametrize(("start", "refused"), [("nih", "rsna"), ("all", "padchest"), ("mimic_ch", "mimic")])
def test_weights_that_have_seen_a_data_set_refuse_it_whole(start, refused):
    whom = seen.seen_by(["none", f"xrv:densenet121-res224-{start}"], "stanford", pd.Series(["p"]), NOBODY)
    with pytest.raises(ValueError, match="initial weights or classifier.extra were trained on these patients"):
        seen.refuse(ROWS, DATASETS[refused].people, "patient", whom, refused)
    assert len(seen.refuse(ROWS, VINDR.people, "patient", whom, "vindr").rows) == 3


def test_patients_of_extra_training_data_are_seen_too_and_unknown_ones_refuse_the_whole_people():
    trained = seen.seen_by(["none"], "stanford", pd.Series(["00000001"]), NOBODY)
    more = seen.also(trained, "nih", pd.Series(["00000002"]), "patient")
    assert seen.refuse(ROWS, "nih", "patient", more, "nih").rows["image_id"].tolist() == ["a", "b"]
    assert more["stanford"] == trained["stanford"] == {"00000001": seen.TRAINED}
    images = seen.also(more, "nih", pd.Series(["i"]), "image")
    for one in (images, seen.also({"nih": None}, "nih", pd.Series(["i"]), "patient")):
        with pytest.raises(ValueError, match="or classifier.extra were trained on these patients"):
            seen.refuse(ROWS, "nih", "patient", one, "nih")


def test_the_drops_interval_is_that_of_two_independent_numbers():
    one, other = (intervals.Area(v, np.empty(0), low, high) for v, low, high in ((0.9, 0.8, 0.95), (0.7, 0.6, 0.78)))
    drop, low, high = external.difference(one, other)
    assert drop == pytest.approx(0.2)
    assert low == pytest.approx(0.2 - np.hypot(0.1, 0.08)) and high == pytest.approx(0.2 + np.hypot(0.05, 0.1))


def test_local_patients_are_whole_and_at_most_half():
    patients = pd.Series(np.repeat([f"p{k}" for k in range(50)], 3))
    local = external.local_patients(patients, 40, 0)
    assert local.sum() == 42 and patients[local].nunique() == 14 and not set(patients[local]) & set(patients[~local])
    assert external.local_patients(patients, 10_000, 0).sum() == 75
    assert (external.local_patients(patients, 40, 0) == local).all()


def scores(rng, n, skill, prefix, offset=0.0) -> pd.DataFrame:
    """Predictions of edema alone with true probabilities at skill 1, two images a patient."""
    logits = rng.normal(-0.5, 1.5, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(float)
    given = 1 / (1 + np.exp(-(skill * logits + (1 - skill) * rng.normal(0, 1.5, n) + offset)))
    table = pd.DataFrame({"image_id": [f"{prefix}{k}" for k in range(n)]})
    table["patient_id"] = [f"{prefix}{k // 2}" for k in range(n)]
    table["sex"], table["age"], table["projection"], table["view"] = rng.choice(["F", "M"], n), 60.0, "frontal", "AP"
    for slug in SLUGS:
        table[f"score.{slug}"] = table[f"probability.{slug}"] = given
        table[f"positive.{slug}"] = (given > 0.5).astype(float)
        table[f"truth.{slug}"] = truth if slug == "edema" else np.nan
    return table


@pytest.fixture(scope="module")
def judged():
    rng = np.random.default_rng(0)
    final = scores(rng, 400, 1.0, "i").assign(split="test")
    there = scores(rng, 600, 0.4, "e", offset=2.0)
    flat = pd.DataFrame({f"{kind}.{s}": np.zeros(400) for kind in ("target", "weight") for s in SLUGS})
    flat["target.edema"], flat["weight.edema"] = final["truth.edema"], 1.0
    rates = pd.DataFrame({"model": "final", "finding": FINDINGS, "sensitivity": 0.9, "specificity": 0.5})
    info = External(**example(External, name="there", labels=[
        {"label": "Wet", "finding": "Edema", "answer": "near", "source": "s", "reason": "r"}]))  # fmt: skip
    settings = Settings(replicates=200)
    tables = external.judge([external.Outside(info, there)], final, rates, final, flat, 100, settings)
    return final, there, tables


def test_the_external_numbers_are_those_of_scikit_learn(judged):
    final, there, tables = judged
    row = tables["external"].set_index("finding").loc["Edema"]
    truth, score = there["truth.edema"], there["score.edema"]
    assert row["auc"] == pytest.approx(roc_auc_score(truth, score))
    assert row["internal"] == pytest.approx(roc_auc_score(final["truth.edema"], final["score.edema"]))
    assert row["drop"] == pytest.approx(row["internal"] - row["auc"]) and row["drop_low"] > 0
    assert row["sensitivity"] == pytest.approx((score[truth == 1] > 0.5).mean())
    assert row["specificity"] == pytest.approx((score[truth == 0] <= 0.5).mean())
    assert row["internal_sensitivity"] == 0.9 and row["answer"] == "near"
    assert row["ap_low"] < row["ap"] < row["ap_high"] and row["prevalence"] == pytest.approx(truth.mean())
    assert 0.4 < row["floor"] < 0.6 and row["above_low"] > 0
    macro = tables["external"].set_index("finding").loc["macro"]
    assert macro["findings"] == 1 and macro["drop"] == row["drop"] and macro["low"] == row["low"]
    assert tables["external"].set_index("finding").loc["Pneumonia", "n"] == 0


def test_local_labels_mend_the_calibration_on_other_patients(judged):
    row = judged[2]["external_calibration"].set_index("finding").loc["Edema"]
    assert row["n"] + row["local_labels"] == 600 and row["local_labels"] == 100
    assert row["intercept_given_high"] < 0  # two logits too high, as made
    assert abs(row["intercept_local"]) < abs(row["intercept_given"]) / 3
    assert row["ece_local"] < row["ece_given"] / 2


def test_no_external_data_set_gives_tables_without_a_row(tmp_path):
    assert external.read(tmp_path / "external") == []
    empty = pd.DataFrame({f"{kind}.{s}": [] for kind in ("target", "weight") for s in SLUGS})
    final, rates = scores(np.random.default_rng(1), 40, 1.0, "i").assign(split="test"), pd.DataFrame()
    tables = external.judge([], final, rates, empty, empty, 100, Settings(replicates=20))
    assert {name: len(table) for name, table in tables.items()} == dict.fromkeys(tables, 0) and len(tables) == 5


def test_a_damaged_file_of_an_external_data_set_names_its_stage(tmp_path):
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih/external.json").write_text(json.dumps({"name": "nih"}))
    with pytest.raises(ValueError, match="dvc repro -f external"):
        external.read(tmp_path)
