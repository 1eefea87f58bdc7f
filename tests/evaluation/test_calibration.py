"""Scaling, prior shift, calibration errors and thresholds against references and numbers worked out by hand."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import _SigmoidCalibration
from sklearn.metrics import brier_score_loss

from cxr.evaluation import calibration, intervals, metrics


def scored(n=300, seed=0, slope=2.5, intercept=-1.0):
    """Logits whose truth follows slope x + intercept."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n)
    return logits, (rng.random(n) < calibration.sigmoid(slope * logits + intercept)).astype(float)


def test_platt_is_scikit_learns():
    logits, truth = scored()
    scaling = calibration.fit(logits, truth, "platt")
    ours = calibration.sigmoid(calibration.apply(scaling, logits))
    assert np.allclose(ours, _SigmoidCalibration().fit(logits, truth).predict(logits), atol=1e-5)
    assert scaling.slope == pytest.approx(2.5, abs=0.6) and scaling.intercept == pytest.approx(-1, abs=0.4)


def test_temperature_is_the_best_single_factor_and_has_no_intercept():
    logits, truth = scored(intercept=0.0)
    scaling = calibration.fit(logits, truth, "temperature")
    m, n = truth.sum(), len(truth) - truth.sum()
    target = np.where(truth == 1, (m + 1) / (m + 2), 1 / (n + 2))

    def loss(slope):
        p = calibration.sigmoid(slope * logits)
        return -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()

    assert scaling.intercept == 0
    best = minimize_scalar(loss, bounds=(0.1, 5), method="bounded", options={"xatol": 1e-8}).x
    assert scaling.slope == pytest.approx(best, rel=1e-4)


def test_a_scaling_never_turns_the_ranking_around_and_stays_finite():
    logits, truth = scored()
    for kind in calibration.KINDS:
        assert calibration.fit(logits, 1 - truth, kind).slope == pytest.approx(0, abs=1e-9)
        separable = calibration.fit(np.array([-2.0, -1, 1, 2]), np.array([0.0, 0, 1, 1]), kind)
        assert np.isfinite(separable).all() and separable.slope > 0


def test_prior_shift_is_bayes_rule_on_a_case_worked_out_by_hand():
    # A sign stands in 60 % of the ill and 20 % of the well. Learnt where half are ill: .6 / (.6 + .2) = 3/4 with the
    # sign, .4 / (.4 + .8) = 1/3 without. Where one in ten is ill: .06 / (.06 + .18) = 1/4 and .04 / (.04 + .72) = 1/19.
    learnt = np.array([3 / 4, 1 / 3])
    moved = calibration.sigmoid(calibration.shift(calibration.logit(learnt), 0.5, 0.1))
    assert moved == pytest.approx([1 / 4, 1 / 19])


def test_ece_by_hand():
    probability, truth = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 1, 1, 1])
    # Two bins: |(0 - .1) + (1 - .2)| = .7 and |.2 + .1| = .3, over four images.
    assert calibration.ece(truth, probability, 2) == pytest.approx(0.25)
    # One bin: |3 - 2| / 4; the errors of both signs cancel.
    assert calibration.ece(truth[::-1], probability, 1) == pytest.approx(0.25)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=60), st.integers(2, 12))
def test_bins_ascend_and_keep_equal_values_together(values, wanted):
    probability = np.array(values)
    of = calibration.bins(probability, wanted)
    assert set(of) == set(range(of.max() + 1)) and of.max() < wanted
    order = np.argsort(probability, kind="stable")
    assert (np.diff(of[order]) >= 0).all()
    assert all(len(set(of[probability == v])) == 1 for v in values)


def test_bins_hold_as_many_each():
    of = calibration.bins(np.random.default_rng(0).random(1000), 10)
    assert (np.bincount(of) == 100).all()


def test_a_brier_scores_bootstrap_is_that_of_repeated_patients():
    logits, truth = scored(60, slope=1.0, intercept=0.0)
    probability, patients = calibration.sigmoid(logits), np.arange(60) // 3
    draws = metrics.draw_patients(patients, 20, seed=1)
    brier = calibration.brier(truth, probability, draws)
    for b in range(20):
        rows = np.repeat(np.arange(60), draws.counts[draws.owner, b])
        assert brier[b] == pytest.approx(brier_score_loss(truth[rows], probability[rows]))


def test_the_error_of_perfect_probabilities_by_hand():
    # One image in one bin: |y - p| is .9 with probability .1 and .1 with .9, so .18 on average.
    one = calibration.perfect(np.array([0.1]), 1, seed=0)
    assert len(one) == 200 and set(one.round(6)) == {0.1, 0.9} and one.mean() == pytest.approx(0.18, abs=0.05)
    assert np.array_equal(one, calibration.perfect(np.array([0.1]), 1, seed=0))
    assert not np.array_equal(one, calibration.perfect(np.array([0.1]), 1, seed=1))
    assert (calibration.perfect(np.array([0.0, 1.0, 1.0]), 2, seed=0) == 0).all()


