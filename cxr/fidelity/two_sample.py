"""Can a classifier tell generated from real X-rays? A two-sample test by classification (Lopez-Paz and Oquab 2017).

A logistic regression learns from all folds but one which image is generated, and scores that one. The AUC is the share
of (generated, real) pairs of one fold that the scores order rightly: 0.5 is chance. Pairs of two folds are left out,
since two fits have two scales. Units go into folds whole: a unit is a patient with all images, or a generated image.

p is the share of permutations of the labels with an AUC at least as high, the given labels among them (Phipson and
Smyth 2010). A permutation moves the labels of whole units within each fold. Where each patient has one image, the units
are exchangeable if generated images are like real ones, and the test is exact. The images of one patient resemble each
other. Permutations spread these patients over both classes. With as many generated as real images, the variance of the
difference of the means is then 1 / (4 f (1 - f)) times the true one, where f is the share of patients among the units:
never less, so that the test is conservative.

Nothing of an image is chosen by its label: `components` and `spectrum` see all images alike, so that every permutation
has the same inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold

from cxr.core.resize import resize
from cxr.fidelity.formats import LEVEL
from cxr.fidelity.measures import LARGEST, halves, spread

FOLDS = 5
SIDE = 64  # pixels are compared at this size at most
BANDS = 8  # of spatial frequencies
SCALES = 3  # at which edges are measured, each half of the one before
COMPONENTS = 64
PENALTY = 0.1  # scikit-learn's C, on columns of unit variance
STEPS, TOLERANCE = 1000, 1e-5  # of a coefficient
FLOORS = 20  # pairs of halves of the real images


class Sample(NamedTuple):
    """N images: uint8 N x S x S, their features N x D, and the patient, or for a generated image its own id."""

    images: np.ndarray
    features: np.ndarray
    owners: np.ndarray


class Design(NamedTuple):
    """The units of a test: owner N is each image's unit; label and fold are per unit, label 1 for generated images."""

    owner: np.ndarray
    label: np.ndarray
    fold: np.ndarray


