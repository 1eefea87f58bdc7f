"""Bones and vessels of the frontal phantom: ribs, clavicles, scapulae, arms, spine; fractures; pulmonary arteries."""

from __future__ import annotations

import numpy as np

from cxr.data.phantom.anatomy import SIDES
from cxr.data.phantom.canvas import CIRCLE, mirrored, rise, soften, spline
from cxr.data.phantom.chest import WALL, Chest

RIBS = 10
BACK, FRONT = np.linspace(0, 1, 22), np.linspace(0, 1, 14)  # positions along the two parts of a rib
CALIBRES = (0.7, 0.42), (1.0, 0.5), (1.6, 0.6), (2.6, 0.75), (4.0, 0.95)  # width and density of vessels, thinnest first


def _courses(chest: Chest, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Posterior (RIBS x 22 x 2) and anterior (RIBS x 14 x 2) courses of the ribs of a side, from above."""
    a, h = chest.anatomy, chest.height
    i = np.arange(RIBS)[:, None]
    start, drop = -16 + i * h / 9.7, a.rib_slope + i
    turned = 1 + 0.03 * side * chest.pose.yaw
    reach = np.interp(start + drop, WALL[:, 1] * h / 178, WALL[:, 0]) * a.width * turned + 2
    x = 13 + (reach - 13) * np.sin(BACK * np.pi / 2) ** 0.85
    y = start - 7 * a.rib_bow * np.sin(BACK * np.pi) + drop * BACK**2.1
    front_x = reach * (1 - (0.62 - 0.012 * i) * FRONT**1.35)
    front_y = start + drop + (30 + 3 * i) * np.sin(FRONT * np.pi / 2)
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
                cut = int(np.clip(broken[i], 0.2, 0.85) * 21)
                step = (6 + 8 * sign.severity) * (1 if i % 3 else -0.8)
                fading = np.linspace(1, 0.4, len(posterior) - cut, dtype=np.float32)[:, None]
                back += [posterior[:cut], posterior[cut:] + fading * np.float32([-s * 3 * sign.severity, step])]
                callus = 4 + 3 * sign.severity
                chest.bone += (0.10 + 0.14 * sign.severity) * canvas.blob(posterior[cut], (callus, callus))
                chest.opacity += 0.2 * sign.severity * canvas.blob(posterior[-1], (14, 13)) * chest.lung[s]
            else:
                back.append(posterior)
    fade = 1 - 0.6 * rise(canvas.y - h + 4, 8)
    chest.bone += 0.165 * a.bone * fade * canvas.tube(back, a.rib_width, soft=1.0)
    chest.bone += 0.085 * a.bone * canvas.tube(front, 1.1 * a.rib_width, soft=1.2)


def girdle(chest: Chest) -> None:
    """Clavicles, scapulae, humeri."""
    a, canvas = chest.anatomy, chest.canvas
    high, tilt = a.clavicle
    tilt += 6 if chest.pose.supine else 0
    drop, rolled = a.shoulder, 8 + 20 * (a.scapula if chest.pose.view == "PA" else 0.3 * a.scapula)
    out = 20 + 75 * chest.pose.arms
    clavicles, blades, ridges, heads, shafts = ([] for _ in range(5))
    for s in SIDES:
        course = [(14, 18 + 0.4 * high), (40, 4 + 0.6 * high), (74, -3 + 0.5 * high + 0.3 * tilt)]
        course += [(106, -11 + 0.6 * tilt), (138, -10 + tilt + 0.6 * drop)]
        course = mirrored(spline(course, 6), s) + np.float32([0.6 * chest.shift, 0])
        sign = chest.signs.get("Fracture")
        if sign and sign.side == s and sign.rng().random() < 0.4:
            middle = len(course) // 2
            clavicles += [course[:middle], course[middle - 2 :] + np.float32([0, 7 + 8 * sign.severity])]
        else:
            clavicles.append(course)
        blade = [(100, 18), (140, 22 + 0.5 * drop), (152, 40 + 0.5 * drop), (134, 100), (118, 138), (106, 98)]
        blades.append(mirrored(spline(blade, 6, closed=True) + np.float32([rolled, 0]), s))
        ridge = [(104 + rolled, 30), (130 + rolled, 18 + 0.5 * drop), (160 + rolled, 4 + drop)]
        ridges.append(mirrored(spline(ridge, 6), s))
        heads.append(np.float32([s * (180 + 0.3 * rolled), 24 + drop]) + CIRCLE * np.float32([21, 23]))
        shaft = [(186 + 0.3 * rolled, 34 + drop), (205 + 0.5 * out, 170), (208 + out, 330)]
        shafts.append(mirrored(shaft, s))
    plates = 0.26 * canvas.fill(*blades) + 0.7 * np.maximum(canvas.fill(*heads), canvas.tube(shafts, 19, wall=4))
    edges = 0.22 * canvas.line([np.concatenate([blade, blade[:1]]) for blade in blades], 2.5)
    rods = 0.28 * canvas.line(ridges, 7, 1.2) + 0.9 * canvas.tube(clavicles, 10, soft=0.9)
    chest.bone += 0.17 * a.bone * (soften(plates, 1.1) + edges + rods)


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
    chest.bone += a.bone * (0.055 * soften(canvas.fill(*bodies), 1.1) + 0.035 * canvas.line(pedicles, 1.2))


def vessels(chest: Chest) -> np.ndarray:
    """The pulmonary vessels, H x W in [0, 1]: from the hila each branch bends and forks, ever thinner and shorter."""
    rng = np.random.default_rng(chest.anatomy.key)
    mask = None
    levels: list[list[np.ndarray]] = [[] for _ in CALIBRES]
    for s in SIDES:
        n = 9
        angle = np.deg2rad(np.linspace(-78, 86, n) + rng.uniform(-9, 9, n))
        start = np.repeat(chest.hila[s][None].astype(np.float64), n, 0) + rng.normal(0, (2.5, 6), (n, 2))
        length = rng.uniform(22, 36, n) * chest.height / 185
        for level in levels:
            bend = rng.normal(0, 0.09, (len(angle), 1)) * np.arange(1, 4)
            turns = angle[:, None] + bend
            steps = np.stack([s * np.cos(turns), np.sin(turns)], 2) * (length / 3)[:, None, None]
            path = np.concatenate([start[:, None], start[:, None] + np.cumsum(steps, 1)], 1)  # n x 4 x 2
            level.extend(path.astype(np.float32))
            fork = rng.uniform(0.2, 0.5, (2, len(angle))) * np.float64([[-1], [1]])
            keep = rng.random((2, len(angle))) < 0.88
            angle = (turns[:, -1] + fork)[keep]
            start = np.broadcast_to(path[:, -1], (2, *path[:, -1].shape))[keep]
            length = (length * rng.uniform(0.68, 0.92, (2, len(length))))[keep]
    for level, (width, value) in zip(levels[::-1], CALIBRES, strict=True):
        mask = chest.canvas.stroke(level, width, value, onto=mask)
    roots = [chest.canvas.disc(chest.hila[s] - np.float32([2 * s, 0]), (8, 17), 12 * s) for s in SIDES]
    tree = np.maximum(mask * np.float32(1 / 255), 0.7 * np.maximum(*roots))
    return soften(tree * chest.anatomy.markings, 0.9)


def skeleton(chest: Chest) -> None:
    """All bones, onto chest.bone."""
    ribs(chest)
    girdle(chest)
    spine(chest)
