"""FID, KID, precision and recall, MS-SSIM: against formulas written out, and numbers worked by hand."""

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_mmd
from torch_fidelity.metric_prc import prc_features_to_metric

from cxr.fidelity import measures


def textbook_fid(a, b):
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * np.real(root))


@pytest.mark.parametrize(("n", "m", "d"), [(50, 60, 4), (200, 30, 12), (13, 40, 12)])
def test_fid_is_the_textbooks(n, m, d):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), 0.5 + 2 * rng.normal(size=(m, d))
    assert measures.frechet(a, b) == pytest.approx(textbook_fid(a, b), rel=1e-9)


def test_fid_with_fewer_images_than_features_is_the_textbooks():
    """Singular covariances: the textbook's square root is only good to about the root of the rounding error."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(6, 20)), 1 + rng.normal(size=(9, 20))
    assert measures.frechet(a, b) == pytest.approx(textbook_fid(a, b), rel=1e-5)


def test_fid_of_gaussians_by_hand():
    """One dimension: (difference of means)^2 + (difference of standard deviations)^2."""
    a, b = np.array([[0.0], [2.0]]), np.array([[5.0], [11.0]])  # standard deviations sqrt 2 and 3 sqrt 2
    assert measures.frechet(a, b) == pytest.approx(49 + 8)
    assert measures.frechet(a, a) == pytest.approx(0, abs=1e-12)


def test_kid_is_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), 1 + rng.normal(size=(4, 3))

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    def within(z):
        return np.mean([k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])

    expected = within(a) + within(b) - 2 * np.mean([k(x, y) for x in a for y in b])
    assert measures.kid(a, b) == pytest.approx(expected, rel=1e-12)


def test_fid_kid_precision_and_recall_are_torch_fidelitys():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(60, 8)), 0.5 + rng.normal(size=(60, 8))
    first, second = torch.from_numpy(a), torch.from_numpy(b)
    statistics = [fid_features_to_statistics(x) for x in (first, second)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert measures.frechet(a, b) == pytest.approx(fid, rel=1e-6)
    assert measures.kid(a, b) == pytest.approx(kernel_mmd(a, b), rel=1e-9)
    prc = prc_features_to_metric(first, second, prc_neighborhood=3, prc_batch_size=60, verbose=False)
    assert measures.precision_recall(b, a) == pytest.approx((prc["precision"], prc["recall"]))


def test_kid_by_hand():
    """a = 0, 1 and b = 2, 2 in one dimension: k = 1 within a, 125 within b, 1 and 27 across."""
    assert measures.kid(np.array([[0.0], [1.0]]), np.array([[2.0], [2.0]])) == pytest.approx(1 + 125 - 2 * 14)


def test_kid_is_unbiased():
    """Over many small draws of one kind its mean is 0, where FID's is far from it."""
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(8, 5)), rng.normal(size=(8, 5))) for _ in range(2000)]
    found = np.array([measures.kid(a, b) for a, b in pairs])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert np.mean([measures.frechet(a, b) for a, b in pairs[:200]]) > 1


def test_precision_and_recall_of_points_placed_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])  # radii to the nearest other: 1, 1, 1, 8
    made = np.array([[2.5], [17.0], [19.0], [-1.5]])  # radii: 4, 2, 2, 4
    # 2.5 lies within 1 of 2, 17 within 8 of 10; 19 and -1.5 in no ball
    # 0, 1, 2 lie within 4 of 2.5 or of -1.5; 10 is 7.5 from 2.5 and 7 from 17
    assert measures.precision_recall(real, made, 1) == (0.5, 0.75)


def test_density_and_coverage_of_points_placed_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])  # radii to the nearest other: 1, 1, 1, 8
    made = np.array([[2.5], [1.5], [1.0], [40.0]])
    # 2.5 lies in the balls of 2 and 10, 1.5 in those of 1 and 2, 1.0 in those of 0, 1 and 2; 40 in none: 7 of 4 images.
    # 10 is 7.5 from 2.5, which lies within 8
    assert measures.density_coverage(real, made, 1) == (7 / 4, 1.0)
    assert measures.density_coverage(real, made[3:], 1) == (0.0, 0.0)
    assert measures.density_coverage(real, made[1:2], 1) == (2.0, 0.5)


