"""Does a generator replay its training images? Nearest training neighbours of generated images, judged against those of
real images of patients that it never saw.

A generated image is a duplicate where its nearest training image is less than half as far as the median held-out
image's nearest. Half of a median, not the held-out minimum: that grows as held-out images become few, and rare findings
have few. Distances are Euclidean in two spaces, either of which suffices: a trained net's features (a copy moved or
with other contrast stays near), and pixels (a copy is near whatever a net makes of it; mirrored ones count).

Membership inference (Hayes et al. 2019; Chen et al. 2020, GAN-Leaks): how well the distance to the nearest generated
image tells a training image from a held-out one; an AUC of 0.5 gives nothing away.
"""

from __future__ import annotations

import math

import numpy as np

from cxr.core.resize import resize
from cxr.fidelity.measures import squared

SIDE = 32  # pixels are compared at this size at most
BLOCK = 1024


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 N x S x S -> N x D of mean 0 and norm 1, so that brightness and contrast don't count. D is at most
    SIDE^2.
    """
    if images.shape[1] > SIDE:
        images = np.stack([resize(image, SIDE) for image in images]) if len(images) else images[:, :SIDE, :SIDE]
    flat = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of a the Euclidean distance to the nearest row of b, and which it is."""
    distance, place = np.empty(len(a)), np.empty(len(a), np.int64)
    for start in range(0, len(a), BLOCK):
        d = squared(a[start : start + BLOCK], b)
        place[start : start + BLOCK] = d.argmin(1)
        distance[start : start + BLOCK] = np.sqrt(d.min(1))
    return distance, place


def duplicates(made: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Which generated images are duplicates, by the distances of generated and of held-out images to their nearest
    training image.
    """
    return made < np.median(held_out) / 2


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share of k in n (Wilson 1927)."""
    p, denominator = k / n, 1 + z * z / n
    centre, reach = (p + z * z / (2 * n)) / denominator, z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - reach / denominator), min(1.0, centre + reach / denominator)


def membership(
    train: np.ndarray,
    held_out: np.ndarray,
    train_patients: np.ndarray,
    held_out_patients: np.ndarray,
    rng: np.random.Generator,
    replicates: int = 1000,
) -> tuple[float, float, float]:
    """(AUC, low, high) of telling training from held-out images by their distance to the nearest generated image; 95 %
    over a bootstrap that draws whole patients of both kinds.
    """
    by_rank = np.argsort(train, kind="stable")
    places = [np.searchsorted(train[by_rank], held_out, side) for side in ("left", "right")]

    def area(w: np.ndarray, v: np.ndarray) -> float:
        """The AUC where training image i counts w[i] times and held-out image j v[j] times; ties count half."""
        nearer = np.concatenate([[0.0], np.cumsum(w[by_rank])])
        return float(v @ (nearer[places[0]] + nearer[places[1]]) / 2 / (w.sum() * v.sum()))

    codes = [np.unique(patients, return_inverse=True)[1] for patients in (train_patients, held_out_patients)]
    people = [code.max() + 1 for code in codes]
    drawn = [
        area(
            *(rng.multinomial(n, np.full(n, 1 / n))[code].astype(float) for n, code in zip(people, codes, strict=True))
        )
        for _ in range(replicates)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return area(np.ones(len(train)), np.ones(len(held_out))), float(low), float(high)


def judge(
    train: dict[str, np.ndarray],
    held_out: dict[str, np.ndarray],
    made: dict[str, np.ndarray],
    train_patients: np.ndarray,
    held_out_patients: np.ndarray,
    rng: np.random.Generator,
) -> tuple[dict, np.ndarray]:
    """(what is to be told, generated images and their nearest training images from the most alike pair on, 2 x N).

    train, held_out, made: space -> N x D vectors, training vectors of a space a whole multiple of the images long (the
    mirrored ones after the others). Without held-out images there is no reference, and every judgement is None.
    """
    n, n_made = len(train_patients), len(next(iter(made.values())))
    near = {space: nearest(made[space], train[space]) for space in made}
    told: dict = {"duplicates": None, "duplicates_low": None, "duplicates_high": None, "spaces": {}}
    if len(held_out_patients) == 0:
        space = next(iter(near))
        order = np.argsort(near[space][0], kind="stable")
        return told, np.stack([order, near[space][1][order] % n])
    copied, closeness, place = np.zeros(n_made, bool), np.full(n_made, np.inf), np.zeros(n_made, np.int64)
    for space, (distance, which) in near.items():
        reference, _ = nearest(held_out[space], train[space])
        mine = duplicates(distance, reference)
        relative = distance / max(np.median(reference), 1e-12)
        closer = relative < closeness
        closeness, place = np.where(closer, relative, closeness), np.where(closer, which % n, place)
        copied |= mine
        # Not the mirrored ones: they would give training images two chances to be near, held-out ones one.
        to_made = [nearest(x, made[space])[0] for x in (train[space][:n], held_out[space])]
        auc = membership(*to_made, train_patients, held_out_patients, rng)
        told["spaces"][space] = {
            "generated_median": _round(np.median(distance)),
            "held_out_median": _round(np.median(reference)),
            "duplicates": _round(mine.mean()),
            "held_out_duplicates": _round(duplicates(reference, reference).mean()),
        } | dict(zip(("membership_auc", "membership_low", "membership_high"), map(_round, auc), strict=True))
    shares = copied.mean(), *wilson(int(copied.sum()), n_made)
    told |= dict(zip(("duplicates", "duplicates_low", "duplicates_high"), map(_round, shares), strict=True))
    order = np.argsort(closeness, kind="stable")
    return told, np.stack([order, place[order]])


def _round(value: float) -> float:
    return round(float(value), 6)
