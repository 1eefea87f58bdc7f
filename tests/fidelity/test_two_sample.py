"""The test that tells generated from real X-rays: its design, its level on equal kinds, and what it finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxr.fidelity import two_sample
from cxr.fidelity.formats import TwoSample
from cxr.fidelity.two_sample import Sample, aucs, design, judge, permuted


def chests(n: int, seed: int, size: int = 32) -> np.ndarray:
    """n pictures of one kind, uint8 N x size x size: two dark lungs of random place, width and height, waves, noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    places = rng.normal(0, 0.05, (4, n, 1, 1))
    lungs = np.exp(-((np.abs(x) - 0.45 - places[0]) ** 2) / (0.05 + 0.01 * places[1]) - (y - places[2]) ** 2 / 0.35)
    waves = 6 * np.cos(40 * y + rng.uniform(0, 6, (n, 1, 1)))  # ribs
    grey = 170 - (120 + 60 * places[3]) * lungs + waves + rng.normal(0, 4, (n, size, size))
    return grey.clip(0, 255).astype(np.uint8)


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(radius))) for one in images])


def fog(n: int, seed: int, size: int = 32) -> np.ndarray:
    """Blurred noise with the chests' mean and spread of grey levels."""
    noise = np.random.default_rng(seed).integers(0, 256, (n, size, size), dtype=np.uint8)
    smooth = blurred(noise, size / 16).astype(float)
    chest = chests(50, 0, size)
    return ((smooth - smooth.mean()) / smooth.std() * chest.std() + chest.mean()).clip(0, 255).astype(np.uint8)


def sample(images: np.ndarray, owners=None) -> Sample:
    """With column and row means in place of a net's features."""
    features = np.hstack([images.mean(1), images.mean(2)]).astype(np.float32)
    return Sample(images, features, np.arange(len(images)) if owners is None else np.asarray(owners, object))


def judged(real, made, new=None, permutations: int = 39, seed: int = 0) -> dict:
    new = sample(chests(0, 0, real.images.shape[1])) if new is None else new
    found = judge(real, made, new, permutations=permutations, rng=np.random.default_rng(seed))
    return TwoSample(**found).model_dump()  # what fidelity.json takes


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 12), st.integers(0, 3))
def test_units_stay_whole_and_each_fold_has_an_equal_share_of_both(patients, generated, seed):
    at = design(np.array([f"p{k}" for k in patients], object), np.arange(generated), np.random.default_rng(seed))
    units = len(set(patients)), generated
    assert (at is None) == (min(units) < 2)
    if at is not None:
        assert len(at.owner) == len(patients) + generated and at.fold.max() + 1 == min(two_sample.FOLDS, *units)
        for k, label in enumerate(at.label[at.owner]):
            assert label == (k >= len(patients))
        for label in (0, 1):
            counts = np.bincount(at.fold[at.label == label])
            assert len(counts) == at.fold.max() + 1 and counts.max() - counts.min() <= 1
        labels = permuted(at, 3, np.random.default_rng(seed))
        assert np.array_equal(labels[:, 0], at.label) and labels.shape[1] == 4
        for column in labels.T:
            assert np.array_equal(np.bincount(at.fold, column), np.bincount(at.fold, at.label))


@pytest.mark.parametrize("shift", [0.0, 0.5, 5.0])
def test_the_regressions_are_scikit_learns(shift):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (80, 3))
    x = rng.normal(size=(80, 6)) + shift * y[:, :1]
    for k, w in enumerate(two_sample.fit(x, y).T):
        theirs = LogisticRegression(C=two_sample.PENALTY, tol=1e-8).fit(x, y[:, k])
        assert w[:-1] == pytest.approx(theirs.coef_[0], abs=1e-3) and w[-1] == pytest.approx(
            theirs.intercept_[0], abs=1e-3
        )


def test_the_auc_is_that_of_the_pairs_within_folds():
    rng = np.random.default_rng(0)
    at = design(np.repeat(np.arange(12), rng.integers(1, 4, 12)), np.arange(25), rng)
    x = np.round(rng.normal(0.4 * at.label[at.owner][:, None], 1, (len(at.owner), 3)), 1)
    labels, fold = permuted(at, 4, rng), at.fold[at.owner]
    for label, found in zip(labels.T, aucs(x, at, labels), strict=True):
        y, areas, pairs = label[at.owner], [], []
        for k in range(fold.max() + 1):
            model = LogisticRegression(C=two_sample.PENALTY, tol=1e-8).fit(x[fold != k], y[fold != k])
            areas.append(roc_auc_score(y[fold == k], model.decision_function(x[fold == k])))
            pairs.append((y[fold == k] == 1).sum() * (y[fold == k] == 0).sum())
        assert found == pytest.approx(np.average(areas, weights=pairs), abs=2e-3) and 0 < found < 1


def test_what_is_apart_has_auc_1_and_the_smallest_p_and_what_is_equal_a_half_and_p_1():
    at = design(np.arange(20), np.arange(20), np.random.default_rng(0))
    labels = permuted(at, 19, np.random.default_rng(1))
    assert two_sample.auc_and_p(10.0 * at.label[at.owner][:, None], at, labels) == (1, 1 / 20)
    assert two_sample.auc_and_p(np.ones((40, 2)), at, labels) == (0.5, 1)


