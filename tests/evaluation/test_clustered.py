"""The paired test of two AUCs where patients have several images (Obuchowski 1997): by hand, invariants, simulation."""

import math

import numpy as np
import pytest

from cxr.evaluation import metrics


def test_by_hand():
    # Patient 0 has a positive .8 and a negative .4, patient 1 a positive .6, patient 2 a negative .7. Placements of the
    # positives 1 and 1/2, of the negatives 1 and 1/2; AUC 3/4. U = (1/8, -1/8, 0), V = (1/8, 0, -1/8), and
    # 2/1 (1/32) + 2/1 (1/32) + 3/2 (2 x 1/64) = 11/64.
    truth, scores = np.array([1.0, 0, 1, 0]), np.array([[0.8, 0.4, 0.6, 0.7]])
    areas, covariance = metrics.delong(truth, scores, np.array([0, 0, 1, 2]))
    assert areas == pytest.approx([0.75]) and covariance == pytest.approx(np.array([[11 / 64]]))


def pair(n, seed):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(float)
    return truth, (rng.normal(size=(2, n)) + truth).round(1)


def test_without_repeats_it_is_delongs():
    truth, scores = pair(200, 0)
    owner = np.random.default_rng(1).permutation(200)
    for ours, plain in zip(metrics.delong(truth, scores, owner), metrics.delong(truth, scores), strict=True):
        assert ours == pytest.approx(plain, rel=1e-12)


def test_copies_of_an_image_add_nothing():
    """k equal images of every patient have the covariance of one: DeLong's would be k times too small."""
    truth, scores = pair(150, 2)
    owner = np.repeat(np.arange(150), 4)
    _, one = metrics.delong(truth, scores)
    _, four = metrics.delong(np.repeat(truth, 4), np.repeat(scores, 4, axis=1), owner)
    assert four == pytest.approx(one, rel=1e-12)
    _, plain = metrics.delong(np.repeat(truth, 4), np.repeat(scores, 4, axis=1))
    assert plain == pytest.approx(one / 4, rel=0.05)


def test_numbers_of_patients_are_names_and_nan_images_leave():
    truth, scores = pair(80, 3)
    owner = np.arange(80) // 2
    wanted = metrics.delong_test(truth, *scores, owner)
    assert metrics.delong_test(truth, *scores, 1000 - 7 * owner) == pytest.approx(wanted)
    longer = np.r_[truth, np.nan], np.c_[scores, [5, 5]], np.r_[owner, 0]
    assert metrics.delong_test(longer[0], *longer[1], longer[2]) == pytest.approx(wanted)


def test_one_patient_with_all_positives_cannot_be_tested():
    truth, scores = np.array([1.0, 1, 0, 0]), np.array([[0.9, 0.3, 0.2, 0.4], [0.5, 0.6, 0.1, 0.7]])
    assert math.isfinite(metrics.delong_test(truth, *scores).p)
    assert math.isnan(metrics.delong_test(truth, *scores, np.array([0, 0, 1, 2])).p)


def null_rejection(patients: int, trials: int, seed: int) -> tuple[float, float]:
    """How often two equally good scores differ at 0.05: (with patients, as if images were independent).

    About 2.2 images a patient, 9 % positive; labels, and what the scores share, persist within a patient.
    """
    rng, rejected, used = np.random.default_rng(seed), np.zeros(2), 0
    for _ in range(trials):
        owner = np.repeat(np.arange(patients), np.minimum(7, rng.geometric(0.46, patients)))

        def persistent(share, owner=owner):
            noise = math.sqrt(share) * rng.normal(size=patients)[owner]
            return noise + math.sqrt(1 - share) * rng.normal(size=len(owner))

        z, common = persistent(0.75), persistent(0.6)
        truth = (z > 1.34).astype(float)
        if truth.sum() < 10:
            continue
        scores = [0.6 * z + 0.6 * common + 0.5 * persistent(0.6) for _ in range(2)]
        used += 1
        rejected += [metrics.delong_test(truth, *scores, o).p < 0.05 for o in (owner, None)]
    return tuple(rejected / used)


def test_a_true_null_is_rejected_as_often_as_it_says():
    ours, plain = null_rejection(167, 1500, 2)
    assert 0.04 < ours < 0.065 and plain > 0.08


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "trials"), [(120, 6000), (167, 10_000), (600, 6000)])
def test_a_true_null_in_cohorts_of_several_sizes(patients, trials):
    ours, plain = null_rejection(patients, trials, 7)
    assert 0.04 < ours < 0.065 and plain > 0.08
