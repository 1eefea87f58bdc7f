"""The combination of trainings and patients: by hand, and how often equal models are told apart."""

import math

import numpy as np
import pytest

from cxr.evaluation import metrics
from cxr.evaluation.names import DIFFERENCE
from cxr.evaluation.repeated import combine, difference


def test_patients_and_trainings_combine_by_hand():
    # Differences 1 and 3: s^2 = 2. Replicates whose noise is shared: P = C = 2, so 2 / 2 + 2 = 3 on
    # (2 - 1) 3^2 / 1^2 = 9 degrees of freedom; t(9) at 0.975 is 2.262.
    shared = combine(np.array([1.0, 3.0]), np.array([[-1.0, 1.0], [1.0, 3.0]]))
    assert (shared.error**2, shared.df) == pytest.approx((3, 9))
    assert shared.interval(2, 0.95) == pytest.approx((2 - 2.2622 * math.sqrt(3), 2 + 2.2622 * math.sqrt(3)), abs=1e-3)
    # Replicates whose noise is each training's own: variances 4/3 each, of the mean P = 2/3, so that C = 0: the
    # variance is 2 / 2 = 1 on 1 degree of freedom.
    own = combine(np.array([1.0, 3.0]), np.array([[0.0, 0, 2, 2], [2.0, 4, 2, 4]]))
    assert (own.error**2, own.df) == pytest.approx((1, 1))
    assert own.p(1.0) == pytest.approx(0.5)  # a t of one degree of freedom is Cauchy's: 1/4 in each tail beyond 1
    assert own.detectable(0.95, 0.75) == pytest.approx(math.tan(0.475 * math.pi) + 1)
    # Noise of opposite sign, C < 0, is not taken off: there are no fewer degrees of freedom than seeds less one.
    opposed = combine(np.array([1.0, 3.0]), np.array([[-1.0, 1.0], [1.0, -1.0]]))
    assert (opposed.error**2, opposed.df) == pytest.approx((1, 1))
    # Trainings that differ less than the patients explain: the patients' part alone, never less.
    assert combine(np.array([2.0, 2.1]), np.array([[0.0, 0, 2, 2], [2.0, 4, 2, 4]])).error ** 2 == pytest.approx(2 / 3)


def test_equal_to_the_bit_is_p_1_and_a_difference_without_variance_is_none():
    still = combine(np.zeros(3), np.zeros((3, 9)))
    assert still.p(0.0) == 1 and math.isnan(still.p(0.1)) and math.isnan(still.detectable(0.95, 0.8))
    assert math.isnan(combine(np.zeros(2), np.full((2, 9), np.nan)).p(0.0))


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_arms_that_are_equal_are_told_apart_as_seldom_as_the_level_says(spread):
    """Three seeds; trainings that differ in how well they rank (spread) and image by image; both arms alike."""
    rng, truth, trials, p = np.random.default_rng(5), (np.arange(200) < 40).astype(float), 300, []
    for trial in range(trials):
        draws, case = metrics.draw_patients(np.arange(200), 100, trial), rng.normal(size=200)
        arms = [case + 0.6 * rng.normal(size=200) for _ in range(2)]
        first, second = (
            [arm + (1.2 + spread * rng.normal()) * truth + 0.4 * rng.normal(size=200) for _ in range(3)] for arm in arms
        )
        area = [metrics.auc(np.repeat(truth[:, None], 3, 1), np.stack(x, 1)) for x in (first, second)]
        drawn = [np.stack([metrics.weighted_auc(truth, x, draws) for x in scores]) for scores in (first, second)]
        differences = area[1] - area[0]
        p.append(combine(differences, drawn[1] - drawn[0]).p(differences.mean()))
    for level in (0.05, 0.2, 0.5):
        share, error = np.mean(np.array(p) < level), math.sqrt(level * (1 - level) / trials)
        assert level - 4 * error < share < level + 3 * error, (level, share)


def test_the_numbers_of_a_row_are_those_of_its_parts():
    rng = np.random.default_rng(0)
    differences, replicates = np.array([0.02, 0.05, -0.01]), 0.02 + 0.03 * rng.normal(size=(3, 400))
    row, both = difference(differences, replicates, 0.95, 0.8), combine(differences, replicates)
    assert tuple(row) == DIFFERENCE and row["difference"] == pytest.approx(0.02)
    assert row["sd"] == pytest.approx(differences.std(ddof=1))
    assert (row["low"], row["high"]) == metrics.interval(replicates.mean(axis=0), 0.95)[:2]
    assert (row["total_low"], row["total_high"]) == both.interval(0.02, 0.95)
    assert (row["p"], row["df"], row["detectable"]) == (both.p(0.02), both.df, both.detectable(0.95, 0.8))
    one = difference(differences[:1], replicates[:1], 0.95, 0.8)
    assert one["low"] < one["difference"] < one["high"]
    assert all(math.isnan(one[name]) for name in ("sd", "total_low", "total_high", "df", "p", "detectable"))