def design(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> Design | None:
    """The units of two samples, their images one after another; first and second: each image's patient or own id.

    Each fold has an equal share of both labels. None where a sample has fewer than two units.
    """
    (a, of_a), (b, of_b) = (np.unique(owners, return_inverse=True) for owners in (first, second))
    label = np.repeat([0, 1], [len(a), len(b)])
    folds = min(FOLDS, len(a), len(b))
    if folds < 2:
        return None
    fold = np.empty(len(label), int)
    cut = StratifiedKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
    for k, (_, units) in enumerate(cut.split(label, label)):
        fold[units] = k
    return Design(np.r_[of_a, len(a) + of_b], label, fold)


def permuted(at: Design, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Labels of the units, U x 1 + permutations: the given ones, then random permutations within the folds."""
    labels = np.repeat(at.label[:, None], 1 + permutations, axis=1)
    for units in (np.flatnonzero(at.fold == k) for k in range(at.fold.max() + 1)):
        labels[units, 1:] = rng.permuted(labels[units, 1:], axis=0)
    return labels


def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients of B logistic regressions on the same images: x, N x D, y, N x B of 1 and 0 -> D + 1 x B.

    The last one is the intercept, without penalty. The loss is scikit-learn's LogisticRegression's at C = PENALTY.
    Boehning and Lindsay (1988): x' x / 4 bounds the curvature of every logistic loss, so that steps by its inverse
    descend without a search. One factor then serves all permutations: a tenth of the time of a fit for each.
    """
    x = np.hstack([x, np.ones((len(x), 1))])
    penalty = np.r_[np.full(x.shape[1] - 1, 1 / PENALTY), 0.0][:, None]
    bound = cho_factor(x.T @ x / 4 + np.diagflat(penalty))
    w = np.zeros((x.shape[1], y.shape[1]))
    for _ in range(STEPS):
        step = cho_solve(bound, x.T @ (y - expit(x @ w)) - penalty * w)
        w += step
        if np.abs(step).max() < TOLERANCE:
            break
    return w


def aucs(x: np.ndarray, at: Design, labels: np.ndarray) -> np.ndarray:
    """The cross-fitted AUC of images x, N x D, for each column of `permuted`: B."""
    fold, labels = at.fold[at.owner], labels[at.owner]
    right = pairs = 0.0
    for k in range(at.fold.max() + 1):
        held = fold == k
        w, y = fit(x[~held], labels[~held]), labels[held]
        ranks = rankdata(np.round(x[held] @ w[:-1] + w[-1], 9), axis=0)  # ties have their mean rank
        generated = y.sum(axis=0)
        right += (ranks * y).sum(axis=0) - generated * (generated + 1) / 2
        pairs += generated * (len(y) - generated)
    return right / pairs


def auc_and_p(x: np.ndarray, at: Design, labels: np.ndarray) -> tuple[float, float]:
    """(AUC, one-sided p) of images x, N x D; labels: of `permuted`."""
    values = aucs(x, at, labels)
    return float(values[0]), float(np.mean(values >= values[0] - 1e-12))


def components(x: np.ndarray) -> np.ndarray:
    """N x D -> N x K of mean 0 and variance 1: principal components, at most COMPONENTS and half as many as images."""
    most = min(COMPONENTS, len(x) // 2, x.shape[1])
    return PCA(max(1, most), whiten=True, random_state=0).fit_transform(np.asarray(x, np.float32))


def spectrum(images: np.ndarray) -> np.ndarray:
    """uint8 N x S x S -> N x BANDS: log of the mean power in equal bands of spatial frequency, to half a cycle a pixel.

    A linear classifier sees only means, and blur, noise and the grid of a transposed convolution have mean 0 in every
    pixel. Their power has not. The 1 / 12 is the variance of rounding to grey levels.
    """
    side = images.shape[1]
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    band = np.clip(np.ceil(2 * BANDS * frequency).astype(int) - 1, 0, BANDS - 1).ravel()
    band[0] = BANDS  # the mean grey level
    sizes = np.bincount(band, minlength=BANDS + 1)
    power = np.empty((len(images), BANDS))
    for row, image in zip(power, images, strict=True):
        whole = np.abs(np.fft.rfft2(image.astype(np.float64))).ravel() ** 2 / side**2
        row[:] = (np.bincount(band, whole, BANDS + 1) / sizes)[:BANDS]
    return np.log(power + 1 / 12)


def edges(images: np.ndarray) -> np.ndarray:
    """uint8 N x S x S -> N x 4 SCALES: at each scale, logs of the median, 90th and 99th percentile of the gradient's
    length, and log of the kurtosis of the differences between neighbours.

    Noise that is filtered to the real images' power has their `spectrum` and no edge: its differences are normal
    (kurtosis 3), where an X-ray's are mostly small and now and then large. The 0.1 is a tenth of a grey level.
    """
    rows = np.empty((len(images), SCALES, 4))
    for row, image in zip(rows, images, strict=True):
        level = image.astype(np.float64)
        for scale in range(SCALES):
            down, right = np.diff(level, axis=0)[:, :-1], np.diff(level, axis=1)[:-1]
            squares = np.square([down, right]) + 1e-2
            row[scale, :3] = np.log(np.quantile(np.hypot(down, right), (0.5, 0.9, 0.99)) + 0.1)
            row[scale, 3] = np.log(np.square(squares).mean() / squares.mean() ** 2)
            side = len(level) // 2
            level = level[: 2 * side, : 2 * side].reshape(side, 2, side, 2).mean((1, 3))
    return rows.reshape(len(images), -1)


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 N x S x S -> N x D: principal components of the grey levels, the `spectrum` and the `edges`, of variance 1.

    Grey levels are compared at SIDE pixels at most, where an average covers the finer ones: the others have these.
    """
    texture = np.hstack([spectrum(images), edges(images)])
    texture = (texture - texture.mean(0)) / np.maximum(texture.std(0), 1e-6)
    if images.shape[1] > SIDE:
        images = np.stack([resize(image, SIDE) for image in images])
    return np.hstack([components(images.reshape(len(images), -1)), texture])


def views(*samples: Sample) -> dict[str, np.ndarray]:
    """What the classifier sees of the samples' images, one sample after another: space -> N x D."""
    images, features, _ = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    return {"pixels": pixels(images), "features": components(features)}


def draw(sample: Sample, n: int, rng: np.random.Generator) -> Sample:
    """n of the images, those of random units; only the last unit may lose images."""
    unit = np.unique(sample.owners, return_inverse=True)[1]
    rows = np.argsort(rng.permutation(unit.max(initial=-1) + 1)[unit], kind="stable")[:n]
    return Sample(*(part[rows] for part in sample))


def judge(real: Sample, made: Sample, new: Sample, *, permutations: int, rng: np.random.Generator) -> dict:
    """The object two_sample of fidelity.json: generated against real images, as many of each, at most LARGEST.

    new: real images of patients that no training saw. They are a second floor, against as many of `real`: in the
    features of a net that was trained on `real`, they are told apart where it knows its training images.
    """
    n = min(len(real.owners), len(made.owners), LARGEST)
    real, made = draw(real, n, rng), draw(made, n, rng)
    result = {"n": n, "patients": len(set(real.owners)), "permutations": permutations, "told_apart": None, "spaces": {}}
    at = design(real.owners, made.owners, rng)
    if at is None:
        return result
    labels = permuted(at, permutations, rng)
    cuts = [halves(real.owners, rng) for _ in range(FLOORS)]
    floors = [(np.r_[cut], design(*(real.owners[half] for half in cut), rng)) for cut in cuts]
    m = min(n, len(new.owners))
    seen, unseen = draw(real, m, rng), draw(new, m, rng)
    second = design(seen.owners, unseen.owners, rng)
    others = views(seen, unseen) if second else {}
    second_labels = permuted(second, permutations, rng) if second else None
    for space, x in views(real, made).items():
        value, p = auc_and_p(x, at, labels)
        known = auc_and_p(others[space], second, second_labels) if second else None
        between = [aucs(x[rows], halved, halved.label[:, None])[0] for rows, halved in floors if halved]
        result["spaces"][space] = {
            "auc": _round(value),
            "p": _round(p),
            "floor": spread(np.array(between)) if between else None,
            "held_out": dict(zip(("auc", "p"), map(_round, known), strict=True)) if known else None,
        }
    least = min(space["p"] for space in result["spaces"].values())
    return result | {"told_apart": bool(least * len(result["spaces"]) <= LEVEL)}  # Bonferroni


def _round(value: float) -> float:
    return round(float(value), 6)
