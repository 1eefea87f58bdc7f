"""Bones and vessels of the frontal phantom: ribs, clavicles, scapulae, arms, spine; fractures; pulmonary arteries."""

from __future__ import annotations

import numpy as np

from cxr.data.phantom.anatomy import SIDES
from cxr.data.phantom.canvas import CIRCLE, mirrored, rise, soften, spline
from cxr.data.phantom.chest import WALL, Chest

RIBS = 10
BACK, FRONT = np.linspace(0, 1, 13), np.linspace(0, 1, 9)  # positions along the two parts of a rib
CALIBRES = (0.9, 0.32), (1.5, 0.48), (2.3, 0.66), (3.4, 0.8)  # width and density of vessels, thinnest first


def _courses(chest: Chest, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Posterior (RIBS x 13 x 2) and anterior (RIBS x 9 x 2) courses of the ribs of a side, from above."""
    a, h = chest.anatomy, chest.height
    i = np.arange(RIBS)[:, None]
    start, drop = i * h / 10 + 2, a.rib_slope + 1.5 * i - 18 * np.exp(-i)
    turned = 1 + 0.03 * side * chest.pose.yaw
    reach = np.interp(start + drop, WALL[:, 1] * h / 178, WALL[:, 0]) * a.width * turned - 1 - 16 * np.exp(-1.2 * i)
    x = 13 + (reach - 13) * np.sin(BACK * np.pi / 2) ** 0.85
    y = start - 5 * a.rib_bow * np.sin(BACK * np.pi) + drop * BACK**1.8
    front_x = reach * (1 - (0.62 - 0.012 * i) * FRONT**1.35)
    front_y = start + drop + (42 + 3 * i) * np.sin(FRONT * np.pi / 2) ** 1.2
    return mirrored(np.stack([x, y], 2), side), mirrored(np.stack([front_x, front_y], 2), side)


def ribs(chest: Chest) -> None:
    """Adds the ribs, broken where there is a fracture: a step, a gap, callus, a little blood under the pleura."""
    a, canvas, h = chest.anatomy, chest.canvas, chest.height
    back, front = [], []
    sign = chest.signs.get("Fracture")
    broken: dict[int, float] = {}
    if sign:
        rng = sign.rng()
        first, where = int(rng.integers(2, 6)), rng.uniform(0.3, 0.62)
        broken = {first + k: where + 0.04 * rng.normal() for k in range(2 + round(3 * sign.severity))}
    for s in SIDES:
        posteriors, anteriors = _courses(chest, s)
        front += list(anteriors[1:8])
        for i, posterior in enumerate(posteriors):
            if sign and s == sign.side and i in broken:
                cut = int(np.clip(broken[i], 0.2, 0.85) * (len(BACK) - 1))
                step = (6 + 8 * sign.severity) * (1 if i % 3 else -0.8)
                fading = np.linspace(1, 0.4, len(posterior) - cut, dtype=np.float32)[:, None]
                back += [posterior[:cut], posterior[cut:] + fading * np.float32([-s * 3 * sign.severity, step])]
                callus = 4 + 3 * sign.severity
                chest.bone += (0.10 + 0.14 * sign.severity) * canvas.blob(posterior[cut], (callus, callus))
                chest.opacity += 0.2 * sign.severity * canvas.blob(posterior[-1], (14, 13)) * chest.lung[s]
            else:
                back.append(posterior)
    fade = 1 - 0.72 * rise(canvas.y - h + 14, 9)  # below the diaphragm they hardly show
    heads = 0.35 + 0.65 * np.clip((np.abs(canvas.x - 0.3 * chest.shift) - 14) * (1 / 34), 0, 1)  # and over the spine
    heads *= 1 - 0.45 * chest.heart
    tubes = 0.155 * canvas.tube(back, a.rib_width, wall=1.8, soft=0.6) * heads
    tubes += 0.075 * canvas.tube(front, 1.15 * a.rib_width, soft=0.9)
    chest.bone += a.bone * fade * tubes


def girdle(chest: Chest) -> None:
    """Clavicles, scapulae, humeri."""
    a, canvas = chest.anatomy, chest.canvas
    high, tilt = a.clavicle
    tilt += 6 if chest.pose.supine else 0
    drop, rolled = a.shoulder, 22 * (a.scapula if chest.pose.view == "PA" else 0.3 * a.scapula)
    out = 10 + 60 * chest.pose.arms
    clavicles, blades, borders, ridges, humeri = ([] for _ in range(5))
    for s in SIDES:
        course = [(13, 36 + high), (36, 27 + high), (66, 19 + 0.7 * high + 0.3 * tilt)]
        course += [(96, 4 + 0.5 * high + 0.6 * tilt), (124, -1 + 0.8 * tilt + 0.4 * drop), (146, 6 + tilt + 0.7 * drop)]
        course = mirrored(spline(course, 6), s) + np.float32([0.6 * chest.shift, 0])
        sign = chest.signs.get("Fracture")
        if sign and sign.side == s and sign.rng().random() < 0.4:
            middle = len(course) // 2
            clavicles += [course[:middle], course[middle - 2 :] + np.float32([0, 7 + 8 * sign.severity])]
        else:
            clavicles.append(course)
        x, low = rolled * np.float32([1, 0]), 0.6 * drop
        blade = [(92, 40), (108, 22 + 0.4 * low), (136, 20 + low), (150, 30 + low), (148, 52 + low), (134, 92)]
        blade = spline([*blade, (122, 140), (114, 152), (106, 138), (97, 88)], 6, closed=True) + x
        blades.append(mirrored(blade, s))
        borders.append(mirrored(blade[18:44], s))  # the glenoid and the lateral border, thick
        ridge = [(96, 46), (120, 28 + 0.4 * low), (142, 8 + low), (160, 0 + low), (168, 8 + low)]  # up to the acromion
        ridges.append(mirrored(spline(ridge, 6) + x, s))
        ridges.append(mirrored([(128, 24 + low), (133, 15 + low), (141, 17 + low)] + x, s))  # coracoid process
        humeri.append(mirrored(_humerus(low, out) + 0.4 * x, s))
    arms = canvas.fill(*humeri)
    arms = 0.34 * arms + 0.9 * np.clip(arms - soften(arms, 2.6 * canvas.scale), 0, 1)  # cortex
    plates = soften(0.20 * canvas.fill(*blades) + arms, 0.9)
    edges = 0.10 * canvas.line(blades, 1.8) + 0.30 * canvas.line(borders, 3.5, 1.0)
    collar = canvas.tube(clavicles, 9.5, wall=2, soft=0.7) * (1 - 0.6 * chest.middle)
    rods = 0.32 * canvas.line(ridges, 6, 1.4) + 0.75 * collar
    chest.bone += 0.17 * a.bone * (plates + edges + rods)


def _humerus(low: float, out: float) -> np.ndarray:
    """The outline of a left humerus: head, greater tubercle, neck, and a shaft that narrows."""
    outer = [(158, 14), (172, 12), (184, 18), (193, 30), (195, 46), (196, 70)]
    inner = [(176, 72), (170, 58), (158, 50), (150, 38), (150, 24)]
    shaft = [(204 + 0.4 * out, 150), (212 + out, 330), (194 + out, 330), (188 + 0.4 * out, 150)]
    return spline(np.float32([*outer, *shaft, *inner]) + np.float32([0, low]), 4, closed=True)


def spine(chest: Chest) -> None:
    """Vertebral bodies with their pedicles and spinous processes."""
    a, canvas = chest.anatomy, chest.canvas
    bodies, pedicles = [], []
    for y in np.arange(-100, 290, 17.5 * (0.9 + 0.1 * a.width)):
        x = a.scoliosis * np.sin(y / 70)
        half = 11 + 3.5 * np.clip(y / 200, 0, 1)
        waist = [(half, 0), (half - 1.2, 7), (half, 14)]
        bodies.append([(x - dx, y + dy) for dx, dy in waist] + [(x + dx, y + dy) for dx, dy in waist[::-1]])
        pedicles += [np.float32([x + s * 6, y + 6]) + CIRCLE[::4] * np.float32([2.4, 3]) for s in SIDES]
        pedicles.append([(x + 0.4 * chest.shift, y + 9), (x + 0.4 * chest.shift, y + 15)])
    chest.bone += a.bone * (0.06 * soften(canvas.fill(*bodies), 1.0) + 0.04 * canvas.line(pedicles, 1.2, 0.8))


def vessels(chest: Chest) -> np.ndarray:
    """The pulmonary vessels, H x W in [0, 1]: from the hila each branch bends and forks, ever thinner and shorter."""
    rng = np.random.default_rng(chest.anatomy.key)
    mask = None
    levels: list[list[np.ndarray]] = [[] for _ in CALIBRES]
    for s in SIDES:
        n = 10
        angle = np.deg2rad(np.linspace(-76, 88, n) + rng.uniform(-13, 13, n))
        start = np.repeat(chest.hila[s][None].astype(np.float64), n, 0)
        start += rng.normal(0, (3, 5), (n, 2)) + np.stack([-2 * s * np.abs(angle), 14 * angle], 1)
        length = rng.uniform(18, 42, n) * chest.height / 195
        for level in levels:
            bend = np.cumsum(rng.normal(0, 0.19, (len(angle), 3)), 1)
            turns = angle[:, None] + bend
            steps = np.stack([s * np.cos(turns), np.sin(turns)], 2) * (length / 3)[:, None, None]
            path = np.concatenate([start[:, None], start[:, None] + np.cumsum(steps, 1)], 1)  # n x 4 x 2
            level.extend(path.astype(np.float32))
            fork = rng.uniform(0.1, 0.65, (2, len(angle))) * np.float64([[-1], [1]])
            keep = rng.random((2, len(angle))) < 0.84
            angle = (turns[:, -1] + fork)[keep]
            start = np.broadcast_to(path[:, -1], (2, *path[:, -1].shape))[keep]
            length = (length * rng.uniform(0.68, 0.92, (2, len(length))))[keep]
    for level, (width, value) in zip(levels[::-1], CALIBRES, strict=True):
        mask = chest.canvas.stroke(level, width, value, onto=mask)
    roots = None
    for width, reach in ((14, 8), (9, 26), (5.5, 44)):  # a hilum is a comma: a knot with the lower artery as its tail
        commas = []
        for s in SIDES:
            knot = chest.hila[s] + np.float32([-4 * s, -8]) + rng.normal(0, 2, 2)
            tail = knot + (s * (2 + 0.18 * reach), 0.5 * reach), knot + (s * (1 + 0.24 * reach), reach)
            commas.append(spline([knot - (2 * s, 6), knot, *tail], 2))
        roots = chest.canvas.stroke(commas, width, onto=roots)
    roots = soften(roots * np.float32(1 / 255), 3 * chest.canvas.scale)
    tree = np.maximum(mask * np.float32(1 / 255), 0.85 * roots)
    return soften(tree * chest.anatomy.markings, 0.7)


def skeleton(chest: Chest) -> None:
    """All bones, onto chest.bone."""
    ribs(chest)
    girdle(chest)
    spine(chest)
