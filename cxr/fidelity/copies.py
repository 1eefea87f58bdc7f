"""Does a generator replay its training images? Distances of generated images to their nearest training images, compared
with those of real images of patients that the generator never saw.

A generated image is a duplicate where its nearest training image is less than half as far as that of the median
held-out image. Half of the median is used, not the held-out minimum: the minimum grows as held-out images become few,
and rare findings have few. Distances are Euclidean in two spaces, and a duplicate in either counts: features of a
trained net, where a shifted copy or one with another contrast stays near, and pixels, where a copy is near whatever the
net computes (mirrored copies count).

An edited image is a real one in part, of its source's patient. It is compared with all other patients' images; how far
it lies from its own patient's is a number of its own.

Re-identification: a generated image points to a patient where it is nearer to a training image than the median image of
a patient with several is to the nearest other of that patient. A held-out image shows none of these patients: how often
it would do so is the rate to compare with.

Membership inference (Hayes et al. 2019; Chen et al. 2020, GAN-Leaks): how well the distance to the nearest generated
image separates training from held-out images, as an AUC; 0.5 reveals nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from cxr.core.resize import resize
from cxr.fidelity.measures import squared

SIDE = 32  # pixels are compared at this size at most
BLOCK = 1024


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 N x S x S -> N x D of mean 0 and norm 1, so that brightness and contrast don't count; D <= SIDE^2."""
    if images.shape[1] > SIDE:
        images = np.stack([resize(image, SIDE) for image in images]) if len(images) else images[:, :SIDE, :SIDE]
    flat = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


class Owners(NamedTuple):
    """The patients of two tables' rows. Pairs of one patient do not count; with `same`, they alone do."""

    a: np.ndarray
    b: np.ndarray
    same: bool = False

    def left_out(self, rows: slice) -> np.ndarray:
        """bool, rows of a x rows of b."""
        equal = self.a[rows, None] == self.b
        return ~equal if self.same else equal


