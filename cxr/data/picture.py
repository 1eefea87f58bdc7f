"""A decoded picture, and what every format shares: limits, reduced decoding, stretching, the check for contrast."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

MAX_PIXELS = 64_000_000  # four times the largest digital detector; more is a mistake or a decompression bomb
MIN_SIDE = 16
BLANK = 8  # gray levels of 256 in which 98 % of a blank image's pixels lie
FENCE = 3.0  # quartile distances beyond the quartiles; farther out is "far out" in Tukey's Exploratory Data Analysis
MOST_REDUCED = 8  # a JPEG is decoded at 1, 1/2, 1/4 or 1/8 of its size
STRAYS = 0.05  # largest share of pixels beyond a fence that do not count; more are part of the picture


class Picture(NamedTuple):
    """A decoded image. pixels: uint8, H x W; filled: the width and height that the image fills; least: the smallest
    `at_least` for which decoding gives this very picture.

    The last column and row are partly filled where the decoder's reduction does not divide the image's size.
    """

    pixels: np.ndarray
    filled: tuple[float, float]
    least: int = 0


def whole(pixels: np.ndarray) -> Picture:
    """A picture that fills its array."""
    return Picture(pixels, pixels.shape[::-1])


def check_size(width: int, height: int) -> None:
    """Raise ValueError for a picture with more than MAX_PIXELS or a side under MIN_SIDE."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels: more than {MAX_PIXELS:,} are refused, undecoded")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width} x {height} pixels: too small for a radiograph")


def open_picture(data: bytes) -> Image.Image:
    """The header of a JPEG or PNG, checked; its pixels are not decoded yet."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except Image.DecompressionBombError as error:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels are refused, undecoded") from error
    check_size(*picture.size)
    return picture


def gray(picture: Image.Image) -> Image.Image:
    """A JPEG as gray, mode L. CMYK has no way there of its own."""
    return (picture.convert("RGB") if picture.mode == "CMYK" else picture).convert("L")


def reduced(picture: Image.Image, at_least: int) -> Picture:
    """A JPEG, decoded gray and reduced, no side below at_least."""
    width, shorter = picture.width, min(picture.size)
    drafted = picture.draft("L", (at_least, at_least))
    if not drafted:
        return whole(np.asarray(gray(picture)))
    filled = drafted[1][2:]
    factor = round(width / filled[0])
    least = 0 if factor == MOST_REDUCED else shorter // (2 * factor) + 1
    return Picture(np.asarray(gray(picture)), filled, least)


def to_bytes(share: np.ndarray) -> np.ndarray:
    """0 to 1 as 0 to 255, uint8; what lies outside is clipped."""
    return (np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)


def stretch(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """What each value is shown as, uint8: the darkest 0, the brightest 255, strays left aside.

    values: of any order; counts: how many pixels have each. One hot pixel, or a label burned in at the brightest value
    that there is, must not leave the anatomy a few gray levels. So the quartiles are taken of the pixels between the
    darkest and the brightest, and what lies farther than FENCE quartile distances beyond them, at most the share STRAYS
    and the darkest and brightest value themselves, is clipped. Without such pixels the whole range is stretched.
    """
    low, high = limits(values[counts > 0], counts[counts > 0])
    return to_bytes((values - low) / max(high - low, 1e-9))


def limits(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """The darkest and brightest value that count in `stretch`. counts: positive."""
    order = np.argsort(values)
    values, counts = values[order], counts[order]
    low, high = float(values[0]), float(values[-1])
    between = (values > low) & (values < high)
    inner, weights = values[between], counts[between]
    if not len(inner):
        return low, high
    below = np.cumsum(weights)
    n = below[-1]
    for tail in (0.25, 0.05):  # a flat background may hold both quartiles
        first, third = inner[np.searchsorted(below, (tail * n, (1 - tail) * n))]
        if third > first:
            break
    else:
        return low, high
    fence = FENCE * (third - first)
    kept = inner[inner >= first - fence]
    if low < first - fence and weights[inner < first - fence].sum() <= STRAYS * n:
        low = float(kept[0])
    kept = inner[inner <= third + fence]
    if high > third + fence and weights[inner > third + fence].sum() <= STRAYS * n:
        high = float(kept[-1])
    return low, high


def check_contrast(histogram: np.ndarray) -> None:
    """Raise ValueError for a blank image. histogram: pixels of each of the 256 gray levels."""
    below = np.cumsum(histogram)
    first, last = np.searchsorted(below, (0.01 * below[-1], 0.99 * below[-1]))
    if last - first < BLANK:
        raise ValueError(f"blank: 98 % of the pixels lie within {BLANK} of 256 gray levels")
