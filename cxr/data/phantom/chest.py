"""The frontal chest of the phantom: where lungs, heart and mediastinum lie, and how they add up to a film.

A radiograph is attenuation summed along the beam. `Chest` holds the geometry in body coordinates (phantom_canvas) and
the layers that bones (phantom_bones) and findings (phantom_findings) add to it; `attenuation` sums them up. Findings
that are a change of shape (a large heart, a wide mediastinum, a raised diaphragm, a shifted midline) enter here,
where the shapes are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cxr.data.phantom.anatomy import LEFT, RIGHT, SIDES, Anatomy, Pose, Signs
from cxr.data.phantom.canvas import Canvas, mirrored, rise, soften, spline

# The lateral wall of the lung from apex to costophrenic angle: half width by depth, for a lung 178 units high.
WALL = np.float32([(46, 0), (62, 2), (80, 13), (97, 42), (109, 85), (115, 125), (118, 160), (118, 178)])
# The outline of the heart, from its upper right corner round the apex, for the same lung.
HEART = np.float32(
    [(-20, -31, -41, -38, -8, 36, 68, 80, 75, 58, 35), (66, 100, 128, 166, 187, 192, 186, 163, 130, 102, 76)]
).T
# Units by which a finding pulls (or pushes) the midline to its side, per severity above an onset.
PULLS = {"Atelectasis": (9, 0.5), "Pneumothorax": (-16, 0.65), "Pleural Effusion": (-14, 0.75)}


@dataclass
class Chest:
    """Geometry and layers of one frontal film. Layers are float32 maps; findings add to them."""

    anatomy: Anatomy
    pose: Pose
    signs: Signs
    lung: dict[int, np.ndarray] = field(default_factory=dict)  # side -> coverage
    depth: dict[int, np.ndarray] = field(default_factory=dict)  # side -> thickness of air
    wall: dict[int, np.ndarray] = field(default_factory=dict)  # side -> lateral contour
    outline: dict[int, np.ndarray] = field(default_factory=dict)  # side -> whole contour
    patches: list[np.ndarray] = field(default_factory=list)  # airspace opacities, one map each

    def __post_init__(self) -> None:
        a, pose, canvas = self.anatomy, self.pose, self.pose.canvas
        self.canvas = canvas
        self.height = a.height * pose.breath
        self.shift = 5 * pose.yaw + self._pull()
        self._lungs()
        self._body()
        self._heart()
        self._mediastinum()
        low = {RIGHT: 4, LEFT: -5}  # the left hilum lies higher
        self.hila = {s: np.float32([s * 33 + 0.8 * self.shift, 0.46 * self.height + low[s]]) for s in SIDES}
        self.solid = np.clip(np.maximum(self.heart, 0.95 * self.middle), 0, 1)  # what leaves no room for air
        self.opacity, self.fluid, self.bone, self.metal = (canvas.zeros() for _ in range(4))
        self.free_air, self.collapsed, self.bloodless = (canvas.zeros() for _ in range(3))  # of a pneumothorax

    def severity(self, finding: str) -> float:
        return self.signs[finding].severity if finding in self.signs else 0.0

    def bottom(self, side: int) -> float:
        """Depth of the costophrenic angle."""
        return self.height + (self.anatomy.left_lower if side == LEFT else 0.0) - self._raised(side)

    def _raised(self, side: int) -> float:
        sign = self.signs.get("Atelectasis")
        return 20 * sign.severity * sign.rng().random() if sign and sign.side == side else 0.0

    def _pull(self) -> float:
        """Shift of the midline: towards lost volume, away from a pneumothorax under tension or a massive effusion."""
        pull = 0.0
        for finding, (strength, onset) in PULLS.items():
            if finding in self.signs:
                pull += self.signs[finding].side * strength * max(0.0, self.signs[finding].severity - onset)
        return pull

    def _lungs(self) -> None:
        a, h = self.anatomy, self.height
        for s in SIDES:
            bottom = self.bottom(s)
            wall = WALL * np.float32([a.width * (1 + 0.04 * s * self.pose.yaw), h / 178])
            wall[-1, 1], wall[-2, 1] = bottom + 8, min(wall[-2, 1], bottom - 14)
            dome = a.dome[0] if s == RIGHT else a.dome[1]
            inner = wall[-1, 0] - 3
            floor = [(inner, bottom + 4), (inner - 8, bottom - 5), (inner - 24, bottom - 0.7 * dome)]
            floor += [(62, bottom - dome), (38, bottom - 0.95 * dome), (14, bottom - 0.75 * dome)]
            medial = [(16, 0.7 * h), (20, 0.45 * h), (17, 0.27 * h), (21, 0.1 * h), (32, 4), (46 * a.width, 0)]
            self.wall[s] = mirrored(spline(wall, 8), s)
            rest = np.concatenate([spline(floor, 6), spline(medial, 6)])
            self.outline[s] = np.concatenate([self.wall[s], mirrored(rest, s)])
            self.lung[s] = soften(self.canvas.fill(self.outline[s]), 0.9)
        self.field = np.maximum(self.lung[RIGHT], self.lung[LEFT])
        self.air = self.canvas.thickness(self.field, 36)
        self.depth = {s: self.air * (self.lung[s] > 0.5) for s in SIDES}

    def _body(self) -> None:
        a, pose, canvas = self.anatomy, self.pose, self.canvas
        side, neck, drop, fat = (128 + 24 * a.fat) * a.width, 33 + 11 * a.fat, a.shoulder, a.fat
        out = 20 + 75 * pose.arms  # of the elbow
        half = [(neck, -160), (neck + 2, -52), (neck + 16, -34), (88, -22 + 0.4 * drop), (140, -8 + 0.8 * drop)]
        half += [(188, 12 + drop), (222, 46 + drop), (234, 100), (240 + 0.6 * out, 180), (235 + out, 330)]
        inside = [(side + 16 + 0.9 * out, 330), (side + 14 + 0.55 * out, 180), (side + 12 + 0.2 * out, 105)]
        inside.append((side + 9, 84))
        flank = [(side + 5, 104), (side, 140), (side + 4 * fat, 200), (side + 6 * fat, 280), (side - 2, 430)]
        half = np.concatenate([spline(half, 6), spline(inside, 5), spline(flank, 5)])
        self.body = canvas.fill(np.concatenate([mirrored(half, RIGHT), mirrored(half, LEFT)[::-1]]))
        self.soft = canvas.thickness(self.body, 40 + 12 * fat)

    def _heart(self) -> None:
        a, h = self.anatomy, self.height
        large = self.severity("Cardiomegaly")
        magnified = 1.06 if self.pose.view == "AP" else 1.0
        width = a.heart * a.width * magnified * (1.12 - 0.12 * self.pose.breath) * (1 + 0.30 * large)
        outline = HEART + 0.8 * a.heart_shape[:, None].astype(np.float32)
        outline[:, 0] = outline[:, 0] * width + self.shift + 4 * large - 1
        outline[:, 1] = (outline[:, 1] - 186) * (1 + 0.10 * large) * h / 185 + h - 2 + 0.4 * a.left_lower
        self.heart = soften(self.canvas.thickness(self.canvas.fill(spline(outline, 6, closed=True)), 36), 1.4)

    def _mediastinum(self) -> None:
        a, canvas, h = self.anatomy, self.canvas, self.height
        wide, right, left, knob = 0.0, 0.0, 0.0, a.knob
        if sign := self.signs.get("Enlarged Cardiomediastinum"):
            rng, wide = sign.rng(), sign.severity
            share = (0.9, 0.5, 0.15)[int(rng.integers(3))]  # nodes along the trachea, both, an unfolded aorta
            right, left = 27 * wide * share, 27 * wide * (1 - share)
            knob += 9 * wide * (1 - share)
        w, portable = a.mediastinum, 1.1 if self.pose.supine else 1.0

        def bulge(y: float, amount: float) -> float:
            return w * portable + 0.9 * amount * np.exp(-(((y - 0.24 * h) / (0.36 * h)) ** 2))

        rows = [y * h for y in (-0.02, 0.1, 0.2, 0.3, 0.4, 0.52)]
        veins = [(-bulge(y, right) * f, y) for y, f in zip(rows, (0.75, 0.85, 0.95, 1.0, 1.0, 1.1), strict=True)]
        aorta = [(bulge(y, left) * f, y) for y, f in zip(rows, (0.75, 0.82, 0.95, 0.95, 1.12, 1.15), strict=True)]
        border = [(-21, -90), (-19, -30), *veins, (-12, 0.72 * h), (12, 0.72 * h), *aorta[::-1], (19, -30), (21, -90)]
        border = spline(border, 5) + np.float32([0.8 * self.shift, 0])
        arch = (w + a.tortuosity * 0.6 - 7 + 0.7 * left + 0.8 * self.shift, 0.26 * h)
        outline = np.maximum(canvas.fill(border), canvas.disc(arch, (knob, knob * 1.3)))
        self.middle = soften(outline, 1.6)
        descent = [(6, 0.3 * h), (arch[0] - 1, 0.3 * h), (0.8 * w, 0.6 * h), (0.55 * w, h), (4, h)]
        self.descending = canvas.fill(spline(descent, 6, closed=True))


def attenuation(chest: Chest, vessels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The film's attenuation before scatter: soft tissue, less air, plus heart, vessels, opacities, bone and metal."""
    a, canvas, pose, h = chest.anatomy, chest.canvas, chest.pose, chest.height
    x, y, soft = canvas.x, canvas.y, chest.soft
    total = (0.54 + 0.22 * a.fat) * soft
    total += 0.14 * soft * np.exp(-((x / 70) ** 2))
    total += _abdomen(chest, rng)
    air = (0.45 + a.aeration + 0.10 * a.fat) * chest.air * (1 - 0.9 * chest.solid) * (1 - chest.fluid)
    hilar = sum(canvas.blob(chest.hila[s] + np.float32([12 * s, 10]), (34, 44)) for s in SIDES)
    crowding = rng.uniform(0, 0.07 if pose.supine else 0.035) * hilar  # of vessels, most when lying down
    opacity = np.clip(chest.opacity + crowding, 0, 0.55) * (1 - 0.5 * chest.solid)
    branches = vessels + 0.10 * canvas.cloud(rng, 3.2)  # and what is too fine to draw
    branches *= 0.09 * rng.uniform(0.75, 1.25) * np.clip(1.4 * chest.air, 0, 1) * (1 - 0.7 * chest.solid)
    filled = (opacity + branches * (1 - chest.bloodless)) * (1 - chest.fluid)
    total += np.minimum(filled, 0.95 * air + 0.06) - air
    total += chest.collapsed - chest.free_air
    total += 0.16 * chest.heart + 0.13 * chest.middle * (1 - 0.75 * chest.heart) * np.clip(0.45 + y * (1 / 90), 0.45, 1)
    total += 0.045 * chest.descending + 0.05 * chest.fluid
    windpipe = spline([(0.3 * a.scoliosis, -90), (0.4 * chest.shift, 0), (0.9 * chest.shift + 1, 0.36 * h)], 6)
    carina = (0.9 * chest.shift + 1, 0.35 * h)
    bronchi = [[carina, (s * 13 + chest.shift, 0.43 * h), (s * 28 + chest.shift, 0.49 * h)] for s in SIDES]
    tree = chest.canvas.stroke(bronchi, 5.5, 0.55)
    total -= 0.11 * soften(canvas.stroke([windpipe], 11, onto=tree) * np.float32(1 / 255), 1.6)
    total += _soft_shadows(chest, rng)
    total += chest.bone * (0.5 + 0.5 * soft) + 0.02 * canvas.cloud(rng, 22) * soft
    if pose.chin:
        jaw = 0.9 - 0.35 * pose.chin
        reach = rise(-(y + 70 * jaw - 8 + 0.012 * (x - chest.shift) ** 2), 1.6)
        total += (0.24 + 0.04 * canvas.cloud(rng, 12)) * reach * (np.abs(x) < 95)
    return total + chest.metal


