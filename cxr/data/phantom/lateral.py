"""The lateral film of the phantom: a patient seen from the side, arms up, with the signs that show there.

Body coordinates as in phantom_canvas, but x runs from the sternum (negative) to the back. Findings keep the key of
the frontal film, not its exact place: what lies at a base in front lies at a base here.
"""

from __future__ import annotations

import numpy as np

from cxr.data.phantom.anatomy import Anatomy, Sign, Signs
from cxr.data.phantom.canvas import Canvas, rise, soften, spline

HEART = np.float32([(-46, -40, -18, 14, 36, 40, 26, -10, -40), (6, -26, -46, -44, -18, 16, 42, 50, 36)]).T  # outline


class LateralChest:
    """Geometry and layers of one lateral film."""

    def __init__(self, anatomy: Anatomy, signs: Signs, rng: np.random.Generator, size: tuple[int, int]):
        u = rng.uniform
        self.anatomy, self.signs, self.rng = anatomy, signs, rng
        self.h = h = anatomy.height * u(0.92, 1.03)
        self.deep = deep = anatomy.width * (1.0 + 0.12 * anatomy.fat) * u(0.94, 1.06)  # AP diameter
        scale = u(0.92, 1.08) * min(size[1] / (236 * deep), size[0] / (h + 56))
        offset = rng.normal(0, 6, 2)
        tilt = float(np.clip(rng.normal(0, 2.5), -6, 6))
        self.canvas = canvas = Canvas(*size, scale, tilt, (12, 0.5 * h - 4), tuple(offset))
        sag = 0.08 * self.of("Atelectasis")
        self.front = self.curve([(2, 0.02), (-38, 0.12), (-66, 0.34), (-82, 0.6), (-86, 0.84)], 8)
        self.back = self.curve([(74, 1.05), (90, 0.8), (94, 0.5), (78, 0.18), (44, 0.01), (2, 0.02)], 8)
        rise_and_fall = [(-84, 0.86), (-50, 0.76 - sag), (-10, 0.74 - sag), (34, 0.83 - sag), (64, 0.97), (74, 1.05)]
        self.dome = self.curve(rise_and_fall, 8)
        self.field = soften(canvas.fill(np.concatenate([self.front, self.dome, self.back])), 1.0)
        self.air = canvas.thickness(self.field, 30)
        self.hilum = np.float32([10 * deep, 0.43 * h])
        self.opacity, self.fluid, self.dense = (canvas.zeros() for _ in range(3))
        self._body()
        self._heart()

    def of(self, finding: str) -> float:
        return self.signs[finding].severity if finding in self.signs else 0.0

    def curve(self, points, n: int = 6, closed: bool = False) -> np.ndarray:
        """A spline through points: x in units for a chest of common depth, y as a share of the height."""
        return spline(np.float32(points) * np.float32([self.deep, self.h]), n, closed)

    def spine_x(self, y: float) -> float:
        return float(self.deep * (60 + 26 * np.sin(np.pi * np.clip((y + 60) / (1.45 * self.h), 0, 1.2))))

    def _body(self) -> None:
        fat, breast = self.anatomy.fat, 34 * self.anatomy.breast + 8 * self.anatomy.fat
        chest = 12 + 16 * fat
        front = [(-96, -0.9), (-74, -0.42), (-64, -0.13), (-76 - chest, 0.25), (-88 - chest - breast, 0.62)]
        front += [(-92 - chest - 0.4 * breast, 0.85), (-92 - chest - 18 * fat, 1.15), (-92 - chest - 20 * fat, 2)]
        back = [(104 + chest, 2), (110 + chest, 0.9), (116 + chest, 0.5), (104 + chest, 0.12)]
        back += [(88, -0.21), (64, -0.47), (58, -0.9)]
        self.body = self.canvas.fill(np.concatenate([self.curve(front), self.curve(back)]))
        self.soft = self.canvas.thickness(self.body, 44 + 12 * fat)
        lift = self.rng.uniform(-50, 30)
        arm = [
            (26, 0.22),
            (10, -0.1),
            (-40 + lift, -0.42),
            (-90 + lift, -0.85),
            (10 + lift, -0.85),
            (50, -0.3),
            (70, 0.05),
        ]
        self.arms = soften(self.canvas.thickness(self.canvas.fill(self.curve(arm)), 28), 2)

    def _heart(self) -> None:
        large = self.of("Cardiomegaly")
        size = self.deep * self.anatomy.heart / 0.92 * (1 + 0.26 * large)
        centre = np.float32([-30 * self.deep + 9 * large, 0.64 * self.h - 6 * large])
        outline = HEART + 0.8 * self.anatomy.heart_shape[: len(HEART), None].astype(np.float32)
        shape = self.canvas.fill(centre + spline(outline * np.float32(size), 6, closed=True))
        self.heart = soften(self.canvas.thickness(shape, 34), 3.0)
        width = 14 + 0.6 * self.anatomy.tortuosity + 20 * self.of("Enlarged Cardiomediastinum")
        arch = self.curve([(-22, 0.42), (-14, 0.26), (8, 0.17), (36, 0.24), (50, 0.45), (58, 0.95)], 8)
        self.aorta = soften(self.canvas.stroke([arch], 1.35 * width) * np.float32(1 / 255), 3.0)


