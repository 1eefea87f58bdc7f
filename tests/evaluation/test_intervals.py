"""Intervals of AUCs: by hand, against Newcombe's equation, their coverage by simulation, what they do at the edges."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import norm

from cxr.evaluation import intervals, metrics

NAN = float("nan")


def scored(rng, positives, negatives, auc):
    """Truth and normal scores whose true AUC is this."""
    truth = np.r_[np.ones(positives), np.zeros(negatives)]
    return truth, rng.normal(truth * math.sqrt(2) * NormalDist().inv_cdf(auc), 1)


def coverage(positives, auc, trials, seed, negatives=340):
    rng, inside = np.random.default_rng(seed), 0
    for _ in range(trials):
        _, low, high = intervals.auc_interval(*scored(rng, positives, negatives, auc), None, 0.95)
        inside += low <= auc <= high
    return inside / trials


@pytest.mark.parametrize("auc", [0.75, 0.92])
@pytest.mark.parametrize("positives", [10, 20, 30])
def test_few_positives_are_covered(positives, auc):
    assert 0.94 < coverage(positives, auc, 1500, seed=positives) < 0.97


@pytest.mark.slow
@pytest.mark.parametrize("auc", [0.6, 0.75, 0.85, 0.92])
@pytest.mark.parametrize("positives", [10, 20, 30, 100])
def test_few_positives_are_covered_in_many_test_sets(positives, auc):
    assert 0.94 < coverage(positives, auc, 8000, seed=1) < 0.97


def test_percentiles_do_not_cover_few_positives():
    """Why they are not used: at AUC 0.92 from ten positives."""
    rng, inside = np.random.default_rng(0), 0
    for seed in range(200):
        truth, scores = scored(rng, 10, 340, 0.92)
        draws = metrics.draw_patients(np.arange(350), 200, seed)
        low, high, _ = metrics.interval(metrics.weighted_auc(truth, scores, draws), 0.95)
        inside += low <= 0.92 <= high
    assert inside / 200 < 0.9


def test_repeated_images_widen_the_interval_and_it_covers():
    rng, inside, narrow = np.random.default_rng(5), 0, 0
    for _ in range(300):
        owner = np.repeat(np.arange(120), 3)
        truth = np.repeat((np.arange(120) < 15).astype(float), 3)
        scores = np.repeat(rng.normal(size=120), 3) * math.sqrt(0.8) + math.sqrt(0.2) * rng.normal(size=360) + truth
        true = norm.cdf(1 / math.sqrt(2))
        for who in (owner, None):
            _, low, high = intervals.auc_interval(truth, scores, who, 0.95)
            inside += (low <= true <= high) and who is not None
            narrow += (low <= true <= high) and who is None
    assert 0.92 < inside / 300 < 0.98 and narrow / 300 < 0.88


def test_equal_images_of_a_patient_count_once():
    truth, scores = scored(np.random.default_rng(1), 25, 60, 0.8)
    area, low, high = intervals.auc_interval(truth, scores, None, 0.95)
    again = intervals.auc_interval(np.repeat(truth, 3), np.repeat(scores, 3), np.repeat(np.arange(85), 3), 0.95)
    assert again[0] == pytest.approx(area) and again[1:] == pytest.approx((low, high), abs=0.02)


def test_its_ends_solve_the_equation():
    truth, scores = scored(np.random.default_rng(2), 20, 50, 0.8)
    area, low, high = intervals.auc_interval(truth, scores, None, 0.95)
    _, variance = metrics.delong(truth, scores[None])
    w, c = 20 / 50, 34

    def modelled(t):
        return t * (1 - t) * (1 + c * (1 - t) / (2 - t) + c * t / (1 + t)) / 1000

    for end in (low, high):
        distance = (area - end) ** 2 / (modelled(end) * (variance[0, 0] / modelled(area)) ** w)
        assert math.sqrt(distance) == pytest.approx(
            1.9806, abs=2e-3
        )  # Student's t at 19 / w^2 = 119 degrees of freedom
    assert 0 < low < area < high < 1


def test_at_the_edge_it_is_newcombes_and_mirrored():
    truth = np.array([1.0] * 10 + [0.0] * 40)
    perfect = intervals.auc_interval(truth, truth, None, 0.95)
    assert perfect[0] == perfect[2] == 1 and 0.7 < perfect[1] < 0.95
    worst = intervals.auc_interval(truth, -truth, None, 0.95)
    assert worst[:2] == (0, 0) and worst[2] == pytest.approx(1 - perfect[1])
    # As many images of half as many patients say less.
    half = intervals.auc_interval(truth, truth, np.arange(50) // 2, 0.95)
    assert half[1] < perfect[1]


def test_equal_scores_and_one_patient():
    truth = np.array([1.0, 1, 0, 0])
    assert intervals.auc_interval(truth, np.full(4, 0.5), None, 0.95) == (0.5, 0.5, 0.5)
    area, *ends = intervals.auc_interval(truth, np.array([0.9, 0.3, 0.4, 0.1]), np.array([0, 0, 1, 2]), 0.95)
    assert area == 0.75 and np.isnan(ends).all()


def areas(rng, count, positives, auc, seed, shared=0.0):
    """So many findings on the same patients, whose scores share this part."""
    n = positives + 300
    draws, common, out = metrics.draw_patients(np.arange(n), 200, seed), rng.normal(size=n), []
    shift = math.sqrt(2) * NormalDist().inv_cdf(auc)
    for _ in range(count):
        truth = np.zeros(n)
        truth[rng.permutation(n)[:positives]] = 1
        scores = shift * truth + math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(size=n)
        out.append(intervals.area(truth, scores, draws, 0.95))
    return out


def test_a_mean_of_equal_aucs_has_their_interval_and_of_independent_ones_a_narrower_one():
    rng = np.random.default_rng(3)
    one = areas(rng, 1, 30, 0.8, 0)[0]
    assert intervals.mean_interval([one]) == (one.low, one.high)
    assert intervals.mean_interval([one, one]) == pytest.approx((one.low, one.high))
    four = areas(rng, 4, 30, 0.8, 0)
    low, high = intervals.mean_interval(four)
    assert high - low == pytest.approx(np.mean([a.high - a.low for a in four]) / 2, rel=0.35)
    assert all(math.isnan(end) for end in intervals.mean_interval([]))
    assert all(math.isnan(end) for end in intervals.mean_interval([one, one._replace(low=NAN, high=NAN)]))


@pytest.mark.parametrize("shared", [0.0, 0.6])
def test_a_mean_of_three_findings_is_covered(shared):
    rng, inside = np.random.default_rng(4), 0
    for seed in range(300):
        low, high = intervals.mean_interval(areas(rng, 3, 12, 0.85, seed, shared))
        inside += low <= 0.85 <= high
    assert 0.93 < inside / 300 < 0.98
