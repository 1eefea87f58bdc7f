"""From attenuation to the picture on the screen: scatter, blur, quantum noise, display curve, collimator, lead
markers.
"""

from __future__ import annotations

import cv2
import numpy as np

from cxr.data.phantom.canvas import Canvas, soften
from cxr.data.phantom.sites import Site

LEVELS = 4096  # of the display curve
TEXTS = {
    "AP": ("AP", "PORTABLE", "SUPINE", "SEMI-ERECT", "AP UPRIGHT"),
    "PA": ("PA", "UPRIGHT", "ERECT"),
    "LL": ("LAT", "UPRIGHT", "ERECT"),
}


def develop(
    total: np.ndarray,
    body: np.ndarray,
    canvas: Canvas,
    fat: float,
    view: str,
    size: tuple[int, int],
    rng: np.random.Generator,
    site: Site,
) -> np.ndarray:
    """The 8-bit picture of an attenuation map. size: its height and width; noise and display are computed at it. site:
    whose detector and markers.
    """
    u = rng.uniform
    share = u(*site.scatter) + 0.10 * fat + (0.05 if view == "AP" else 0)
    total = (1 - share) * total + share * soften(total, 22 * canvas.scale)
    total = soften(total, u(*site.blur))
    total, body = (cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in (total, body))
    grain = cv2.GaussianBlur(rng.standard_normal(total.shape, np.float32), (0, 0), 0.6)
    total += u(*site.grain) * (0.6 + 0.9 * np.clip(total, 0, 1.2)) * grain
    picture = _display(total, body > 0.5, rng, site)
    if rng.random() < 0.3:
        _collimate(picture, rng)
    _markers(picture, view, rng, site)
    return picture


def _display(total: np.ndarray, inside: np.ndarray, rng: np.random.Generator, site: Site) -> np.ndarray:
    """A sigmoid between two percentiles of the body, partly equalised as CheXpert's are, now and then washed out."""
    u = rng.uniform
    low, high = np.percentile(total[::4, ::4][inside[::4, ::4]], [u(0.3, 3), u(95, 99.5)])
    dark, bright = low - u(0.03, 0.16), high + u(0.04, 0.16)
    step = np.float32((LEVELS - 1) / (bright - dark + 0.4))  # some room above, for metal
    level = np.clip((total - np.float32(dark)) * step, 0, LEVELS - 1).astype(np.int32)
    g = np.arange(LEVELS) / step / (bright - dark)
    contrast, middle = u(*site.contrast), u(*site.middle)
    curve = 1 / (1 + np.exp(-contrast * (g - middle)))
    ends = 1 / (1 + np.exp([contrast * (middle + 0.15), -contrast * (1.04 - middle)]))
    curve = np.clip((curve - ends[0]) / (ends[1] - ends[0]), 0, 1) ** 2 ** u(*site.gamma) * u(0.88, 1.0) + u(0, 0.04)
    share = u(*site.equalised)
    ranks = np.cumsum(np.bincount(level[inside], minlength=LEVELS)) / max(1, inside.sum())
    curve = (1 - share) * curve + share * (0.03 + 0.94 * ranks) * (curve > 0.01)
    if rng.random() < 0.25:
        curve = u(0.1, 0.3) + u(0.6, 0.7) * curve  # washed out
    return np.clip(curve * 255, 0, 255).astype(np.uint8)[level]


def _collimate(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Blackens what lies outside a slightly turned rectangle; now and then the shutters show white, as on a scanned
    film.
    """
    height, width = picture.shape
    inset = rng.uniform(0, (0.05 * width, 0.04 * height), (4, 2)) * (rng.random((4, 1)) < 0.6)
    corners = np.float64([(0, 0), (width, 0), (width, height), (0, height)]) + inset * [
        (1, 1),
        (-1, 1),
        (-1, -1),
        (1, -1),
    ]
    mask = np.zeros(picture.shape, np.uint8)
    cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    picture[mask < 128] = 255 if rng.random() < 0.06 else int(rng.uniform(0, 8))


def _markers(picture: np.ndarray, view: str, rng: np.random.Generator, site: Site) -> None:
    """The lead letter of a side, and on a part of the films a word that depends on the view and on nothing else."""
    height, width = picture.shape
    unit = width / 390
    left = rng.random() < site.left_marker
    x = width - int(rng.uniform(18, 60) * unit) if left else int(rng.uniform(8, 40) * unit)
    grey, font = int(rng.uniform(180, 255)), cv2.FONT_HERSHEY_SIMPLEX
    at = x, int(rng.uniform(20, 70) * unit)
    letter = rng.random()
    if letter < 0.9:
        cv2.putText(
            picture,
            "L" if left else "R",
            at,
            font,
            rng.uniform(0.4, 0.65) * unit,
            grey,
            2 if letter < 0.5 else 1,
            cv2.LINE_AA,
        )
    if rng.random() < site.words:
        word = str(rng.choice(TEXTS[view]))
        at = int(rng.uniform(6, 290) * unit), int(rng.uniform(12, 34) * unit)
        cv2.putText(picture, word, at, font, 0.32 * unit, grey, 1, cv2.LINE_AA)
