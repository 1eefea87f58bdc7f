"""AUC, intervals and tests against scikit-learn, pauc, statsmodels, slow direct implementations, and numbers worked out
by hand."""

import math
from statistics import NormalDist

import numpy as np
import pauc
import pytest
from sklearn.metrics import roc_auc_score, roc_curve
from statsmodels.stats.multitest import multipletests

from cxr.evaluation import metrics

NAN = float("nan")


def sample(seed, n=300, findings=3, levels=None):
    """truth with blanks, and scores; `levels` rounds the scores so that many are tied."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, findings)) < np.linspace(0.1, 0.8, findings)).astype(np.float32)
    scores = rng.normal(size=(n, findings)) + truth
    if levels:
        scores = np.round(scores * levels) / levels
    truth[rng.random((n, findings)) < 0.1] = np.nan
    return truth, scores.astype(np.float32)


def slow_components(truth, scores):
    """DeLong's structural components straight from their definition, in O(M (N - M))."""
    positives, negatives = scores[truth == 1], scores[truth == 0]
    psi = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    return psi.mean(axis=1), psi.mean(axis=0)


@pytest.mark.parametrize("levels", [None, 2])
def test_auc_is_scikit_learns(levels):
    truth, scores = sample(0, levels=levels)
    for k, area in enumerate(metrics.auc(truth, scores)):
        known = ~np.isnan(truth[:, k])
        assert area == pytest.approx(roc_auc_score(truth[known, k], scores[known, k]), abs=1e-12)


def test_auc_of_one_class_is_nan():
    truth = np.array([[1, 0, NAN], [1, 0, NAN]])
    assert np.isnan(metrics.auc(truth, np.zeros((2, 3)))).all()


@pytest.mark.parametrize("levels", [None, 2])
def test_bootstrap_equals_a_loop_over_roc_auc_score_with_the_same_draws(levels):
    truth, scores = sample(1, levels=levels)
    patients = np.random.default_rng(2).integers(90, size=len(truth)).astype(str)
    draws = metrics.draw_patients(patients, 40, seed=3)  # more than one chunk
    fast = metrics.bootstrap_auc(truth, scores, draws)
    for b in range(40):
        rows = np.repeat(np.arange(len(truth)), draws.counts[draws.owner, b])
        for k in range(truth.shape[1]):
            known = rows[~np.isnan(truth[rows, k])]
            assert fast[k, b] == pytest.approx(roc_auc_score(truth[known, k], scores[known, k]), abs=1e-12)


def plain_weighted_auc(truth, scores, weights):
    """AUC = sum over positives i of w_i (W_below + W_tied / 2) / (W+ W-), straight from the formula."""
    correct = 0.0
    for score, weight in zip(scores[truth == 1], weights[truth == 1], strict=True):
        below, tied = ((truth == 0) & (scores < score)), ((truth == 0) & (scores == score))
        correct += weight * (weights[below].sum() + weights[tied].sum() / 2)
    return correct / (weights[truth == 1].sum() * weights[truth == 0].sum())


@pytest.mark.parametrize("flipped", [False, True])
def test_weighted_auc_is_the_formula_and_scikit_learns_with_sample_weights(flipped):
    truth, scores = sample(4, findings=1, levels=3)
    truth = 1 - truth if flipped else truth  # the positives are the larger class
    known = ~np.isnan(truth[:, 0])
    truth, scores = truth[known, 0], scores[known, 0]
    weights = np.random.default_rng(5).integers(0, 4, size=(len(truth), 5)).astype(np.uint16)
    fast = metrics.weighted_auc(truth, scores, metrics.Draws(np.arange(len(truth)), weights))
    assert fast == pytest.approx([roc_auc_score(truth, scores, sample_weight=w) for w in weights.T], abs=1e-12)
    assert fast == pytest.approx([plain_weighted_auc(truth, scores, w.astype(float)) for w in weights.T], abs=1e-12)