def nearest(a: np.ndarray, b: np.ndarray, owners: Owners | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(Euclidean distance to the nearest row of b, its index), for each row of a; inf where owners leave none."""
    distance, place = np.empty(len(a)), np.empty(len(a), np.int64)
    for start in range(0, len(a), BLOCK):
        d = squared(a[start : start + BLOCK], b)
        if owners is not None:
            d = np.where(owners.left_out(slice(start, start + BLOCK)), np.inf, d)
        place[start : start + BLOCK] = d.argmin(1)
        distance[start : start + BLOCK] = np.sqrt(d.min(1))
    return distance, place


def to_own_patient(x: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """The distance to the nearest other image of the same patient, of each image of a patient with several."""
    order = np.argsort(patients, kind="stable")
    groups = np.split(order, np.flatnonzero(patients[order][1:] != patients[order][:-1]) + 1)
    distances = []
    for group in groups:
        if len(group) > 1:
            d = squared(x[group], x[group])
            np.fill_diagonal(d, np.inf)
            distances.append(np.sqrt(d.min(1)))
    return np.concatenate(distances) if distances else np.empty(0)


def duplicates(made: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Which generated images are duplicates, N bool; made and held_out: distances to the nearest training image."""
    return made < np.median(held_out) / 2


def membership(
    train: np.ndarray,
    held_out: np.ndarray,
    train_patients: np.ndarray,
    held_out_patients: np.ndarray,
    rng: np.random.Generator,
    replicates: int = 1000,
) -> tuple[float, float, float]:
    """(AUC, low, high) of separating training from held-out images by their distance to the nearest generated image.

    low and high: 95 % over a bootstrap that draws whole patients of both kinds.
    """
    correct = (train[:, None] < held_out) + 0.5 * (train[:, None] == held_out)  # ties count half

    def auc(w: np.ndarray, v: np.ndarray) -> float:
        """The AUC where training image i has weight w[i] and held-out image j weight v[j]."""
        return float(w @ correct @ v / (w.sum() * v.sum()))

    owners = [np.unique(patients, return_inverse=True)[1] for patients in (train_patients, held_out_patients)]
    counts = [owner.max() + 1 for owner in owners]
    drawn = [
        auc(*(rng.multinomial(n, np.full(n, 1 / n))[owner] for n, owner in zip(counts, owners, strict=True)))
        for _ in range(replicates)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(correct.mean()), float(low), float(high)


def judge(
    train: dict[str, np.ndarray],
    held_out: dict[str, np.ndarray],
    made: dict[str, np.ndarray],
    train_patients: np.ndarray,
    held_out_patients: np.ndarray,
    rng: np.random.Generator,
    sources: np.ndarray | None = None,
) -> tuple[dict, np.ndarray]:
    """(the numbers of fidelity.json on memorisation, generated images and their nearest training images as indices
    2 x N, most similar pair first).

    train, held_out, made: space -> N x D vectors. A space's training vectors are a whole multiple of the images,
    mirrored images after the others. sources: of edited images, their own patients N, among train_patients. They are
    left out, and own_median is the distance to them. Without held-out images there is no reference, and the numbers are
    None.
    """
    n, n_made = len(train_patients), len(next(iter(made.values())))
    owners = {space: _owners(sources, train_patients, len(train[space]) // n) for space in made}
    near = {space: nearest(made[space], train[space], owners[space]) for space in made}
    bounds = ("duplicates", "duplicates_low", "duplicates_high")
    result: dict = dict.fromkeys(bounds) | {"spaces": {}}
    if len(held_out_patients) == 0:
        distance, index = next(iter(near.values()))
        order = np.argsort(distance, kind="stable")
        return result, np.stack([order, index[order] % n])
    copied, closeness, place = np.zeros(n_made, bool), np.full(n_made, np.inf), np.zeros(n_made, np.int64)
    for space, (distance, index) in near.items():
        reference, _ = nearest(held_out[space], train[space])
        duplicate = duplicates(distance, reference)
        relative = distance / max(np.median(reference), 1e-12)
        closer = relative < closeness
        closeness, place = np.where(closer, relative, closeness), np.where(closer, index % n, place)
        copied |= duplicate
        # Without mirrored images: they would give training images two chances to be near, held-out ones only one.
        turned = None if sources is None else Owners(train_patients, sources)
        to_made = [nearest(x, made[space], who)[0] for x, who in ((train[space][:n], turned), (held_out[space], None))]
        auc = membership(*to_made, train_patients, held_out_patients, rng)
        result["spaces"][space] = {
            "generated_median": _round(np.median(distance)),
            "held_out_median": _round(np.median(reference)),
            "duplicates": _round(duplicate.mean()),
            "held_out_duplicates": _round(duplicates(reference, reference).mean()),
        } | _reidentified(train[space][:n], train_patients, distance, reference)
        interval = dict(zip(("membership_auc", "membership_low", "membership_high"), map(_round, auc), strict=True))
        result["spaces"][space] |= interval
        if (own := owners[space]) is not None:
            distance, _ = nearest(made[space], train[space], own._replace(same=True))
            result["spaces"][space]["own_median"] = _round(np.median(distance))
    interval = binomtest(int(copied.sum()), n_made).proportion_ci(method="wilson")
    result |= dict(zip(bounds, map(_round, (copied.mean(), interval.low, interval.high)), strict=True))
    order = np.argsort(closeness, kind="stable")
    return result, np.stack([order, place[order]])


def _reidentified(train: np.ndarray, patients: np.ndarray, made: np.ndarray, held_out: np.ndarray) -> dict:
    """The numbers on re-identification; None where no patient has two training images.

    train: N x D; patients: N; made and held_out: distances to the nearest training image.
    """
    own = to_own_patient(train, patients)
    if not len(own):
        return dict.fromkeys(("same_patient_median", "reidentified", "held_out_reidentified"))
    limit = np.median(own)
    return {
        "same_patient_median": _round(limit),
        "reidentified": _round((made < limit).mean()),
        "held_out_reidentified": _round((held_out < limit).mean()),
    }


def _owners(sources: np.ndarray | None, patients: np.ndarray, times: int) -> Owners | None:
    """Of edited images and training images that stand `times` over in a table."""
    return None if sources is None else Owners(np.asarray(sources, object), np.tile(patients, times))


def _round(value: float) -> float:
    return round(float(value), 6)
