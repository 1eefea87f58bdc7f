"""Drawing in body coordinates: the film of the phantom, its shapes, strokes, clouds and blurs.

Body coordinates are about 1.2 mm a unit: x runs from the midline to the patient's left (the right of the film), y
runs down from the apices of the lungs. A film is a similarity of them: scaled, turned and shifted. Attenuation maps
are float32, height x width.
"""

from __future__ import annotations

import functools
import itertools

import cv2
import numpy as np

SUBPIXEL = 4  # OpenCV draws with this many binary digits after the point
_TURN = np.linspace(0, 2 * np.pi, 36, endpoint=False, dtype=np.float32)
CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)


def spline(points, n: int = 6, closed: bool = False) -> np.ndarray:
    """The Catmull-Rom curve through points (P x 2), n samples a segment, float32; n (P - 1) + 1 x 2, or n P x 2 when
    closed.
    """
    p = np.asarray(points, np.float32)
    if closed:
        q = np.concatenate([p[-1:], p, p[:2]])
    else:
        q = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    weights = _catmull_rom(n)
    curve = sum(weights[k, None, :, None] * q[k : len(q) - 3 + k, None] for k in range(4)).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


@functools.cache
def _catmull_rom(n: int) -> np.ndarray:
    """Weights of the four neighbouring points at n positions of a segment, 4 x n."""
    t = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    return 0.5 * np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])


def mirrored(points, side: int) -> np.ndarray:
    """Points given for the patient's left, on side +1 (left) or -1 (right)."""
    return np.asarray(points, np.float32) * np.float32([side, 1])


def rise(x: np.ndarray, width: float) -> np.ndarray:
    """A smooth step from 0 to 1 around x = 0; from 5 % to 95 % over six widths."""
    t = np.multiply(x, np.float32(-1 / width))
    np.exp(np.minimum(t, np.float32(80), out=t), out=t)
    t += np.float32(1)
    return np.reciprocal(t, out=t)


class Canvas:
    """A film of height x width pixels. Maps x, y hold every pixel's body coordinates."""

    def __init__(
        self,
        height: int,
        width: int,
        scale: float,
        degrees: float,
        centre: tuple[float, float],
        offset: tuple[float, float] = (0, 0),
    ):
        """scale: pixels a unit; centre: the body point that lies at the middle of the film, moved by offset pixels."""
        self.height, self.width, self.scale = height, width, float(scale)
        angle = np.deg2rad(degrees)
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        self._turn = np.float32([[cos, -sin], [sin, cos]])
        self._middle = np.float32([width / 2 + offset[0], height / 2 + offset[1]])
        self._centre = np.float32(centre)
        back = np.linalg.inv(self._turn)
        column = np.arange(width, dtype=np.float32)[None, :] - self._middle[0]
        row = np.arange(height, dtype=np.float32)[:, None] - self._middle[1]
        self.x = back[0, 0] * column + back[0, 1] * row + self._centre[0]
        self.y = back[1, 0] * column + back[1, 1] * row + self._centre[1]

    def pixels(self, points) -> np.ndarray:
        """Body points (... x 2) in pixels."""
        return (np.asarray(points, np.float32) - self._centre) @ self._turn.T + self._middle

    def _fixed(self, paths) -> list[np.ndarray]:
        points = self.pixels(np.concatenate([np.asarray(path, np.float32) for path in paths]))
        points, ends = np.rint(points * 2**SUBPIXEL).astype(np.int32), list(itertools.accumulate(map(len, paths)))
        return [points[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def zeros(self) -> np.ndarray:
        return np.zeros((self.height, self.width), np.float32)

    def fill(self, *polygons) -> np.ndarray:
        """Coverage in [0, 1] of the union of the polygons."""
        mask = np.zeros((self.height, self.width), np.uint8)
        for polygon in self._fixed(polygons):
            cv2.fillPoly(mask, [polygon], 255, cv2.LINE_AA, SUBPIXEL)
        return mask * np.float32(1 / 255)

    def stroke(self, paths, width: float, value: float = 1.0, onto: np.ndarray | None = None) -> np.ndarray:
        """Lines of a width in units (at least one pixel) along the paths, as uint8 of 255 value; onto: draw over an
        earlier one.
        """
        mask = np.zeros((self.height, self.width), np.uint8) if onto is None else onto
        pixels = max(1, round(width * self.scale))
        cv2.polylines(mask, self._fixed(paths), False, int(255 * value), pixels, cv2.LINE_AA, SUBPIXEL)
        return mask

    def line(self, paths, width: float, soft: float = 0.6) -> np.ndarray:
        """The paths as float32 lines in [0, 1], softened by a blur of so many pixels."""
        return soften(self.stroke(paths, width), soft) * np.float32(1 / 255)

    def tube(self, paths, width: float, wall: float = 1.5, soft: float = 0.7) -> np.ndarray:
        """Hollow lines: walls brighter than the lumen, as bones and catheters are."""
        outer = self.stroke(paths, width)
        if width * self.scale >= 4:
            outer -= self.stroke(paths, width - 2 * wall) >> 1
        return soften(outer, soft) * np.float32(1 / 255)

    def disc(self, centre, radii, degrees: float = 0.0) -> np.ndarray:
        """A filled ellipse of radii in units, coverage in [0, 1]."""
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        axes = np.float32([[radii[0] * cos, radii[0] * sin], [-radii[1] * sin, radii[1] * cos]])
        return self.fill(np.float32(centre) + CIRCLE @ axes)

    def blob(self, centre, radii) -> np.ndarray:
        """A Gaussian bump of height 1, cut off at 1e-4."""
        (cx, cy), (rx, ry) = map(float, centre), map(float, radii)
        reach, (column, row) = 3.1 * self.scale * max(rx, ry), self.pixels((cx, cy)).tolist()
        part = tuple(slice(max(0, int(at - reach)), max(0, int(at + reach) + 2)) for at in (row, column))
        bump, x, y = self.zeros(), (self.x[part] - cx) * (1 / rx), (self.y[part] - cy) * (1 / ry)
        bump[part] = np.exp(-(x * x + y * y))
        return bump

    def cloud(self, rng: np.random.Generator, cell: float) -> np.ndarray:
        """Smooth noise of about unit variance whose features are about cell units wide."""
        step = max(2.0, cell * self.scale)
        shape = int(self.height / step) + 3, int(self.width / step) + 3
        return cv2.resize(
            rng.standard_normal(shape, np.float32), (self.width, self.height), interpolation=cv2.INTER_CUBIC
        )

    def thickness(self, mask: np.ndarray, depth: float) -> np.ndarray:
        """Thickness along the beam of a round body of this outline, in [0, 1]; full at depth units from its edge."""
        distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        t = np.minimum(distance * np.float32(1 / (depth * self.scale)), 1)
        return np.sqrt(t * (2 - t))


def soften(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, sigma in pixels; wide ones are computed on a reduced image."""
    if sigma < 6:
        return cv2.GaussianBlur(image, (2 * round(3 * sigma + 0.5) + 1,) * 2, sigma)
    k = 4 if sigma >= 8 else 2
    height, width = image.shape
    small = cv2.resize(image, (width // k, height // k), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / k, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