def _bones(chest: LateralChest) -> np.ndarray:
    a, canvas, h, d, rng = chest.anatomy, chest.canvas, chest.h, chest.deep, chest.rng
    bodies, y = [], -90.0
    crushed = -1
    if sign := chest.signs.get("Fracture"):
        crushed = int(sign.rng().integers(8, 13))
    while y < 1.5 * h:
        x, lean = chest.spine_x(y), chest.spine_x(y + 16) - chest.spine_x(y)
        half = 12 + 3.5 * float(np.clip(y / h, 0, 1))
        drop = 9 * chest.of("Fracture") if len(bodies) == crushed else 0.0
        bodies.append([(x - half, y + drop), (x + half, y), (x + half + lean, y + 14.5), (x - half + lean, y + 14.5)])
        y += 18.0
    outlines = [[*body, body[0]] for body in bodies]
    bone = 0.10 * soften(canvas.fill(*bodies), 1.2) + 0.07 * canvas.line(outlines, 2.0)
    bone *= 1 - 0.5 * rise(canvas.y - 0.98 * h, 12)
    arches = [[(body[1][0] + 4, body[1][1] + 6), (body[1][0] + 26, body[1][1] + 17)] for body in bodies]
    bone += 0.06 * canvas.line(arches, 6, 1.5)
    sternum = chest.front[4:-4] - np.float32([7 * d, 0])
    bone += 0.09 * canvas.tube([sternum], 9, wall=2)
    ribs = []
    for shift in (0.0, rng.uniform(4, 9)):
        for i in range(9):
            y0 = -6 + i * h / 9.2 + shift
            x0, reach = chest.spine_x(y0) + 18, (150 - 6 * abs(i - 4)) * d
            t = np.linspace(0, 1, 16)
            ribs.append(np.stack([x0 - reach * t**1.15 + 16 * np.sin(np.pi * t), y0 - 8 + (50 + 4 * i) * t**1.2], 1))
    fade = 1 - 0.7 * rise(canvas.y - 0.9 * h, 9)
    bone += 0.075 * canvas.tube(ribs, a.rib_width * 0.9, soft=1.0) * fade
    blade = spline([(60 * d, -10), (96 * d, 0.1 * h), (100 * d, 0.42 * h)], 6)
    bone += 0.09 * canvas.line([blade, blade - np.float32([14, -6])], 4, 1.0)
    return a.bone * bone


def _vessels(chest: LateralChest) -> np.ndarray:
    rng = np.random.default_rng((*chest.anatomy.key, 2))
    canvas, mask = chest.canvas, None
    for width, value, n, reach in ((0.8, 0.4, 34, 88), (1.6, 0.55, 20, 62), (3.0, 0.75, 11, 36)):
        paths = []
        for angle in rng.uniform(0, 2 * np.pi, n):
            end = chest.hilum + rng.uniform(0.5, 1) * reach * np.float32(
                [np.cos(angle) * chest.deep, 1.15 * np.sin(angle)]
            )
            paths.append(spline([chest.hilum, (chest.hilum + end) / 2 + rng.normal(0, 5, 2), end], 5))
        mask = canvas.stroke(paths, width, value, onto=mask)
    tree = mask * np.float32(1 / 255) + 0.7 * soften(canvas.disc(chest.hilum, (13, 17)), 3)
    return soften(tree * chest.anatomy.markings, 1.0)


def _place(chest: LateralChest, rng: np.random.Generator) -> np.ndarray:
    return np.float32([rng.uniform(-52, 66) * chest.deep, rng.uniform(0.2, 0.8) * chest.h])


def _airspace(chest: LateralChest, sign: Sign, density: float, rough: float, low: bool = False) -> None:
    rng, v = sign.rng(), sign.severity
    at = _place(chest, rng)
    if low:
        at[1] = rng.uniform(0.62, 0.85) * chest.h
    shape = chest.canvas.zeros()
    for _ in range(4):
        np.maximum(
            shape,
            chest.canvas.blob(at + rng.normal(0, 10, 2), (20 + 14 * v, 18 + 12 * v) * rng.uniform(0.5, 0.9, 2)),
            out=shape,
        )
    chest.opacity += density * shape * np.clip(1 + rough * chest.canvas.cloud(rng, 10), 0, 2) * chest.field


