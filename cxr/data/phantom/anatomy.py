"""What a patient of the phantom is built like, how a frontal film of them was taken, and what a finding is to the one
who draws it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr.data.phantom.canvas import Canvas

RIGHT, LEFT = -1, 1  # the patient's; right is on the left of the film
SIDES = (RIGHT, LEFT)
LUNGS_SHARE = 0.70, 0.80  # of the film's height that the lungs fill where its width allows


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
    build: float  # -1 slender (long lungs, a narrow heart) to 1 stocky
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
        build = float(np.clip(rng.normal(0, 0.5), -1, 1))
        return cls(
            male=male,
            build=build,
            width=(u(0.93, 1.04) if male else u(0.87, 0.98)) + 0.05 * build,
            height=(u(206, 232) if male else u(192, 218)) - 14 * build,
            fat=float(np.clip(rng.beta(2, 3) + 0.2 * build, 0, 1)),
            dome=(u(18, 34), u(15, 30)),
            left_lower=u(-2, 13),
            heart=rng.normal(0.9, 0.08) + 0.06 * old + 0.06 * build,
            heart_shape=rng.normal(0, 2.2, 11),
            mediastinum=u(17, 27) + 2 * old,
            knob=u(9, 13) + 3 * old,
            tortuosity=u(-4, 3) + 5 * old,
            rib_bow=u(0.7, 1.2),
            rib_slope=u(34, 52) - 8 * build,
            rib_width=u(8, 10.5),
            bone=u(0.8, 1.25) - 0.2 * old,
            clavicle=(u(-8, 10), u(-10, 10)),
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
        share = u(*LUNGS_SHARE) if rng.random() < 0.9 else u(0.82, 0.9)  # the rest are films cut close
        scale = min(share * size[0] / (lungs + 12), size[1] / (u(244, 262) * anatomy.width))
        top = u(0.36, 0.56) * (size[0] / scale - lungs)  # above the apices; what else is free lies below
        degrees = float(np.clip(rng.normal(0, 2.6 if portable else 1.2), -7, 7))
        offset = rng.normal(0, (0.022, 0.012) if portable else (0.012, 0.010)) * size[::-1]
        return cls(
            view=view,
            supine=supine,
            breath=breath,
            yaw=float(np.clip(rng.normal(0, 0.75 if portable else 0.4), -1.6, 1.6)),
            arms=u(0, 0.5) if portable else u(0.3, 1),
            chin=u(0.3, 1) if rng.random() < (0.4 if supine else 0.1) else 0.0,
            canvas=Canvas(*size, scale, degrees, (0, 0.5 * size[0] / scale - top), tuple(offset)),
        )
