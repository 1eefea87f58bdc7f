"""Average precision against scikit-learn, its floor against every order of a small sample, PPV and NPV by hand."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cxr.evaluation import metrics, precision
from cxr.evaluation.operating import Judged
from tests.evaluation.make import SETTINGS, one, predictions


def sample(seed, n=150, ties=True):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.2).astype(float)
    scores = rng.normal(size=n) + truth
    return truth, scores.round(1) if ties else scores, metrics.draw_patients(np.arange(n) // 2, 70, seed)


@pytest.mark.parametrize("ties", [True, False])
def test_the_bootstrap_is_scikit_learns_average_precision_under_sample_weights(ties):
    truth, scores, draws = sample(3, ties=ties)
    ours = precision.bootstrap(truth, scores, draws)
    for b in range(0, 70, 7):
        weight = draws.counts[draws.owner, b]
        assert ours[b] == pytest.approx(average_precision_score(truth, scores, sample_weight=weight), abs=1e-12)


def test_replicates_are_moved_to_the_value_and_stay_shares():
    moved = precision.recentred(0.3, np.array([0.2, 0.5, np.nan]))
    assert moved[:2] == pytest.approx([0.15, 0.45]) and np.isnan(moved[2])
    assert (
        precision.recentred(0.9, np.array([0.5, 1.0])).max() == 1
        and np.isnan(precision.recentred(0.9, np.array([np.nan]))).all()
    )


def test_the_interval_of_a_mean_covers_the_mean_over_test_sets_of_this_size():
    """Three findings of 10, 20 and 40 positives in 200 images, 120 test sets."""
    rng, means, ends, images = np.random.default_rng(0), [], [], 200
    for _ in range(120):
        draws, parts = metrics.draw_patients(np.arange(images), 120, int(rng.integers(2**31))), []
        for positives in (10, 20, 40):
            truth = (np.arange(images) < positives).astype(float)
            truth = rng.permutation(truth)
            scores = rng.normal(size=images) + truth
            value = average_precision_score(truth, scores)
            parts.append((value, precision.recentred(value, precision.bootstrap(truth, scores, draws))))
        means.append(np.mean([value for value, _ in parts]))
        ends.append(np.nanquantile(np.mean([drawn for _, drawn in parts], axis=0), [0.025, 0.975]))
    low, high = np.transpose(ends)
    assert 0.9 <= np.mean((low <= np.mean(means)) & (np.mean(means) <= high)) <= 0.99


def test_a_replicate_without_positives_has_no_average_precision():
    draws = metrics.Draws(np.arange(3), np.array([[0, 1], [2, 1], [1, 1]], np.uint16))
    values = precision.bootstrap(np.array([1.0, 0, 0]), np.array([0.3, 0.2, 0.9]), draws)
    assert np.isnan(values[0]) and values[1] == pytest.approx(1 / 2)


@pytest.mark.parametrize("positives, n", [(1, 4), (2, 6), (3, 5), (5, 5)])
def test_chance_is_the_mean_over_every_order(positives, n):
    scores = np.arange(n)[::-1]
    every = [np.isin(np.arange(n), chosen) for chosen in itertools.combinations(range(n), positives)]
    mean = np.mean([average_precision_score(truth, scores) for truth in every])
    assert precision.chance(positives, n) == pytest.approx(mean)


def judged(table, threshold):
    n = (table["split"] == "test").sum()
    return Judged({"calibrated": np.full((n, 14), np.nan)}, np.full(14, threshold))


def test_predictive_values_by_hand():
    truth, called = np.array([1.0, 1, 0, 0, 0]), np.array([True, False, True, False, False])
    values = precision.predictive(truth, called, metrics.Draws(np.arange(5), np.ones((5, 1), np.uint16)))
    assert values["ppv"][0] == values["ppv"][1][0] == 1 / 2 and values["npv"][0] == values["npv"][1][0] == 2 / 3
    none = precision.predictive(truth, called & False, metrics.Draws(np.arange(5), np.ones((5, 1), np.uint16)))
    assert np.isnan(none["ppv"][0]) and np.isnan(none["ppv"][1]).all() and none["npv"][0] == 3 / 5


def test_the_table_holds_each_finding_with_its_floors_and_the_mean():
    table = predictions(0, 1.0)
    rows = precision.table({"m": table}, {"m": judged(table, 0.5)}, SETTINGS)
    test = table[table["split"] == "test"]
    edema = one(rows, finding="Edema")
    assert edema["ap"] == pytest.approx(average_precision_score(test["truth.edema"], test["score.edema"]))
    assert edema["prevalence"] == pytest.approx(test["truth.edema"].mean()) and edema["chance"] > edema["prevalence"]
    assert edema["above"] == pytest.approx(edema["ap"] - edema["prevalence"])
    assert (
        edema["above_low"] < edema["above"] < edema["above_high"] and edema["ap_low"] < edema["ap"] < edema["ap_high"]
    )
    called = test["score.edema"] >= 0.5
    assert edema["called"] == called.sum() and edema["ppv"] == pytest.approx(test.loc[called, "truth.edema"].mean())
    assert edema["npv"] == pytest.approx(1 - test.loc[~called, "truth.edema"].mean())
    few, mean = one(rows, finding="Fracture"), one(rows, finding="macro")
    assert np.isnan(few["ap"]) and few["positives"] == 3 and np.isnan(few["prevalence"])
    assert mean["findings"] == 13 and mean["ap"] == pytest.approx(rows["ap"][:14].mean())
    assert precision.summary(rows.assign(model="final"), "final")["precision"]["final"]["ap"] == round(mean["ap"], 4)


def test_a_share_of_one_has_an_interval_that_knows_how_few_patients_it_is_of():
    table = predictions(0, 1.0)
    table["truth.edema"] = (table["score.edema"] > 0.6).astype(np.float32)  # every call is right
    row = one(precision.table({"m": table}, {"m": judged(table, 0.7)}, SETTINGS), finding="Edema")
    called = table[(table["split"] == "test") & (table["score.edema"] >= 0.7)]
    patients = called["patient_id"].nunique()
    assert row["ppv"] == row["ppv_high"] == 1 and patients < len(called)
    assert row["ppv_low"] == pytest.approx(metrics.wilson(patients, patients, 0.95)[0]) and row["ppv_low"] < 1
    assert row["npv_low"] < row["npv"] < row["npv_high"] < 1  # not every image left is negative


def test_without_a_threshold_there_is_no_predictive_value_but_a_precision():
    table = predictions(0, 1.0)
    rows = precision.table({"m": table}, {"m": judged(table, np.nan)}, SETTINGS)
    assert (
        rows["ppv"].isna().all()
        and rows["ap"].notna().sum() == 14
        and one(rows, finding="macro")["called_findings"] == 0
    )


def test_scores_of_noise_do_not_stand_above_chance():
    """Over 200 test sets of 20 positives in 200, the mean of a random score's average precision is `chance`."""
    rng, values = np.random.default_rng(0), []
    truth = np.r_[np.ones(20), np.zeros(180)]
    for _ in range(200):
        values.append(average_precision_score(truth, rng.random(200)))
    assert np.mean(values) == pytest.approx(precision.chance(20, 200), abs=3 * np.std(values) / 200**0.5)
    assert precision.chance(20, 200) > 0.1 + 0.015  # the prevalence alone would be beaten by noise
