"""KID, the kernel distance between two sets of feature vectors (Binkowski et al. 2018), in a file of its own: the GANs'
selection and the report's measures share it, and neither depends on the rest of the other.
"""

from __future__ import annotations

import numpy as np


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD under k(x, y) = (x'y / D + 1)^3 between features N x D and M x D. Expected 0 for two sets of
    one kind, so that it may be negative.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())
