"""A heat map as colour over an X-ray, for any colour vision."""

from __future__ import annotations

import matplotlib
import numpy as np
from PIL import Image

OPAQUE = 0.65  # of the colour where a map is largest; nothing where it is 0
COLOURS = "inferno"  # its brightness rises with the value


def enlarged(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map at another size (width, height), between 0 and 1."""
    large = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(large), 0, 1)


def coloured(gray: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """uint8 H x W with a map S x S of 0 to 1 over it: uint8 H x W x 3."""
    value = enlarged(heat, gray.shape[::-1])
    colour = matplotlib.colormaps[COLOURS](value)[..., :3] * 255
    opacity = OPAQUE * value[..., None]
    return ((1 - opacity) * gray.astype(np.float32)[..., None] + opacity * colour).round().astype(np.uint8)


def outlined(gray: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 H x W x 3 with the border of the masked pixels (bool H x W) in yellow."""
    inner = mask.copy()
    inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    inner[[0, -1]] = False
    inner[:, [0, -1]] = False
    result = np.repeat(gray[..., None], 3, axis=2)
    result[mask & ~inner] = (255, 210, 0)
    return result
