"""A gray image at another size, by the same resampling wherever sizes differ: stores, generated X-rays, features."""

from __future__ import annotations

import numpy as np
from PIL import Image


def resize(pixels: np.ndarray, size: int, filled: tuple[float, float] | None = None) -> np.ndarray:
    """uint8 H x W to uint8 size x size, antialiased: a pixel is a weighted mean of all input pixels near it.

    filled: the width and height that count (a Picture's); default all.
    """
    width, height = filled or pixels.shape[::-1]
    whole = Image.fromarray(pixels)
    return np.asarray(whole.resize((size, size), Image.Resampling.BILINEAR, (0, 0, width, height)))
