"""Support devices on a frontal film, and the leads that belong to the bed and not to the report."""

from __future__ import annotations

import numpy as np

from cxr.data.phantom.anatomy import LEFT, RIGHT, SIDES, Sign
from cxr.data.phantom.canvas import CIRCLE, mirrored, soften, spline
from cxr.data.phantom.chest import Chest


def _catheter(chest: Chest, course: np.ndarray) -> None:
    """A wide tube with its radiopaque stripe."""
    chest.metal += 0.17 * chest.canvas.tube([course], 5.5, wall=1.2) + 0.12 * chest.canvas.line([course], 0.8)


def endotracheal_tube(chest: Chest, rng: np.random.Generator) -> None:
    tip = (0.8 * chest.shift + 1, rng.uniform(0.17, 0.30) * chest.height)
    _catheter(chest, spline([(rng.uniform(-6, 6), -110), (rng.uniform(-3, 3), -30), tip], 8))


def central_line(chest: Chest, rng: np.random.Generator) -> None:
    s, h = (RIGHT if rng.random() < 0.65 else LEFT), chest.height
    if rng.random() < 0.55:  # by the subclavian vein, else by the jugular
        course = [(s * rng.uniform(90, 170), rng.uniform(10, 60)), (s * rng.uniform(70, 90), 10)]
        course += [(s * 40, 8 + 0.4 * chest.anatomy.clavicle[0]), (s * 20, 18)]
    else:
        course = [(s * rng.uniform(28, 50), -110), (s * 24, -30), (s * 18, 10)]
    x = chest.shift - 15
    course += [(x, 0.2 * h), (x - 2, 0.38 * h), (x, rng.uniform(0.45, 0.62) * h)]
    chest.metal += 0.26 * chest.canvas.line([spline(course, 8)], 1.8)


def feeding_tube(chest: Chest, rng: np.random.Generator) -> None:
    u, h = rng.uniform, chest.height
    course = [(3, -110), (u(-2, 6), 0), (u(2, 9), 0.5 * h), (9, h - 10), (u(25, 40), h + 22), (u(45, 85), h + 32)]
    chest.metal += 0.24 * chest.canvas.tube([spline(course, 8)], 2.8, wall=0.8)


def pacemaker(chest: Chest, rng: np.random.Generator) -> None:
    s, h = (LEFT if rng.random() < 0.8 else RIGHT), chest.height
    centre = np.float32([s * rng.uniform(84, 112), rng.uniform(24, 48)])
    box = np.sign(CIRCLE) * np.abs(CIRCLE) ** 0.65 * np.float32([15, 13])
    chest.metal += 0.5 * soften(chest.canvas.fill(centre + box), 0.8)
    leads = []
    for _ in range(1 + int(rng.random() < 0.6)):
        course = [centre, centre * np.float32([0.7, 1]) - (0, 18), (s * 20, 26), (chest.shift - 14, 0.38 * h)]
        course.append((chest.shift - 22, rng.uniform(0.65, 0.78) * h))
        course.append((chest.shift + rng.uniform(0, 48), rng.uniform(0.8, 0.92) * h))
        leads.append(spline(course, 8))
    chest.metal += 0.24 * chest.canvas.line(leads, 1.3)


def chest_tube(chest: Chest, rng: np.random.Generator) -> None:
    u, w, h = rng.uniform, chest.anatomy.width, chest.height
    course = [(190, u(0.7, 1.0) * h), (119 * w, u(0.6, 0.85) * h), (u(76, 98) * w, u(0.3, 0.6) * h)]
    course.append((u(46, 76) * w, u(0.08, 0.4) * h))
    _catheter(chest, mirrored(spline(course, 8), int(rng.choice(SIDES))))


def sternotomy(chest: Chest, rng: np.random.Generator) -> None:
    wires, t = [], np.linspace(0.3, 2 * np.pi - 0.3, 16)
    for y in np.arange(0.18, 0.8, rng.uniform(0.10, 0.13)) * chest.height:
        turn = rng.uniform(-0.5, 0.5)
        loop = np.stack([6.5 * np.cos(t), 3.2 * np.sin(t) + turn * 3 * np.cos(t)], 1)
        wires.append(loop + (0.5 * chest.shift + rng.uniform(-2, 2), y))
    chest.metal += 0.28 * chest.canvas.line(wires, 0.9)


KINDS = (endotracheal_tube, central_line, central_line, feeding_tube, pacemaker, chest_tube, sternotomy)


def support_devices(chest: Chest, sign: Sign) -> None:
    """One to four devices, without regard to the other findings; in which order they come is the patient's."""
    rng = sign.rng()
    for kind in rng.permutation(len(KINDS))[: 1 + int(3 * sign.severity)]:
        KINDS[kind](chest, rng)


def monitor_leads(chest: Chest, rng: np.random.Generator) -> None:
    """Electrodes and cables of a monitor: on bedside films, whatever the patient has."""
    dots, cables = [], []
    for _ in range(int(rng.integers(2, 6))):
        at = np.float32([rng.uniform(-115, 115), rng.uniform(15, 0.95 * chest.height)])
        s = 1 if at[0] > 0 else -1
        dots.append(chest.canvas.disc(at, (4.2, 4.2)))
        way = [at, at + (s * rng.uniform(10, 40), rng.uniform(-30, 30))]
        way += [(s * rng.uniform(100, 150), rng.uniform(-40, 120)), (s * 260, rng.uniform(-60, 280))]
        cables.append(spline(way, 8))
    chest.metal += 0.16 * soften(np.maximum.reduce(dots), 0.7) + 0.14 * chest.canvas.line(cables, 1.1)
