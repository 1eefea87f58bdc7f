"""The signs of the findings on a frontal film: each function draws one finding into the layers of a chest
(phantom_chest.Chest).

The other findings are changes of shape and live where the shape is made: Cardiomegaly and Enlarged Cardiomediastinum
in phantom_chest, Fracture in phantom_bones; Support Devices has phantom_devices. A sign's random shape comes from
its own key, so that it grows or shrinks with severity from study to study and stays in its place.
"""

from __future__ import annotations

import numpy as np

from cxr.data.phantom.anatomy import LEFT, RIGHT, SIDES, Sign
from cxr.data.phantom.canvas import mirrored, rise, soften, spline
from cxr.data.phantom.chest import Chest


def _inside(chest: Chest, side: int) -> np.ndarray:
    return np.clip(1.5 * chest.depth[side], 0, 1)


def _airspace(chest: Chest, rng: np.random.Generator, side: int, centre, radii, lumps: int, rough: float) -> np.ndarray:
    """A cluster of fluffy shadows around centre, within one lung; rough is how uneven."""
    canvas = chest.canvas
    shape = canvas.zeros()
    for _ in range(lumps):
        at = np.asarray(centre) + rng.normal(0, 0.5, 2) * radii
        np.maximum(shape, canvas.blob(at, np.asarray(radii) * rng.uniform(0.45, 0.85, 2)), out=shape)
    texture = 0.7 * canvas.cloud(rng, 13) + 0.3 * canvas.cloud(rng, 5)
    return np.clip(shape * (1 + rough * texture), 0, 1.2) * _inside(chest, side)


def _add_patch(chest: Chest, density: float, patch: np.ndarray) -> None:
    chest.opacity += density * patch
    chest.patches.append(patch)


def lung_opacity(chest: Chest, sign: Sign) -> None:
    """A haze of no particular cause, ill defined, on one side."""
    rng, v = sign.rng(), sign.severity
    centre = sign.side * rng.uniform(52, 84) * chest.anatomy.width, rng.uniform(0.18, 0.82) * chest.height
    _add_patch(chest, 0.13 + 0.17 * v, _airspace(chest, rng, sign.side, centre, (24 + 12 * v, 24 + 14 * v), 3, 0.25))


def pneumonia(chest: Chest, sign: Sign) -> None:
    """Patchy, uneven airspace shadowing in one zone, often in the other lung too."""
    rng, v = sign.rng(), sign.severity
    for side in (sign.side, -sign.side)[: 2 if rng.random() < 0.25 + 0.35 * v else 1]:
        zone = (0.25, 0.52, 0.74)[int(rng.integers(3))]
        centre = side * rng.uniform(56, 80) * chest.anatomy.width, zone * chest.height
        density = (0.14 + 0.20 * v) * (1 if side == sign.side else 0.75)
        _add_patch(chest, density, _airspace(chest, rng, side, centre, (24 + 16 * v, 22 + 15 * v), 5, 0.6))


def consolidation(chest: Chest, sign: Sign) -> None:
    """A dense, even shadow of a lobe with a sharp edge at its fissure and the dark branches of an air bronchogram."""
    rng, v, s = sign.rng(), sign.severity, sign.side
    canvas, h, w = chest.canvas, chest.height, chest.anatomy.width
    lobe = int(rng.integers(3))
    low = h * (0.46, 0.62, 0.98)[lobe]
    high = low - 1.4 * (28 + 30 * v)
    lateral = np.abs(canvas.x)
    slope = 0.1 * (lateral - 60)
    floor = rise(low + slope - canvas.y, 1.4) if lobe < 2 else rise(low - canvas.y, 7)
    width = np.exp(-np.minimum((np.abs(canvas.x - s * 62 * w) / (44 * w * (0.7 + 0.5 * v))) ** 4, 30))
    patch = _inside(chest, s) * rise(canvas.y - high, 7) * floor * width * (1 + 0.1 * canvas.cloud(rng, 14))
    hilum, bronchi = chest.hila[s], []
    for _ in range(4):
        end = np.float32([s * rng.uniform(45, 98) * w, rng.uniform(high, low)])
        bronchi.append(spline([hilum, (hilum + end) / 2 + rng.uniform(-6, 6, 2), end], 5))
    _add_patch(chest, 0.25 + 0.18 * v, patch * (1 - 0.4 * canvas.line(bronchi, 2.6, 0.9)))