def _signs(chest: LateralChest) -> None:
    canvas, h = chest.canvas, chest.h
    airspace = {
        "Lung Opacity": (0.10, 0.2, False),
        "Pneumonia": (0.16, 0.6, False),
        "Consolidation": (0.24, 0.1, True),
        "Atelectasis": (0.13, 0.2, True),
    }
    for finding, (density, rough, low) in airspace.items():
        if sign := chest.signs.get(finding):
            _airspace(chest, sign, density + 0.12 * sign.severity, rough, low)
    if sign := chest.signs.get("Edema"):
        rng, v = sign.rng(), sign.severity
        veil = canvas.blob(chest.hilum, (52 + 20 * v, 60 + 20 * v)) * (1 + 0.3 * canvas.cloud(rng, 8))
        chest.opacity += (0.04 + 0.14 * v) * veil * chest.field
    if sign := chest.signs.get("Lung Lesion"):
        rng, v = sign.rng(), sign.severity
        radius = 6 + 13 * v**1.4
        at = _place(chest, rng)
        r = np.hypot(canvas.x - at[0], canvas.y - at[1]) / radius
        chest.opacity += (0.20 + 0.12 * v) * np.sqrt(np.clip(1 - r**2, 0, 1)) * chest.field
    if sign := chest.signs.get("Pneumothorax"):
        rim = chest.back[10:40] - np.float32([12 + 16 * sign.severity, -10])
        chest.dense += 0.10 * canvas.line([rim], 1.3)
    if sign := chest.signs.get("Pleural Effusion"):
        v = sign.severity
        level = 1.04 * h - (6 + 14 * v + 75 * v**2) + 16 * np.clip((80 * chest.deep - canvas.x) / 60, 0, 2) ** 1.5
        np.maximum(chest.fluid, rise(canvas.y - level, 3 + 2 * v) * chest.field, out=chest.fluid)
    if sign := chest.signs.get("Pleural Other"):
        part = chest.back[12:38] if sign.rng().random() < 0.6 else chest.front[8:26]
        np.maximum(chest.fluid, 0.8 * canvas.line([part], 9 + 12 * sign.severity, 1.5) * chest.field, out=chest.fluid)
    if sign := chest.signs.get("Support Devices"):
        rng, d = sign.rng(), chest.deep
        courses = [
            [(10, -110), (8 * d, 0), (16 * d, 0.24 * h)],
            [(-6, -110), (-20 * d, 0.1 * h), (-16 * d, 0.35 * h), (-10 * d, 0.52 * h)],
            [(-60 * d, 0.12 * h), (-30 * d, 0.16 * h), (-14 * d, 0.4 * h), (-30 * d, 0.62 * h), (-52 * d, 0.74 * h)],
            [(20, -110), (26 * d, 0.1 * h), (34 * d, 0.6 * h), (10 * d, 0.9 * h)],
        ]
        chosen = rng.permutation(4)[: 1 + int(2.5 * sign.severity)]
        chest.dense += 0.20 * canvas.line([spline(courses[k], 8) for k in chosen], 2.2)


def _abdomen(chest: LateralChest) -> np.ndarray:
    """A belly that is densest in its middle, with the stomach's bubble under the dome."""
    a, canvas, u = chest.anatomy, chest.canvas, chest.rng.uniform
    below = chest.soft * rise(canvas.y - 0.95 * chest.h, 10)
    round_ = np.exp(-((canvas.x * (1 / (80 * chest.deep))) ** 2))
    bubble = canvas.disc((u(4, 30) * chest.deep, u(0.9, 0.96) * chest.h), (u(16, 26), u(8, 13)), u(10, 30))
    return below * (0.10 + 0.14 * round_) - 0.12 * a.gas * (a.gas > 0.3) * soften(bubble, 1.6)


def lateral(
    anatomy: Anatomy, signs: Signs, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, Canvas]:
    """Attenuation before scatter, coverage of the body, and the canvas, of a film of size (height, width) pixels."""
    chest = LateralChest(anatomy, signs, rng, size)
    _signs(chest)
    a, canvas, h = anatomy, chest.canvas, chest.h
    solid = np.clip(np.maximum(0.9 * chest.heart, 0.3 * chest.aorta), 0, 1)
    total = (0.62 + 0.2 * a.fat) * chest.soft + _abdomen(chest)
    total += 0.26 * chest.arms + 0.16 * chest.soft * rise(-(canvas.y - 0.12 * h), 12)
    air = (0.52 + a.aeration + 0.08 * a.fat) * chest.air * (1 - 0.62 * solid) * (1 - chest.fluid)
    air *= 0.82 + 0.30 * np.clip(canvas.y / h, 0, 1)  # shoulders above: the spine darkens downwards
    opacity = np.clip(chest.opacity, 0, 0.5) * (1 - chest.fluid)
    total += np.minimum(opacity + 0.10 * _vessels(chest) * chest.air, 0.95 * air + 0.05) - air
    total += 0.09 * chest.heart + 0.06 * chest.aorta + 0.05 * chest.fluid
    second = chest.dome + np.float32([0, rng.uniform(-9, 9)])  # the other half of the diaphragm
    total += 0.06 * canvas.line([second], 1.5, 1.0) * chest.field
    windpipe = spline([(-2, -100), (4, 0.02 * h), tuple(chest.hilum - np.float32([0, 12]))], 6)
    total -= 0.10 * soften(canvas.stroke([windpipe], 11) * np.float32(1 / 255), 1.8)
    total += _bones(chest) * (0.5 + 0.5 * chest.soft) + 0.02 * canvas.cloud(rng, 22) * chest.soft + chest.dense
    return total, chest.body, canvas
