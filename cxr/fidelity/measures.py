"""Quality of generated X-rays: distances between two sets of images, each compared with the same distance between two
sets of real images.

Feature vectors are N x D (rows are images). Every measure depends on the number of images: a Frechet distance between
two small halves of one data set is far from 0. A value is therefore compared with its floor, the same measure at the
same n between real images of different patients (`compare`).

Sources: FID, Heusel et al. 2017; KID, Binkowski et al. 2018; improved precision and recall, Kynkaanniemi et al. 2019;
density and coverage, Naeem et al. 2020; MS-SSIM, Wang et al. 2003, as a measure of diversity, Odena et al. 2017.
"""

from __future__ import annotations

import numpy as np

from cxr.gan.kid import kid

MEASURES = ("fid", "kid", "precision", "recall", "density", "coverage", "ms_ssim")
LARGEST = 1000  # images in a set: the matrices of KID and of the neighbours grow with its square
PAIRS = 100  # pairs of images for one MS-SSIM
NEIGHBOURS = 3  # of precision and recall
CLOSEST = 5  # of density and coverage
WINDOW, SIGMA = 11, 1.5  # pixels
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, len(a) x len(b)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, 0)


def _factor(x: np.ndarray) -> np.ndarray:
    """A matrix F of at most D rows with F' F = the covariance of x."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return np.linalg.qr(centred, mode="r") if len(x) > x.shape[1] else centred


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance between the Gaussians of two sets, |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2).

    With F' F = S, the trace of the last term is the sum of the singular values of F_a F_b'. This avoids the square root
    of a D x D matrix, which is singular for fewer than D images.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    fa, fb = _factor(a), _factor(b)
    shared = np.linalg.svd(fa @ fb.T, compute_uv=False).sum()
    gap = a.mean(0) - b.mean(0)
    return float(max(gap @ gap + (fa**2).sum() + (fb**2).sum() - 2 * shared, 0.0))


def precision_recall(real: np.ndarray, made: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """(share of `made` inside the manifold of `real`, share of `real` inside the manifold of `made`).

    A manifold is the union of balls around the images, each up to its k-th nearest other image. Both sets need more
    than k images.
    """

    across = squared(real, made)
    return (
        float((across <= _radius(real, k)[:, None]).any(0).mean()),
        float((across <= _radius(made, k)[None, :]).any(1).mean()),
    )


def _radius(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each image to its k-th nearest other."""
    d = squared(x, x)
    np.fill_diagonal(d, -1.0)  # an image is its own nearest, even where it has copies
    return np.partition(d, k, axis=1)[:, k]


def density_coverage(real: np.ndarray, made: np.ndarray, k: int = CLOSEST) -> tuple[float, float]:
    """(density, coverage) with the balls of `precision_recall` around the real images.

    Density: the balls that a generated image lies in, on average, over k; above 1 where they crowd around the densest
    real images. One stray real image with a large ball moves it less than precision. Coverage: share of the real images
    with a generated one in their ball; it does not grow with stray generated images, as recall does. Real images: more
    than k.
    """
    inside = squared(real, made) <= _radius(real, k)[:, None]
    return float(inside.sum(0).mean() / k), float(inside.any(1).mean())


