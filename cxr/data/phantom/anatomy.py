"""What a patient of the phantom is built like, how a frontal film of them was taken, and what a finding is to the one
who draws it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr.data.phantom.canvas import Canvas

RIGHT, LEFT = -1, 1  # the patient's; right is on the left of the film
SIDES = (RIGHT, LEFT)


@dataclass(frozen=True)
class Sign:
    """One finding of one study: how marked (0 to 1), the side that bears it, and the key of its random shape."""

    severity: float
    side: int
    key: tuple[int, ...]

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.key)


Signs = dict[str, Sign]  # by official name of the finding


@dataclass(frozen=True)
class Anatomy:
    """What stays the same in all films of a patient. Lengths in units."""

    male: bool
    width: float  # of the thorax, about 1
    height: float  # of the lungs at full inspiration
    fat: float  # 0 lean to 1 obese
    dome: tuple[float, float]  # height of the right and the left half of the diaphragm
    left_lower: float  # by how much the left half lies lower
    heart: float  # width of the heart, about 0.95
    heart_shape: np.ndarray  # 11, wobble of its outline
    mediastinum: float  # half width
    knob: float  # radius of the aortic knob
    tortuosity: float  # how far the knob stands out
    rib_bow: float
    rib_slope: float
    rib_width: float
    bone: float  # density, about 1
    clavicle: tuple[float, float]  # height of its medial end, tilt
    shoulder: float  # drop
    scapula: float  # 0 over the lung, 1 rolled out
    breast: float
    scoliosis: float
    markings: float  # prominence of the vessels
    aeration: float  # extra air
    gas: float  # in the stomach
    key: tuple[int, ...]  # of the vessels

    @classmethod
    def sample(cls, key: tuple[int, ...], male: bool, age: float) -> Anatomy:
        rng = np.random.default_rng(key)
        u = rng.uniform
        old = float(np.clip((age - 40) / 50, 0, 1))
        return cls(
            male=male,
            width=u(0.93, 1.09) if male else u(0.87, 1.03),
            height=u(182, 218) if male else u(168, 204),
            fat=rng.beta(2, 3),
            dome=(u(18, 34), u(15, 30)),
            left_lower=u(-2, 13),
            heart=rng.normal(0.9, 0.085) + 0.06 * old,
            heart_shape=rng.normal(0, 2.2, 11),
            mediastinum=u(17, 27) + 2 * old,
            knob=u(9, 13) + 3 * old,
            tortuosity=u(-4, 3) + 5 * old,
            rib_bow=u(0.7, 1.2),
            rib_slope=u(26, 44),
            rib_width=u(8, 10.5),
            bone=u(0.8, 1.25) - 0.2 * old,
            clavicle=(u(-6, 12), u(-12, 12)),
            shoulder=u(-14, 10),
            scapula=u(0, 1),
            breast=0.0 if male else u(0.2, 1),
            scoliosis=rng.normal(0, 3.5),
            markings=u(0.75, 1.25),
            aeration=u(-0.06, 0.08),
            gas=u(0, 1),
            key=(*key, 1),
        )


@dataclass(frozen=True)
class Pose:
    """What differs from film to film: view, posture, breath, position and the film's size in pixels."""

    view: str  # 'AP' or 'PA'
    supine: bool
    breath: float  # share of full inspiration
    yaw: float  # rotation to the patient's left, about -1.5 to 1.5
    arms: float  # 0 at the sides, 1 raised away from them
    chin: float  # how far the jaw comes down into the film; 0 for not at all
    canvas: Canvas

    @classmethod
    def sample(cls, rng: np.random.Generator, view: str, anatomy: Anatomy, size: tuple[int, int]) -> Pose:
        """size: height and width of the film in pixels."""
        u = rng.uniform
        portable = view == "AP"
        supine = portable and rng.random() < 0.45
        breath = u(0.80, 1.0) - (0.05 if supine else 0) if portable else u(0.90, 1.04)
        lungs = anatomy.height * breath
        zoom = u(0.90, 1.10) if rng.random() < 0.85 else u(1.12, 1.3)  # the rest are films cut close
        across, down = (282 if size[0] > size[1] else 292) * anatomy.width, lungs + 56
        scale = zoom * min(size[1] / across, size[0] / down)
        top = u(0.45, 0.65) * min(size[0] / scale - lungs, 82)  # above the apices; what else is free lies below
        degrees = float(np.clip(rng.normal(0, 2.6 if portable else 1.2), -7, 7))
        offset = rng.normal(0, (9, 8) if portable else (5, 5))
        return cls(
            view=view,
            supine=supine,
            breath=breath,
            yaw=float(np.clip(rng.normal(0, 0.75 if portable else 0.4), -1.6, 1.6)),
            arms=u(0, 0.5) if portable else u(0.3, 1),
            chin=u(0.3, 1) if rng.random() < (0.4 if supine else 0.1) else 0.0,
            canvas=Canvas(*size, scale, degrees, (0, 0.5 * size[0] / scale - top), tuple(offset)),
        )
