"""The metadata-only floor: what it may learn from, what it does with unknowns, and what it catches."""

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import CLASSES, SLUGS, columns_of
from cxr.evaluation import classifiers, metadata, metrics, subgroups
from tests.evaluation.make import once

SETTINGS = classifiers.Settings(replicates=100, min_positives=10)


def people(n=600, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"image_id": [f"i{k:04d}" for k in range(n)], "patient_id": [f"p{k}" for k in range(n)]})
    table["sex"], table["age"] = rng.choice(["F", "M"], n), rng.uniform(20, 90, n)
    view = rng.choice(["AP", "PA", "LL"], n)
    return table.assign(view=view, projection=np.where(view == "LL", "lateral", "frontal"))


def tables(rows, truth, score):
    """(training rows of a label table, predictions of the others), every finding with this truth and score."""
    split = np.where(np.arange(len(rows)) < len(rows) // 2, "train", "test")
    table = rows[["image_id", "patient_id"]].assign(split=split)
    columns = {f"{kind}.{s}": truth.astype(np.float32) for kind in ("truth", "target") for s in SLUGS}
    columns |= {f"weight.{s}": np.float32(1) for s in SLUGS} | {f"score.{s}": score for s in SLUGS}
    table = table.assign(**columns)
    return table[split == "train"], table[split == "test"].reset_index(drop=True)


def test_a_finding_set_by_the_view_alone_is_caught():
    """A classifier that reads nothing but the view looks good, is no better than the floor, and guesses within AP."""
    rows, rng = people(1200), np.random.default_rng(1)
    truth = (rows["view"] == "AP").to_numpy() ^ (rng.random(len(rows)) < 0.1)
    train, predicted = tables(rows, truth, (rows["view"] == "AP").to_numpy() * 0.5 + 0.2 * rng.random(len(rows)))
    below = metadata.replace_scores(predicted, train, "records.parquet", rows)
    found = classifiers.judge(once({"u": predicted, "final": predicted, "floor_u": below}), "u", SETTINGS, "floor_u")
    mean = found["auc"].set_index(["model", "finding"])["auc"]
    assert mean["final", "macro"] > 0.85 and mean["floor_u", "macro"] > 0.85
    above = found["floor"].query("model == 'final'").set_index("finding")
    assert above.loc["macro", "low"] < 0.01 and abs(above.loc["macro", "difference"]) < 0.05
    who = metadata.people("records.parquet", rows, predicted["image_id"])
    groups = subgroups.table({"final": predicted}, {}, who, SETTINGS)["subgroups"]
    groups = groups.set_index(["finding", "attribute", "group"])
    for view in ("AP", "PA"):
        row = groups.loc[("Edema", "view", view)]
        assert row["auc_low"] < 0.5 < row["auc_high"] and row["auc"] < 0.7


def test_a_classifier_that_reads_the_image_is_above_the_floor():
    rows, rng = people(), np.random.default_rng(1)
    truth = rng.random(len(rows)) < 0.4
    train, predicted = tables(rows, truth, 0.4 * truth + 0.5 * rng.random(len(rows)))
    below = metadata.replace_scores(predicted, train, "records.parquet", rows)
    found = classifiers.judge(once({"u": predicted, "final": predicted, "floor_u": below}), "u", SETTINGS, "floor_u")
    assert (found["floor"]["low"] > 0.2).all() and (found["floor"]["floor"] < 0.65).all()
    assert (found["floor"]["detectable"] < found["floor"]["difference"]).all()


def test_it_learns_from_training_labels_alone():
    rows, rng = people(), np.random.default_rng(1)
    truth = rng.random(len(rows)) < 0.4
    train, predicted = tables(rows, truth, rng.random(len(rows)))
    before = metadata.replace_scores(predicted, train, "records.parquet", rows)
    other = predicted.assign(**{f"truth.{s}": 1 - predicted[f"truth.{s}"] for s in SLUGS})
    assert np.array_equal(
        columns_of(before, "score"), columns_of(metadata.replace_scores(other, train, "r", rows), "score")
    )
    changed = train.assign(**{f"target.{s}": 1 - train[f"target.{s}"] for s in SLUGS})
    assert not np.allclose(
        columns_of(before, "score"), columns_of(metadata.replace_scores(predicted, changed, "r", rows), "score")
    )
    seen = pd.concat([train, predicted[:1]])
    with pytest.raises(ValueError, match="'i0300' is a training image in a label table and also in the predictions"):
        metadata.replace_scores(predicted, seen, "records.parquet", rows)


def test_masked_labels_do_not_count_and_the_shares_are_kept():
    rows, rng = people(), np.random.default_rng(2)
    target, weight = (rng.random((len(rows), 2)) < 0.3).astype(float), (rng.random((len(rows), 2)) < 0.7).astype(float)
    fitted = metadata.fit(rows, target, weight)
    other = metadata.fit(rows, np.where(weight > 0, target, 1 - target), weight)
    assert np.array_equal(metadata.predict(fitted, rows), metadata.predict(other, rows))
    for k in range(2):  # an intercept without penalty: the mean probability is the share
        at = weight[:, k] > 0
        assert metadata.predict(fitted, rows)[at, k].mean() == pytest.approx(target[at, k].mean(), abs=1e-4)


def test_unknown_age_sex_and_view_have_their_own_place():
    rows = people(5).assign(age=[50.0, np.nan, 155, -3, 60], sex=["F", None, "M", "F", "M"])
    rows = rows.assign(view=["AP", None, "PA", "RL", None], projection=["frontal"] * 3 + ["lateral"] * 2)
    assert metadata.views(rows).tolist() == ["AP", "unknown", "PA", "lateral", "lateral"]
    fitted = metadata.fit(rows, np.array([[1.0], [0], [0], [1], [0]]), np.ones((5, 1)))
    names = [name.split("__")[1] for name in fitted.features.get_feature_names_out()]
    x = pd.DataFrame(fitted.features.transform(metadata._table(rows)), columns=names)
    assert x["age"].tolist() == [-1, 0, 0, 0, 1]
    singles = [*(f"sex_{s}" for s in ("F", "M", "unknown")), *(f"view_{v}" for v in ("AP", "PA", "lateral", "unknown"))]
    assert names[1:8] == singles and x[singles[:3]].to_numpy().argmax(1).tolist() == [0, 2, 1, 0, 1]
    assert x[singles[3:]].to_numpy().argmax(1).tolist() == [0, 3, 1, 2, 2]
    assert x["decade_unknown"].tolist() == [0, 1, 1, 1, 0] and x["decade_5"].tolist() == [1, 0, 0, 0, 0]
    cells = [name for name in names if name.startswith("sex+view+decade_")]
    assert len(cells) == 5 and (x[cells].sum(axis=1) == 1).all() and "sex+view+decade_M+lateral+6" in cells
    stranger = rows.iloc[:1].assign(sex="M", age=20.0)  # a combination that no training image has
    assert fitted.features.transform(metadata._table(stranger))[0, 8:].sum() == 0
    # Nothing known of anybody: every score is the share.
    nobody = rows.assign(age=np.nan, sex=None, view=None, projection="frontal")
    fitted = metadata.fit(nobody, np.array([[1.0], [0], [0], [1], [0]]), np.ones((5, 1)))
    assert metadata.predict(fitted, nobody) == pytest.approx(np.full((5, 1), 0.4), abs=1e-4)


def test_a_finding_with_one_class_or_no_label_is_constant():
    rows = people(20)
    target = np.stack([np.ones(20), np.zeros(20), np.arange(20) % 2], axis=1)
    scores = metadata.predict(metadata.fit(rows, target, np.array([1.0, 1, 0]) * np.ones((20, 3))), rows)
    assert (scores == [1, 0, 0.5]).all()


def test_classes_of_rsna():
    rows = people(300)
    names = np.select([rows["view"] == "AP", rows["view"] == "PA"], CLASSES[:2], CLASSES[2])
    scores = metadata.class_probabilities(rows.assign(class_name=names), rows, 3)
    assert np.allclose(scores.sum(axis=1), 1) and (np.array(CLASSES)[scores.argmax(axis=1)] == names).all()
    two = metadata.class_probabilities(rows.assign(class_name=names), rows, 2)
    assert ((two[:, 1] > 0.5) == (names == CLASSES[2])).all()


def test_an_image_that_the_records_lack_is_named():
    with pytest.raises(ValueError, match=r"records.parquet: no row of 'x', which was trained on or predicted; `dvc"):
        metadata.people("records.parquet", people(3), pd.Series(["i0000", "x"]))


def test_a_target_between_0_and_1_is_a_positive_and_a_negative_of_that_part():
    rng = np.random.default_rng(0)
    n = 60
    rows = pd.DataFrame({"sex": rng.choice(["F", "M"], n), "age": rng.integers(20, 90, n).astype(float)})
    rows["patient_id"] = np.arange(n).astype(str)
    rows = rows.assign(projection="frontal", view=rng.choice(["AP", "PA"], n))
    target, weight = rng.choice([0, 1, 0.25, 0.7], (n, 1)), rng.choice([0.0, 1.0], (n, 1), p=[0.2, 0.8])
    soft = metadata.fit(rows, target, weight)
    both = pd.concat([rows, rows], ignore_index=True)
    hard = np.r_[np.ones((n, 1)), np.zeros((n, 1))]
    counted = metadata.fit(both, hard, np.r_[weight * target, weight * (1 - target)])
    assert np.allclose(metadata.predict(soft, rows), metadata.predict(counted, rows), atol=1e-3)


def held_out(rows, truth, train):
    """AUCs on the images after the first `train`: of the baseline fitted on those, and of the cells' shares."""
    fitted = metadata.fit(rows[:train], truth[:train, None], np.ones((train, 1)))
    ours = metadata.predict(fitted, rows[train:])[:, 0]
    cell = rows["sex"] + metadata.views(rows) + (rows["age"] // 10).astype(str)
    share = pd.Series(truth[:train]).groupby(cell[:train].to_numpy()).mean()
    cells = cell[train:].map(share).fillna(truth[:train].mean()).to_numpy()
    test = truth[train:]
    return metrics.auc(np.stack([test, test], axis=1), np.stack([ours, cells], axis=1))


def test_a_finding_that_only_an_interaction_predicts_is_predicted():
    """Women on AP and men on PA: neither sex nor view nor age says anything alone."""
    rows = people(3000).assign(view=lambda t: np.where(t["view"] == "LL", "AP", t["view"]), projection="frontal")
    flip = np.random.default_rng(1).random(len(rows)) < 0.1
    truth = (((rows["sex"] == "F") == (rows["view"] == "AP")).to_numpy() ^ flip).astype(float)
    ours, cells = held_out(rows, truth, 1500)
    assert ours > 0.88 and ours > cells - 0.01


def test_it_is_as_strong_as_cells_and_stronger_where_cells_are_small():
    rng, rows = np.random.default_rng(2), people(12_000)
    cell = rows["sex"] + metadata.views(rows) + (rows["age"] // 10).astype(str)
    odds = cell.map({name: rng.normal(-1.5, 0.8) for name in sorted(set(cell))}).to_numpy()
    truth = (rng.random(len(rows)) < 1 / (1 + np.exp(-odds))).astype(float)
    ours, cells = held_out(rows, truth, 6000)  # each cell has its own share
    assert ours > cells - 0.005 and ours > 0.6
    odds = -2.5 + 0.03 * (rows["age"] - 50) + 0.7 * (rows["view"] == "AP")
    truth = (rng.random(len(rows)) < 1 / (1 + np.exp(-odds))).to_numpy().astype(float)
    ours, cells = held_out(rows, truth, 1000)  # they add up, and a cell has 24 images
    assert ours > cells + 0.02


def test_it_is_the_same_whatever_the_order_and_knows_whose_images_repeat():
    rows, rng = people(400), np.random.default_rng(3)
    truth = (rng.random((400, 1)) < 0.3).astype(float)
    fitted = metadata.predict(metadata.fit(rows, truth, np.ones((400, 1))), rows)
    assert np.array_equal(fitted, metadata.predict(metadata.fit(rows, truth, np.ones((400, 1))), rows))
    order = rng.permutation(400)
    other = metadata.fit(rows.iloc[order], truth[order], np.ones((400, 1)))
    assert metadata.predict(other, rows) == pytest.approx(fitted, abs=1e-6)


def test_strength_is_chosen_between_patients_not_between_their_images():
    """Ten images a patient with the patient's own label: between images the cells would look strong."""
    rows = people(60).loc[np.repeat(np.arange(60), 10)].reset_index(drop=True)
    truth = np.repeat(np.random.default_rng(6).random(60) < 0.5, 10).astype(float)[:, None]
    of_patients = metadata.fit(rows, truth, np.ones_like(truth)).models[0].coef_[0]
    of_images = metadata.fit(rows.assign(patient_id=np.arange(600)), truth, np.ones_like(truth)).models[0].coef_[0]
    assert np.abs(of_patients[8:]).max() < 0.5 * np.abs(of_images[8:]).max()
