"""The metadata-only floor: what it may learn from, what it does with unknowns, and what it catches."""

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import CLASSES, SLUGS, columns_of
from cxr.evaluation import classifiers, metadata, subgroups
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
    groups = subgroups.table({"final": predicted}, {}, who, SETTINGS).set_index(["finding", "attribute", "group"])
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
    assert fitted.features.transform(metadata._table(rows)).tolist() == [
        [1, 0, 1, 0, 0, -1, 0],  # women, men, AP, PA, lateral, age, unknown age
        [0, 0, 0, 0, 0, 0, 1],
        [0, 1, 0, 1, 0, 0, 1],
        [1, 0, 0, 0, 1, 0, 1],
        [0, 1, 0, 0, 1, 1, 0],
    ]
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
    rows = rows.assign(projection="frontal", view=rng.choice(["AP", "PA"], n))
    target, weight = rng.choice([0, 1, 0.25, 0.7], (n, 1)), rng.choice([0.0, 1.0], (n, 1), p=[0.2, 0.8])
    soft = metadata.fit(rows, target, weight)
    both = pd.concat([rows, rows], ignore_index=True)
    hard = np.r_[np.ones((n, 1)), np.zeros((n, 1))]
    counted = metadata.fit(both, hard, np.r_[weight * target, weight * (1 - target)])
    assert np.allclose(metadata.predict(soft, rows), metadata.predict(counted, rows), atol=1e-3)
