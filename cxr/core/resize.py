"""A gray image at another size. Stores, generated X-rays and features all use this resampling."""

from __future__ import annotations

import numpy as np
from PIL import Image


def resize(pixels: np.ndarray, size: int, filled: tuple[float, float] | None = None) -> np.ndarray:
    """uint8 H x W -> uint8 size x size, antialiased (bilinear over all input pixels that an output pixel covers).

    filled: width and height of the part to use, default all.
    """
    width, height = filled or pixels.shape[::-1]
    whole = Image.fromarray(pixels)
    return np.asarray(whole.resize((size, size), Image.Resampling.BILINEAR, (0, 0, width, height)))