def edema(chest: Chest, sign: Sign) -> None:
    """Hazy bat wings around the hila, veiled vessels, a veil over both lungs, Kerley's lines at the bases."""
    rng, v = sign.rng(), sign.severity
    canvas, h, w = chest.canvas, chest.height, chest.anatomy.width
    lean = rng.uniform(0.65, 1.0, 2)  # seldom even on both sides
    veil = canvas.zeros()
    for s, weight in zip(SIDES, lean.tolist(), strict=True):
        x, y = chest.hila[s].tolist()
        wing = canvas.blob(
            (x + s * 12, y + 14), ((32 + 22 * v) * rng.uniform(0.85, 1.2), (44 + 32 * v) * rng.uniform(0.85, 1.2))
        )
        veil = np.maximum(veil, weight * wing * _inside(chest, s))
    texture = 0.6 * canvas.cloud(rng, 11) + 0.5 * canvas.cloud(rng, 5)
    chest.opacity += (0.02 + 0.14 * v) * veil * (1 + 0.3 * texture) + 0.04 * v * chest.field * (1 + 0.3 * texture)
    kerley = []
    for s in SIDES:
        for _ in range(int(4 + 9 * v)):
            y, x = rng.uniform(0.55, 0.95) * h, s * 113 * w
            kerley.append([(x, y), (x - s * rng.uniform(8, 18), y + rng.uniform(-2, 2))])
    chest.opacity += 0.09 * canvas.line(kerley, 0.8) * chest.field


def lung_lesion(chest: Chest, sign: Sign) -> None:
    """One round nodule or mass, sometimes several."""
    rng, v, canvas = sign.rng(), sign.severity, chest.canvas
    for k in range(1 if rng.random() < 0.6 else int(rng.integers(2, 5))):
        s = sign.side if k == 0 else int(rng.choice(SIDES))
        radius = (8 + 14 * v**1.3) * (1 if k == 0 else rng.uniform(0.4, 0.9))
        centre = np.float32([s * rng.uniform(42, 98) * chest.anatomy.width, rng.uniform(0.14, 0.82) * chest.height])
        dx, dy = canvas.x - centre[0], canvas.y - centre[1]
        angle = np.arctan2(dy, dx)
        lobes = sum(rng.uniform(0.02, 0.07) * np.sin(n * angle + rng.uniform(0, 6.3)) for n in (2, 3, 5))
        r = np.hypot(dx, dy) / (radius * (1 + lobes))
        chest.opacity += (0.26 + 0.14 * v) * np.sqrt(np.clip(1 - r**2, 0, 1)) * np.clip(2 * chest.lung[s], 0, 1)


def atelectasis(chest: Chest, sign: Sign) -> None:
    """Bands at a base and a base that is denser; the half diaphragm and the midline follow (phantom_chest)."""
    rng, v, s = sign.rng(), sign.severity, sign.side
    rng.random()  # the share of the raised diaphragm
    canvas, h, w = chest.canvas, chest.height, chest.anatomy.width
    bands = []
    for _ in range(1 + int(3 * v)):
        y, x = rng.uniform(0.6, 0.88) * h, np.sort(rng.uniform(26, 108, 2) + (-8, 8)) * s * w
        bands.append(spline([(x[0], y), (x.mean(), y + rng.uniform(-5, 5)), (x[1], y + rng.uniform(-14, 10))], 6))
    chest.opacity += (0.18 + 0.14 * v) * canvas.line(bands, 2.0 + 2.5 * v * rng.random(), 1.1) * _inside(chest, s)
    base = _inside(chest, s) * rise(canvas.y - (0.86 - 0.08 * v) * h, 8)
    chest.opacity += (0.07 + 0.19 * v) * base * (1 + 0.2 * canvas.cloud(rng, 10))


def pneumothorax(chest: Chest, sign: Sign) -> None:
    """Black air without vessels outside a fine pleural line; the lung behind the line is smaller and denser."""
    rng, v, s, canvas = sign.rng(), sign.severity, sign.side, chest.canvas
    pivot = chest.hila[s] + np.float32([0, 24])
    shrink = np.float32([1 - 0.06 - 0.28 * v, 1 - (0.05 + 0.22 * v) * (1 if rng.random() < 0.7 else 0.5)])
    contour = pivot + (chest.outline[s] - pivot) * shrink
    lung = canvas.fill(contour)
    gap = np.clip(chest.lung[s] - lung, 0, 1) * (1 - chest.solid)
    chest.opacity *= 1 - gap
    chest.collapsed += rng.uniform(0.06, 0.12) * canvas.line([contour[: len(chest.wall[s])]], 1.3, 0.7) * chest.field
    chest.collapsed += (0.03 + 0.10 * v) * lung * chest.lung[s] * (1 - chest.solid)
    chest.free_air += (0.08 + 0.07 * v) * gap * np.clip(1.6 * chest.depth[s], 0, 1)
    chest.bloodless = gap