def test_a_perfect_models_error_lies_among_the_draws_and_a_wrong_ones_does_not():
    """361 images, 9 % positive, 10 bins: true probabilities have an ECE of about .04, nowhere near 0."""
    rng, inside, wrong = np.random.default_rng(0), 0, 0
    for trial in range(150):
        probability = calibration.sigmoid(rng.normal(-2.6, 1, 361))
        low, high, _ = metrics.interval(calibration.perfect(probability, 10, trial), 0.95)
        truth = (rng.random(361) < probability).astype(float)
        inside += low <= calibration.ece(truth, probability, 10) <= high
        wrong += calibration.ece(truth, np.minimum(2 * probability, 0.99), 10) > high
        assert low > 0.01
    assert 0.9 < inside / 150 <= 0.99 and wrong / 150 > 0.9


def test_recalibration_is_scikit_learns_and_statsmodels():
    logits, truth = scored(400, slope=0.7, intercept=0.4)
    draws = metrics.draw_patients(np.arange(400), 4000, seed=0)
    found = calibration.recalibration(truth, calibration.sigmoid(logits), draws)
    line = sm.GLM(truth, sm.add_constant(logits), family=sm.families.Binomial()).fit(cov_type="HC0")
    assert found["slope"][0] == pytest.approx(line.params[1], abs=1e-4)
    assert found["slope"][1].std() == pytest.approx(line.bse[1], rel=0.05)  # the sandwich's standard error
    large = sm.GLM(truth, np.ones(400), family=sm.families.Binomial(), offset=logits).fit(cov_type="HC0")
    assert found["intercept"][0] == pytest.approx(large.params[0], abs=1e-5)
    assert found["intercept"][1].std() == pytest.approx(large.bse[0], rel=0.05)
    assert found["slope"][1].mean() == pytest.approx(found["slope"][0], abs=0.01)


def test_copies_of_an_image_do_not_narrow_a_slope():
    logits, truth = scored(200, slope=1.0, intercept=-1.0)
    spread = []
    for k in (1, 4):
        draws = metrics.draw_patients(np.repeat(np.arange(200), k), 500, seed=0)
        found = calibration.recalibration(np.repeat(truth, k), calibration.sigmoid(np.repeat(logits, k)), draws)
        spread.append([found[name][1].std() for name in ("slope", "intercept")])
    assert spread[0] == pytest.approx(spread[1], rel=1e-3)


def test_a_slope_needs_classes_that_overlap():
    draws = metrics.draw_patients(np.arange(4), 20, seed=0)
    for probability in ([0.1, 0.2, 0.7, 0.9], [0.9, 0.7, 0.2, 0.1], [0.1, 0.4, 0.4, 0.9], [0.4] * 4):
        found = calibration.recalibration(np.array([0.0, 0, 1, 1]), np.array(probability), draws)
        assert np.isnan(found["slope"][0]) and np.isnan(found["slope"][1]).all() and np.isfinite(found["intercept"][0])


def test_slopes_and_intercepts_are_covered_with_few_positives():
    rng, inside, used = np.random.default_rng(3), np.zeros(2), 0
    for seed in range(300):
        logits = rng.normal(-3.6, 1.2, 361)
        truth = (rng.random(361) < calibration.sigmoid(logits)).astype(float)
        if truth.sum() < 10:
            continue
        draws = metrics.draw_patients(np.arange(361), 200, seed)
        found = calibration.recalibration(truth, calibration.sigmoid(logits), draws)
        used += 1
        for at, (name, right) in enumerate((("slope", 1), ("intercept", 0))):
            value, replicates = found[name]
            low, high = intervals.student_interval([value], [replicates], [int(truth.sum())], 0.95)
            inside[at] += low <= right <= high
    assert used > 200 and (inside / used > 0.93).all() and (inside / used < 0.98).all()


def test_reliability_points_average_to_the_whole():
    logits, truth = scored(200)
    probability = calibration.sigmoid(logits)
    draws = metrics.draw_patients(np.arange(200), 100, seed=0)
    points = calibration.reliability(truth, probability, 5, draws, 0.95)
    assert points["n"].tolist() == [40] * 5 and (points["predicted"].diff().dropna() > 0).all()
    assert points["observed"].mean() == pytest.approx(truth.mean())
    assert points["predicted"].mean() == pytest.approx(probability.mean())
    assert (points["low"] <= points["observed"]).all() and (points["observed"] <= points["high"]).all()
    gaps = (points["observed"] - points["predicted"]).abs().mean()
    assert gaps == pytest.approx(calibration.ece(truth, probability, 5))


def test_threshold_by_hand():
    truth, scores = np.array([1.0, 1, 1, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.4, 0.2, 0.95, 0.1])
    found = [calibration.threshold(truth, scores, s) for s in (0.2, 0.21, 0.8, 0.81, 1.0)]
    assert found == [0.9, 0.8, 0.4, 0.2, 0.2]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0.01, 1))
def test_a_threshold_finds_the_share_and_a_higher_one_does_not(scores, sensitivity):
    scores = np.array(scores, float)
    t = calibration.threshold(np.ones(len(scores)), scores, sensitivity)
    assert (scores >= t).mean() >= sensitivity - 1e-9
    assert (scores > t).mean() < sensitivity