def test_draws_are_of_patients_and_do_not_depend_on_the_order_of_rows():
    truth, scores = sample(6)
    patients = np.random.default_rng(7).integers(50, size=len(truth)).astype(str)
    draws = metrics.draw_patients(patients, 40, seed=0)
    names = len(set(patients))
    assert draws.counts.shape == (names, 40) and (draws.counts.sum(axis=0) == names).all()
    assert all(len(set(draws.owner[patients == p])) == 1 for p in set(patients))
    order = np.random.default_rng(8).permutation(len(truth))
    other = metrics.bootstrap_auc(truth[order], scores[order], metrics.draw_patients(patients[order], 40, seed=0))
    assert (metrics.bootstrap_auc(truth, scores, draws) == other).all()
    assert (metrics.draw_patients(patients, 40, seed=1).counts != draws.counts).any()


def test_a_replicate_without_a_class_is_nan_and_counted():
    # Two patients, one positive: a replicate holds both only when it draws each once.
    truth, scores = np.array([[1.0], [0.0]]), np.array([[0.9], [0.1]])
    draws = metrics.draw_patients(np.array(["a", "b"]), 500, seed=0)
    areas = metrics.bootstrap_auc(truth, scores, draws)[0]
    both = (draws.counts == 1).all(axis=0)
    assert (np.isnan(areas) == ~both).all() and (areas[both] == 1).all()
    assert metrics.interval(areas, 0.95) == (1, 1, int((~both).sum()))
    low, high, missing = metrics.interval(np.full(3, NAN), 0.95)
    assert math.isnan(low) and math.isnan(high) and missing == 3


def test_interval_is_the_middle_of_the_replicates():
    assert metrics.interval(np.arange(101) / 100, 0.9) == pytest.approx((0.05, 0.95, 0))


def test_patient_bootstrap_covers_where_images_of_a_patient_repeat():
    # Each patient has four images with the same score, so the images hold a quarter of the information they seem to.
    rng = np.random.default_rng(9)
    true_area = 0.5 * (1 + math.erf(0.5))  # of two normals one standard deviation apart
    covered, covered_if_independent = 0, 0
    for trial in range(100):
        truth = np.repeat(np.arange(80) % 2, 4)[:, None].astype(float)
        scores = np.repeat(rng.normal(size=80) + np.arange(80) % 2, 4)[:, None]
        for unit in (np.repeat(np.arange(80), 4), np.arange(320)):
            replicates = metrics.bootstrap_auc(truth, scores, metrics.draw_patients(unit, 160, seed=trial))
            low, high, _ = metrics.interval(replicates[0], 0.95)
            inside = low <= true_area <= high
            covered += inside and len(set(unit)) == 80
            covered_if_independent += inside and len(set(unit)) == 320
    assert covered / 100 > 0.88
    assert covered_if_independent / 100 < 0.75


def test_placements_by_hand():
    # Positives .8 and .4, negatives .6, .4 and .2: .4 beats one, ties one, loses one.
    right, other = metrics.placements(np.array([1, 0, 1, 0, 0]), np.array([0.8, 0.6, 0.4, 0.4, 0.2]))
    assert right == pytest.approx([1, 0.5])
    assert other == pytest.approx([0.5, 0.75, 1])


@pytest.mark.parametrize("levels", [None, 2])
def test_delong_is_the_direct_form(levels):
    truth, scores = sample(10, findings=1, levels=levels)
    known = ~np.isnan(truth[:, 0])
    truth, scores = truth[known, 0], scores[known, 0]
    other = scores + np.random.default_rng(11).normal(size=len(scores)).round(1)
    pair = np.stack([scores, other])
    areas, covariance = metrics.delong(truth, pair)
    positive, negative = (np.stack(side) for side in zip(*(slow_components(truth, s) for s in pair), strict=True))
    assert areas == pytest.approx(positive.mean(axis=1))
    wanted = np.cov(positive) / positive.shape[1] + np.cov(negative) / negative.shape[1]
    assert covariance == pytest.approx(wanted)
    test = metrics.delong_test(truth, *pair)
    contrast = np.array([-1, 1])
    assert test.z == pytest.approx(contrast @ areas / math.sqrt(contrast @ covariance @ contrast))