def _row(canvas: Canvas, y: float) -> int:
    """The first row of pixels that reaches body depth y: what is drawn from there on can leave out the rows above."""
    return int(np.argmax(canvas.y[:, [0, -1]].max(1) > y))


def _soft_shadows(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Breasts and nipples."""
    a, canvas, h = chest.anatomy, chest.canvas, chest.height
    shadow = canvas.zeros()
    first = _row(canvas, 0.3 * h)
    x, y = canvas.x[first:], canvas.y[first:]
    low = 6 if chest.pose.supine else 14
    for s in SIDES:
        size = a.breast if not a.male else 0.35 * a.fat
        centre = (s * (68 + 8 * size + (10 if chest.pose.supine else 0)) * a.width, 0.77 * h + low * size)
        across, down = (x - centre[0]) * (1 / (46 + 18 * size)), (y - centre[1]) * (1 / (42 + 36 * size))
        hanging = np.clip(0.65 + 0.7 * down, 0, 1.2) * (1 - 0.6 * chest.pose.supine)  # dense below, fading upwards
        shadow[first:] += (0.01 + 0.24 * size) * np.sqrt(np.maximum(1 - across * across - down * down, 0)) * hanging
        if rng.random() < 0.12:
            shadow += 0.10 * canvas.disc((centre[0] + rng.uniform(-9, 9), centre[1] + rng.uniform(4, 14)), (4, 4))
    return shadow


def _abdomen(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """What lies under the diaphragm: a belly that thins to its flanks, the liver, the stomach's bubble, bowel gas."""
    a, canvas, h, u = chest.anatomy, chest.canvas, chest.height, rng.uniform
    first = _row(canvas, h - 60)
    x, y = canvas.x[first:], canvas.y[first:]
    below = chest.soft[first:] * rise(y - h + 12, 8)
    round_ = np.sqrt(np.clip(1 - (x * (1 / (150 * a.width))) ** 2, 0, 1))
    belly = (0.06 + 0.12 * a.fat) + (0.13 + 0.05 * a.fat) * round_
    belly += 0.07 * rise(18 - x, 12) * rise(h + u(34, 70) - 0.25 * x - y, 7)  # the liver and its edge
    belly -= u(0.02, 0.08) * rise(y - h - 30, 14)
    gas, under = np.zeros_like(x), chest.bottom(LEFT) - a.dome[1]
    if a.gas > 0.3:
        wide, tall, middle = u(18, 34), u(10, 18), 56 * a.width + rng.normal(0, 7)
        bubble = canvas.disc((middle, under + 8 + tall), (wide, tall), u(-12, 12))[first:]
        if not chest.pose.supine:  # a level of fluid
            bubble *= rise(under + 8 + u(0.9, 1.6) * tall - y, 1)
        gas += a.gas * soften(bubble, 1.4)
    if a.gas < 0.75:
        loops = [canvas.disc((u(40, 110) * a.width, h + u(18, 60)), u(6, 14, 2), u(-40, 40)) for _ in range(3)]
        gas = np.maximum(gas, u(0.3, 0.8) * soften(np.maximum.reduce(loops)[first:], 2.4))
    total = canvas.zeros()
    total[first:] = below * (belly - 0.17 * gas * rise(y - under - 2, 2))
    return total