def scales(size: int) -> int:
    """Number of MS-SSIM's five scales that an image of this size has room for."""
    return sum(size // 2**s >= WINDOW for s in range(len(SCALES)))


def _blur(x: np.ndarray) -> np.ndarray:
    """N x H x W filtered by the Gaussian window where it lies inside the image: H and W shrink by WINDOW - 1."""
    taps = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    taps /= taps.sum()
    h, w = (side - WINDOW + 1 for side in x.shape[1:])
    x = sum(t * x[:, i : i + h] for i, t in enumerate(taps))
    return sum(t * x[:, :, i : i + w] for i, t in enumerate(taps))


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multi-scale structural similarity of each a[i] and b[i] (uint8 N x S x S): N values, 1 for equal images.

    Images without room for five scales have the first ones, with weights scaled to a sum of 1. torchmetrics' mean over
    the last scale includes mirrored borders, which outweigh the image itself at a GAN's sizes.
    """
    a, b = a.astype(float), b.astype(float)
    weights = np.array(SCALES[: scales(a.shape[1])])
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    result = np.ones(len(a))
    for level, weight in enumerate(weights):
        if level:
            n, side = len(a), a.shape[1] // 2
            a, b = (x[:, : 2 * side, : 2 * side].reshape(n, side, 2, side, 2).mean((2, 4)) for x in (a, b))
        ma, mb = _blur(a), _blur(b)
        va, vb, cov = _blur(a * a) - ma**2, _blur(b * b) - mb**2, _blur(a * b) - ma * mb
        contrast = (2 * cov + c2) / (va + vb + c2)
        if level == len(weights) - 1:
            contrast = contrast * (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
        result *= np.maximum(contrast.mean((1, 2)), 0) ** weight
    return result


def halves(patients: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two sets of images of equal size, at most LARGEST each, with no patient in both."""
    code = np.unique(patients, return_inverse=True)[1]
    place = rng.permutation(code.max(initial=-1) + 1)[code]  # each patient's place in a random order
    order = np.lexsort((rng.random(len(code)), place))
    ends = np.flatnonzero(np.diff(place[order])) + 1  # where one patient's images end
    if not len(ends):
        return order[:0], order[:0]
    cut = ends[np.abs(ends - len(order) / 2).argmin()]
    m = min(cut, len(order) - cut, LARGEST)
    return rng.permutation(order[:cut])[:m], rng.permutation(order[cut:])[:m]


def measure(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """All MEASURES but MS-SSIM, of features b against the real features a."""
    precision, recall = precision_recall(a, b, min(NEIGHBOURS, len(a) - 1, len(b) - 1))
    density, coverage = density_coverage(a, b, min(CLOSEST, len(a) - 1))
    manifolds = {"precision": precision, "recall": recall, "density": density, "coverage": coverage}
    return {"fid": frechet(a, b), "kid": kid(a, b)} | manifolds


def compare(
    real: np.ndarray,
    made: np.ndarray,
    real_images: np.ndarray,
    made_images: np.ndarray,
    patients: np.ndarray,
    *,
    replicates: int,
    rng: np.random.Generator,
) -> list[dict]:
    """Rows of replicate, which (generated | real), n and MEASURES: a random half of the real images against equally
    many generated ones (generated), and against the other half (real: the floor).

    real, made: features, equally many; *_images: uint8 N x S x S; patients: of the real images. MS-SSIM is the mean
    over pairs: of two generated images, and of two real images of different patients. There are no rows where a half
    would have fewer than two images.
    """
    assert len(real) == len(made) == len(patients)
    rows = []
    for replicate in range(replicates):
        a, b = halves(patients, rng)
        n = len(a)
        if n < 2:
            continue  # two images, or one patient with nearly all of them
        order = rng.permutation(len(made))
        g, h = order[:n], order[n : 2 * n]
        for which, values, images in (
            ("generated", measure(real[a], made[g]), (made_images[g], made_images[h])),
            ("real", measure(real[a], real[b]), (real_images[a], real_images[b])),
        ):
            similarity = ms_ssim(*(x[:PAIRS] for x in images)).mean()
            rows.append({"replicate": replicate, "which": which, "n": n} | values | {"ms_ssim": float(similarity)})
    return rows


def summary(rows: list[dict]) -> dict[str, dict]:
    """Mean and middle 95 % over the random halves, per measure: generated, floor, their difference.

    The spread between random halves approximates that between samples of patients (the delete-half jackknife). The
    measures describe and decide nothing: at some dozens of images they miss what the eye sees, which two_sample finds.
    """
    result = {}
    for name in MEASURES if rows else ():
        generated, floor = (np.array([r[name] for r in rows if r["which"] == w]) for w in ("generated", "real"))
        parts = {"generated": generated, "floor": floor, "difference": generated - floor}
        result[name] = {part: spread(values) for part, values in parts.items()}
    return result


def spread(values: np.ndarray) -> dict[str, float]:
    """Mean and middle 95 %."""
    low, high = np.quantile(values, (0.025, 0.975))
    return {"mean": round(float(values.mean()), 6), "low": round(float(low), 6), "high": round(float(high), 6)}
