"""The settings of one ADGM training: section adgm of params.yaml, with one combination of section adgm_runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cxr.adgm.variants import Name, Run

# A setting at this value changes nothing: a training's fingerprint leaves it out.
NEUTRAL: dict[str, object] = {"scale": (1.0, 1.0)}
NEUTRAL |= dict.fromkeys(("weight_decay", "free_bits", "dropout", "average", "flip", "rotate", "shift"), 0.0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What shapes a training, apart from its images and its number of epochs.

    A variant may give some of them values of its own and leave others unread (cxr/adgm/train.py).
    """

    labels: int  # labelled images of each class that are asked for
    draw: int  # number of the labelled draw, from 0
    size: int  # side of an image, pixels
    variant: Name
    classes: int  # K
    batch: int  # labelled images in a step, and as many unlabelled ones
    lr: float
    weight_decay: float
    beta: float  # alpha of eq. 10 is beta (N_l + N_u) / N_l
    warmup_epochs: float  # until KL_z and KL_a count in full
    likelihood_weight: float  # w of eq. 8, in (0, 1]; 1: the true bound
    free_bits: float = 0.0  # nats that each unit of z costs at least
    z_dim: int  # Z
    a_dim: int  # A
    dropout: float
    average: float  # decay of the running average of the weights; 0: the last step's weights
    predict_samples: int  # draws of a in a prediction
    prior: Literal["uniform", "training"]  # class shares that predictions assume
    seed: int  # adgm.seed + draw
    flip: float  # probability of a mirror image
    rotate: float  # degrees, both ways
    scale: tuple[float, float]  # least and largest magnification
    shift: float  # share of the size, both ways
    threshold: float = 0.95  # pseudo_label: least probability of a pseudo-label
    pseudo_weight: float = 1.0  # pseudo_label: weight of its term
    consistency_weight: float = 10.0  # mean_teacher: weight of its term
    teacher: float = 0.999  # mean_teacher: decay of the teacher's average

    @property
    def name(self) -> str:
        """The stage instance, as adgm@corrected-2-150-0."""
        return f"adgm@{Run(self.variant, self.classes, self.labels, self.draw).name}"

    @property
    def sizes(self) -> dict:
        """What every variant's net takes."""
        return {name: getattr(self, name) for name in ("size", "classes", "z_dim", "a_dim", "dropout")}

    @property
    def geometry(self) -> dict:
        """The random geometry of a training image, as `affine` takes it."""
        return {"flip": self.flip, "rotate": self.rotate, "scale": self.scale, "shift": self.shift}