def test_a_stray_real_image_moves_density_less_than_precision():
    """Naeem et al. 2020, section 3: one outlier's large ball makes strays count as real for precision alone."""
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) + 30
    assert measures.precision_recall(real, made)[0] == 0 == measures.density_coverage(real, made)[0]
    real[0] = 20  # its ball reaches to the others, and so to all generated ones
    assert measures.precision_recall(real, made)[0] == 1
    assert measures.density_coverage(real, made)[0] == pytest.approx(1 / measures.CLOSEST)


def test_equal_sets_have_full_precision_and_recall_and_distant_ones_none():
    x = np.random.default_rng(0).normal(size=(20, 3))
    assert measures.precision_recall(x, x) == (1, 1)
    assert measures.precision_recall(x, x + 100) == (0, 0)


def transcribed(a, b):
    """Wang, Simoncelli and Bovik 2003, equations 2 to 7, one pair, by two-dimensional convolution."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
    weights = weights[: int(np.log2(len(a) / 11)) + 1] if len(a) < 176 else weights
    weights = weights / weights.sum()
    result, c1, c2 = 1.0, (0.01 * 255) ** 2, (0.03 * 255) ** 2
    a, b = a.astype(float), b.astype(float)
    for j, weight in enumerate(weights):

        def mean(x):
            return scipy.signal.convolve2d(x, window, mode="valid")

        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
        value = (2 * cov + c2) / (va + vb + c2)
        if j == len(weights) - 1:
            value = value * (2 * ma * mb + c1) / (ma * ma + mb * mb + c1)
        result *= max(value.mean(), 0) ** weight
        a, b = ((x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4 for x in (a, b))
    return result


@pytest.mark.parametrize(("size", "scales"), [(16, 1), (32, 2), (64, 3), (128, 4), (256, 5)])
def test_ms_ssim_is_the_papers(size, scales):
    rng = np.random.default_rng(size)
    a = rng.integers(0, 256, (3, size, size), dtype=np.uint8)
    b = (0.7 * a + 0.3 * rng.integers(0, 256, a.shape)).astype(np.uint8)
    assert measures.scales(size) == scales
    assert measures.ms_ssim(a, b) == pytest.approx([transcribed(x, y) for x, y in zip(a, b, strict=True)], rel=1e-9)
    assert measures.ms_ssim(a, a) == pytest.approx(1)
    assert (measures.ms_ssim(a, b) < 0.999).all()
    assert measures.ms_ssim(a[:1], 255 - a[:1]) == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5))
def test_no_patient_is_in_both_halves(patients, seed):
    patients = np.array([f"p{k}" for k in patients], object)
    a, b = measures.halves(patients, np.random.default_rng(seed))
    assert len(a) == len(b) <= len(patients) // 2
    assert not set(patients[a]) & set(patients[b])
    assert len(set(a) | set(b)) == 2 * len(a)
    assert (len(a) == 0) == (len(set(patients)) == 1)


def compared(made, n=60):
    rng = np.random.default_rng(0)
    real = rng.normal(size=(n, 16))
    images = rng.integers(0, 256, (n, 16, 16), dtype=np.uint8)
    patients = np.repeat(np.arange(n // 2), 2)
    flat = np.repeat(images[:1], n, axis=0)
    rows = measures.compare(real, made(rng, real), images, flat, patients, replicates=10, rng=rng)
    return rows, measures.summary(rows)


def test_images_of_the_same_kind_are_about_as_far_as_real_ones_from_each_other():
    rows, found = compared(lambda rng, real: rng.normal(size=real.shape))
    assert len(rows) == 20 and {row["n"] for row in rows} == {30}
    for name in ("kid", "fid"):
        assert found[name]["difference"]["low"] < 0 < found[name]["difference"]["high"], name


def test_images_of_another_kind_are_further_and_one_image_over_and_over_has_no_variety():
    _, found = compared(lambda rng, real: 3 + 0.1 * rng.normal(size=real.shape))
    for name, sign in (("fid", 1), ("kid", 1), ("precision", -1), ("recall", -1), ("coverage", -1), ("ms_ssim", 1)):
        ends = [sign * found[name]["difference"][end] for end in ("low", "high")]
        assert min(ends) >= 0 < max(ends), name
    assert found["ms_ssim"]["generated"]["mean"] == 1


def test_two_images_are_too_few_and_four_are_not():
    rng = np.random.default_rng(0)
    for n, rows in ((2, 0), (4, 10)):
        x, images = rng.normal(size=(n, 8)), rng.integers(0, 256, (n, 16, 16), dtype=np.uint8)
        found = measures.compare(x, x + 1, images, images, np.arange(n), replicates=5, rng=rng)
        assert len(found) == rows
    assert measures.summary([]) == {}