def pleural_effusion(chest: Chest, sign: Sign) -> None:
    """Fluid at the base with a meniscus along the wall; lying down it spreads as a veil over the whole lung."""
    rng, v, canvas = sign.rng(), sign.severity, chest.canvas
    for s in SIDES if rng.random() < 0.4 else (sign.side,):
        amount = v * (1 if s == sign.side else rng.uniform(0.4, 0.9))
        wall = chest.bottom(s) + 6 - (10 + 10 * amount + (70 if chest.pose.supine else 98) * amount**2)
        middle = wall + 14 + 26 * min(1, 1.5 * amount)
        across = np.clip(s * canvas.x / (118 * chest.anatomy.width), 0, 1)
        level = middle - (middle - wall) * across**2.2
        np.maximum(chest.fluid, rise(canvas.y - level, 2.5 + 2.5 * amount) * chest.lung[s], out=chest.fluid)
        if chest.pose.supine:
            chest.opacity += 0.16 * amount * chest.lung[s] * rise(canvas.y - 0.45 * chest.height, 26)


def pleural_other(chest: Chest, sign: Sign) -> None:
    """Thickened pleura along the wall or over the apex, often with calcified plaques."""
    rng, v, s, canvas = sign.rng(), sign.severity, sign.side, chest.canvas
    wall, n = chest.wall[s], len(chest.wall[s])
    apical = rng.random() < 0.35
    part = wall[: int(0.5 * n)] if apical else wall[int(0.3 * n) : int(0.97 * n)]
    depth = 4 + 7 * v
    waves = np.interp(np.arange(len(part)), np.linspace(0, len(part), 6), rng.uniform(0, 0.5 * depth, 6))
    course = part + np.stack([-s * waves, 0.3 * waves], 1).astype(np.float32)
    np.maximum(chest.fluid, 0.85 * canvas.line([course], 1.8 * depth, 1.2) * chest.lung[s], out=chest.fluid)
    if rng.random() < 0.55:
        for _ in range(2 + int(4 * v)):
            centre = s * rng.uniform(40, 102) * chest.anatomy.width, rng.uniform(0.3, 0.88) * chest.height
            plaque = canvas.disc(centre, (rng.uniform(5, 10), rng.uniform(1.5, 3.5)), rng.uniform(-40, 40))
            chest.bone += (0.06 + 0.08 * v) * soften(plaque, 0.8) * np.clip(1 + 0.5 * canvas.cloud(rng, 3), 0, 2)


def distractors(chest: Chest, rng: np.random.Generator) -> None:
    """What radiologists do not mention: a scar, a faint haze, a calcified granuloma."""
    s = int(rng.choice((RIGHT, LEFT)))
    at = s * rng.uniform(45, 95) * chest.anatomy.width, rng.uniform(0.15, 0.85) * chest.height
    kind = rng.random()
    if kind < 0.25:
        chest.opacity += rng.uniform(0.03, 0.07) * _airspace(chest, rng, s, at, (20, 18), 2, 0.4)
    elif kind < 0.40:
        scar = spline([at, np.add(at, rng.uniform(-9, 9, 2)), np.add(at, rng.uniform(-18, 18, 2))], 5)
        chest.opacity += 0.12 * chest.canvas.line([scar], 1.4, 0.9) * chest.lung[s]
    elif kind < 0.50:
        chest.bone += 0.12 * soften(chest.canvas.disc(at, (2.5, 2.2)), 0.8) * chest.lung[s]
    elif kind < 0.58 and s == RIGHT:
        fissure = mirrored(
            spline([(36, 0.5 * chest.height), (75, 0.49 * chest.height), (112, 0.53 * chest.height)], 5), s
        )
        chest.opacity += 0.10 * chest.canvas.line([fissure], 0.8) * chest.lung[s]


# In drawing order: the pneumothorax clears what lies outside the lung, the effusion covers it.
DRAWN = {
    "Lung Opacity": lung_opacity,
    "Lung Lesion": lung_lesion,
    "Edema": edema,
    "Consolidation": consolidation,
    "Pneumonia": pneumonia,
    "Atelectasis": atelectasis,
    "Pneumothorax": pneumothorax,
    "Pleural Effusion": pleural_effusion,
    "Pleural Other": pleural_other,
}


def draw(chest: Chest) -> None:
    """All signs of the chest that have a shape of their own."""
    for finding, function in DRAWN.items():
        if finding in chest.signs:
            function(chest, chest.signs[finding])
