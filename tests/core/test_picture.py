"""Many X-rays as one picture."""

import numpy as np

from cxr.core.picture import grid


def test_tiles_stand_row_by_row_and_missing_ones_are_black():
    tiles = np.arange(1, 4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    assert grid(tiles, columns=2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 0], [3, 3, 0, 0]]