def rejections(repeats: int, units: int, per_patient: int, seed: int) -> int:
    """In how many of `repeats` draws of two equal kinds p is at most 0.05. Real images: 1 to `per_patient` a patient,
    which share three quarters of their variance; generated ones: as many, each alone.
    """
    count = 0
    for k in range(repeats):
        rng = np.random.default_rng([seed, k])
        owner = np.repeat(np.arange(units), rng.integers(1, per_patient + 1, units))
        own, shared = rng.normal(size=(2, len(owner), 6))
        real = 0.5 * own + np.sqrt(0.75) * shared[owner]
        at = design(owner, np.arange(len(owner)), rng)
        x = np.concatenate([real, rng.normal(size=real.shape)])
        x = np.sign(x) * np.abs(x) ** 1.5  # heavy tails
        count += two_sample.auc_and_p(x, at, permuted(at, 19, rng))[1] <= 0.05
    return count


def test_equal_kinds_are_seldom_told_apart():
    """0.05 of 60 are 3; more than 9 happen once in a thousand."""
    assert rejections(60, 15, 1, seed=0) <= 9


@pytest.mark.slow
@pytest.mark.parametrize("per_patient", [1, 4])
def test_equal_kinds_are_told_apart_at_most_at_the_level(per_patient):
    """Of 400: 20 are the level, 13.5 its three standard errors."""
    assert rejections(400, 24, per_patient, seed=1) <= 33


def test_fog_is_told_apart_and_more_chests_are_not():
    real = sample(chests(40, 0), np.repeat(np.arange(20), 2))
    found = judged(real, sample(fog(40, 1)))
    assert found["told_apart"] and found["n"] == 40 and found["patients"] == 20
    for space in found["spaces"].values():
        assert space["auc"] > 0.95 and space["p"] == 1 / 40 and space["floor"]["low"] < 0.5 < space["floor"]["high"]
    found = judged(real, sample(chests(40, 2)))
    assert found["told_apart"] is False and found["spaces"]["pixels"]["auc"] < 0.75


def test_half_of_the_real_images_is_not_told_from_the_other_half():
    whole = chests(60, 3)
    told = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(60)
        told.append(judged(sample(whole[order[:30]]), sample(whole[order[30:]]), seed=seed)["told_apart"])
    assert sum(told) <= 1


def test_a_blur_that_leaves_the_mean_image_alone_is_seen():
    """Blurred waves and noise have the same mean in every pixel; their power differs."""
    rng = np.random.default_rng(0)
    texture = rng.normal(128, 30, (2, 40, 32, 32)).clip(0, 255).astype(np.uint8)
    made = blurred(texture[1], 0.6)
    made = ((made - 128.0) * 30 / made.std() + 128).clip(0, 255).astype(np.uint8)
    found = judged(sample(texture[0]), sample(made))
    assert found["spaces"]["pixels"]["auc"] > 0.95 and found["told_apart"]


def test_spectrum_by_hand():
    """A wave of 4 cycles over 32 pixels has its power at 1/8 cycles a pixel, in the second of eight bands."""
    wave = 128 + 100 * np.cos(2 * np.pi * 4 * np.arange(32) / 32)
    power = np.exp(two_sample.spectrum(np.repeat(np.rint(wave).astype(np.uint8)[None, None], 32, axis=1)))[0] - 1 / 12
    at = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)[None])
    within = ((at > 1 / 16) & (at <= 1 / 8)).sum()
    assert power[1] == pytest.approx(32**2 * 100**2 / 4 / within, rel=1e-2)  # |F|^2 / 32^2 of one of two peaks
    assert np.delete(power, 1).max() < 1e-3 * power[1]


@pytest.mark.parametrize("size", [16, 64, 128, 512])
def test_any_size_and_any_number(size):
    real, made = chests(6, 0, size), chests(9, 1, size)
    found = judged(sample(real), sample(made), sample(chests(3, 2, size)), permutations=19)
    assert found["n"] == 6 and set(found["spaces"]) == {"pixels", "features"}
    assert all(0 <= space["held_out"]["auc"] <= 1 for space in found["spaces"].values())


@pytest.mark.parametrize(("patients", "told"), [(["a"] * 5, None), (["a", "b", "b", "b", "b"], False)])
def test_one_patient_is_too_few_and_two_tell_nothing(patients, told):
    found = judged(sample(chests(5, 0), patients), sample(fog(5, 1)))
    assert found["told_apart"] is told and bool(found["spaces"]) == (told is not None)
    assert all(space["floor"] is None for space in found["spaces"].values())  # a half has one patient


def test_more_images_than_the_largest_set_are_drawn_by_patient(monkeypatch):
    monkeypatch.setattr(two_sample, "LARGEST", 12)
    found = judged(sample(chests(40, 0), np.repeat(np.arange(10), 4)), sample(chests(40, 1)))
    assert (found["n"], found["patients"]) == (12, 3)


def test_features_that_know_their_training_images_are_seen_by_the_second_floor():
    real, made, new = (sample(chests(40, k)) for k in range(3))
    known = Sample(real.images, real.features + 30, real.owners)
    spaces = judged(known, made, new)["spaces"]
    assert spaces["features"]["auc"] > 0.95 and spaces["features"]["held_out"] == {"auc": 1, "p": 1 / 40}
    assert spaces["pixels"]["held_out"]["auc"] < 0.75


def test_a_replay_of_the_real_images_is_not_told_apart():
    """Which is why copies are looked for on their own (test_copies.py)."""
    real = sample(chests(40, 0))
    assert judged(real, sample(real.images))["told_apart"] is False


def test_the_same_seed_gives_the_same_numbers():
    real, made = sample(chests(12, 0)), sample(chests(12, 1))
    assert judged(real, made) == judged(real, made) != judged(real, made, seed=1)