@pytest.mark.parametrize("levels", [None, 2])
def test_delong_is_paucs(levels):
    truth, scores = sample(10, findings=1, levels=levels)
    known = ~np.isnan(truth[:, 0])
    truth, scores = truth[known, 0], scores[known, 0].astype(float)
    other = scores + np.random.default_rng(11).normal(size=len(scores)).round(1)
    test = metrics.delong_test(truth, scores, other)
    theirs = pauc.compare(*(pauc.ROC(truth.astype(int), s, direction="<") for s in (scores, other)), method="delong")
    assert (-test.z, test.p) == pytest.approx((theirs.stat, theirs.p_value))


def test_delong_by_hand():
    # First model: positives .8, .4 against negatives .6, .2: AUC 3/4, components 1, 1/2 and 1/2, 1, each variance 1/8.
    # Its variance is 1/8 / 2 + 1/8 / 2 = 1/8. The second is perfect, of variance 0: z = (1/4) / sqrt(1/8) = sqrt(1/2).
    truth = np.array([1, 1, 0, 0, NAN])
    first, second = np.array([0.8, 0.4, 0.6, 0.2, 0.5]), np.array([0.9, 0.8, 0.2, 0.1, 0.5])
    areas, covariance = metrics.delong(truth[:4], np.stack([first[:4], second[:4]]))
    assert areas == pytest.approx([0.75, 1]) and covariance == pytest.approx(np.array([[0.125, 0], [0, 0]]))
    test = metrics.delong_test(truth, first, second)
    assert test == pytest.approx((0.25, math.sqrt(0.5), 0.4795001), abs=1e-6)


def test_delong_without_variance():
    truth, scores = np.array([1, 1, 0, 0]), np.array([0.9, 0.8, 0.2, 0.1])
    assert metrics.delong_test(truth, scores, scores) == (0, 0, 1)
    worst = metrics.delong_test(truth, scores, -scores)
    assert worst.difference == -1 and math.isnan(worst.p)
    assert math.isnan(metrics.delong_test(np.array([1, 0, 0]), scores[:3], scores[1:]).p)  # one positive


def test_delong_rejects_a_true_null_as_often_as_it_says():
    rng = np.random.default_rng(12)
    truth = np.arange(120) % 2
    common = rng.normal(size=(400, 120)) + truth
    p = [metrics.delong_test(truth, c + rng.normal(size=120), c + rng.normal(size=120)).p for c in common]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_holm_by_hand():
    # Ascending .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, and .04 raised to .06.
    assert metrics.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm(np.array([0.01, NAN, 0.8])) == pytest.approx([0.02, NAN, 0.8], nan_ok=True)
    assert metrics.holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])


@pytest.mark.slow  # the import
def test_holm_is_statsmodels():
    rng = np.random.default_rng(0)
    for n in range(1, 21):
        p = rng.random(n).round(n % 3 + 1) ** 3  # ties, zeros and ones too
        assert metrics.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_wilson_of_the_adgm_papers_totals():
    assert metrics.wilson(1384 + 810, 2669, 0.95) == pytest.approx((0.807, 0.836), abs=5e-4)
    assert metrics.wilson(1730, 2669, 0.95) == pytest.approx((0.630, 0.666), abs=5e-4)
    low, high = metrics.wilson(0, 10, 0.95)
    assert low == pytest.approx(0, abs=1e-12) and high == pytest.approx(0.2775, abs=1e-4)
    assert all(math.isnan(x) for x in metrics.wilson(0, 0, 0.95))


