"""Many X-rays as one picture."""

from __future__ import annotations

import math

import numpy as np

COLUMNS = 8


def grid(images: np.ndarray, columns: int = COLUMNS) -> np.ndarray:
    """N x S x S -> one picture of columns x ceil(N / columns) tiles, uint8; missing tiles are black."""
    n, s = images.shape[:2]
    rows = math.ceil(n / columns)
    tiles = np.zeros((rows * columns, s, s), np.uint8)
    tiles[:n] = images
    return tiles.reshape(rows, columns, s, s).transpose(0, 2, 1, 3).reshape(rows * s, columns * s)
