"""How far an image is from those that a model was trained on, and its view, from the features of the last layer.

One Gaussian for each view with a common covariance (Lee et al. 2018, section 2.1; linear discriminant analysis). The
squared distance to the nearest mean says whether the image is one of their kind, the nearest mean which view it is.

Shapes: N images, D features, V views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

VIEWS = ("frontal", "lateral")
ROUNDING = 1e-4  # a feature computed in another batch or on another machine differs by less
SHRINKAGE = 1e-3  # of the covariance towards a sphere, so that fewer images than features give one that can be inverted


class Gaussians(NamedTuple):
    """means: V x D; whitening: D x D, whose product with its transpose is the inverse covariance; both float32. views:
    V names.
    """

    means: np.ndarray
    whitening: np.ndarray
    views: tuple[str, ...]


def fit(features: np.ndarray, views: Sequence[str]) -> Gaussians:
    """The Gaussians of N training images, with their views (frontal or lateral). N is at least 2."""
    names = np.asarray(views, object)
    present = tuple(view for view in VIEWS if (names == view).any())
    features = features.astype(np.float64)
    means = np.stack([features[names == view].mean(axis=0) for view in present])
    centred = features - means[[present.index(name) for name in names]]
    covariance = centred.T @ centred / len(centred)
    sphere = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * sphere * np.eye(len(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    return Gaussians(means.astype(np.float32), whitening.astype(np.float32), present)  # as the file keeps them


def distances(gaussians: Gaussians, features: np.ndarray) -> np.ndarray:
    """Mahalanobis's distance of N images to each view's mean: N x V."""
    x = features.astype(np.float64)
    return np.stack([np.linalg.norm((x - mean) @ gaussians.whitening, axis=1) for mean in gaussians.means], axis=1)


def threshold(own: np.ndarray, false_alarms: float) -> float:
    """The distance that a new image of the same kind exceeds with at most this probability, from N images of the kind
    that the statistics were not made of (split conformal; Vovk et al. 2005): their order statistic number
    ceil((N + 1)(1 - false_alarms)), or the largest where N is too few for that, and a hair more for rounding.
    """
    rank = math.ceil((len(own) + 1) * (1 - false_alarms) - 1e-9)
    return float(np.sort(own)[min(rank, len(own)) - 1]) * (1 + ROUNDING)