def test_roc_by_hand():
    # Down from the top: a positive, then a tie of one positive and one negative, then two negatives.
    fpr, tpr = metrics.roc(np.array([1, 1, 0, 0, 0, NAN]), np.array([0.9, 0.5, 0.5, 0.3, 0.2, 1.0]))
    assert fpr == pytest.approx([0, 0, 1 / 3, 1]) and tpr == pytest.approx([0, 0.5, 1, 1])


@pytest.mark.parametrize("levels", [None, 3])
def test_roc_is_scikit_learns_curve_and_thinning_keeps_its_shape(levels):
    truth, scores = sample(13, n=4000, findings=1, levels=levels)
    known = ~np.isnan(truth[:, 0])
    x, y, _ = roc_curve(truth[known, 0], scores[known, 0], drop_intermediate=False)
    curves = {points: metrics.roc(truth[:, 0], scores[:, 0], points) for points in (10**6, 200)}
    for points, (fpr, tpr) in curves.items():
        assert len(fpr) <= points and (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
        # Along x + y, which rises all the way, a curve is a function: the corners alone give all of it, 200 nearly all.
        off = np.abs(np.interp(x + y, fpr + tpr, tpr) - y).max()
        assert off < (1e-9 if points == 10**6 else 0.01)
        assert np.trapezoid(tpr, fpr) == pytest.approx(np.trapezoid(y, x), abs=1e-9 if points == 10**6 else 2e-3)


def test_one_against_rest_is_scikit_learns():
    rng = np.random.default_rng(15)
    label, probability = rng.integers(3, size=200), rng.dirichlet(np.ones(3), size=200)
    wanted = roc_auc_score(label, probability, multi_class="ovr", average="macro")
    assert metrics.one_against_rest(label, probability) == pytest.approx(wanted)
    assert math.isnan(metrics.one_against_rest(np.zeros(5, int), probability[:5]))


def test_bootstrap_sums_are_those_of_repeated_patients():
    rng = np.random.default_rng(0)
    values, patients = rng.normal(size=(50, 3)), rng.integers(12, size=50)
    draws = metrics.draw_patients(patients, 40, seed=2)
    sums = metrics.bootstrap_sums(values, draws)
    for b in range(40):
        rows = np.repeat(np.arange(50), draws.counts[draws.owner, b])
        assert sums[:, b] == pytest.approx(values[rows].sum(axis=0))


def test_what_is_detectable_is_found_as_often_as_said():
    """Test sets of 80 and 80 from two models whose true AUCs, Phi(mu / sqrt 2), differ by what is called detectable."""
    rng, normal = np.random.default_rng(0), NormalDist()
    first, second = 1.0, 1.74
    true = normal.cdf(second / math.sqrt(2)) - normal.cdf(first / math.sqrt(2))
    truth, least, found = np.repeat([1.0, 0.0], 80), [], []
    for seed in range(300):
        draws = metrics.draw_patients(np.arange(160), 100, seed)
        scores = [rng.normal(size=160) + mu * truth for mu in (first, second)]
        one, two = (metrics.weighted_auc(truth, s, draws) for s in scores)
        areas = metrics.auc(np.stack([truth, truth], axis=1), np.stack(scores, axis=1))
        least.append(metrics.detectable(two - one, 0.95, 0.8))
        found.append(abs(areas[1] - areas[0]) > 1.96 * (two - one).std(ddof=1))
    assert np.mean(least) == pytest.approx(true, abs=0.006)
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_detectable_by_hand():
    replicates = np.array([-0.01, 0.01, np.nan])  # standard error 0.01 sqrt 2
    assert metrics.detectable(replicates, 0.95, 0.8) == pytest.approx(2.8016 * 0.0141421, rel=1e-4)
    assert all(np.isnan(metrics.detectable(np.array(r), 0.95, 0.8)) for r in ([0.0] * 9, [0.1], []))
