"""The settings of one ADGM training: section adgm of params.yaml, with one combination of section adgm_runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.adgm.variants import Name, Run
from cxr.core.formats import Format

# A setting at this value changes nothing: a training's fingerprint leaves it out.
NEUTRAL: dict[str, object] = {"scale_min": 1.0, "scale_max": 1.0, "weighting": "mean"}
NEUTRAL |= dict.fromkeys(
    ("weight_decay", "free_bits", "sample_weight", "dropout", "average", "flip", "rotate", "shift"), 0.0
)

# Settings that only some variants read; a variant lists its own in `reads` (cxr/adgm/train.py).
OPTIONAL = {
    "likelihood_weight", "free_bits", "sample_weight", "threshold", "pseudo_weight", "fixmatch_weight",
    "strong_geometry", "strong_jitter", "strong_cutout", "consistency_weight", "teacher",
}  # fmt: skip


class Settings(Format):
    """What shapes a training, apart from its images. A variant may give some of them values of its own."""

    variant: Name = Field(description="variant of the model, or control arm; see cxr/adgm/variants.py")
    classes: int = Field(ge=2, le=3, description="2: Abnormal, Normal; 3: the challenge's classes")
    labels: int = Field(ge=1, description="labelled training images per class; the others are unlabelled")
    draw: int = Field(ge=0, description="added to the seed: other labels, initial weights and batches")
    size: int = Field(
        225, ge=17, le=1024, description="side of the images, pixels; among others 65, 113 and 225 fit the decoder"
    )
    epochs: int = Field(100, ge=1, description="passes over the unlabelled images; the paper: 100, with 3 classes 200")
    batch: int = Field(15, ge=2, description="labelled images in a step, and as many unlabelled ones")
    lr: float = Field(1e-4, ge=0.0, description="Adam's learning rate")
    weight_decay: float = Field(1e-5, ge=0.0, description="Adam's weight decay")
    beta: float = Field(1.0, ge=0.0, description="classification loss: its weight is alpha = beta (N_l + N_u) / N_l")
    weighting: Literal["sum", "mean"] = Field(
        "sum", description="of labelled and unlabelled images in J: sum as eq. 11; mean as the published code"
    )
    warmup_epochs: float = Field(100.0, ge=0.0, description="epochs until the divergences count in full")
    likelihood_weight: float = Field(
        0.01, ge=0.0, le=1.0, description="weight of the pixels' summed log-likelihood; 1: the true bound"
    )
    free_bits: float = Field(0.0, ge=0.0, description="nats that each unit of z costs at least")
    sample_weight: float = Field(
        0.0, ge=0.0, description="of the loss by which samples of a class are read as that class; 0: eq. 1 to 11 alone"
    )
    z_dim: int = Field(128, ge=1, description="size of the latent variable z")
    a_dim: int = Field(128, ge=1, description="size of the auxiliary variable a")
    dropout: float = Field(0.2, ge=0.0, le=0.9, description="dropout rate")
    flip: float = Field(0.5, ge=0.0, le=1.0, description="probability of a mirror image")
    rotate: float = Field(15.0, ge=0.0, le=45.0, description="largest rotation, degrees, both ways")
    scale_min: float = Field(0.8, ge=0.25, le=1.0, description="least magnification")
    scale_max: float = Field(1.2, ge=1.0, le=4.0, description="largest magnification")
    shift: float = Field(0.05, ge=0.0, le=0.5, description="largest shift, share of the size, both ways")
    average: float = Field(
        0.0, ge=0.0, le=0.9999, description="decay of the running average of the weights; 0: no average"
    )
    predict_samples: int = Field(8, ge=1, description="draws of a that a prediction averages q(y|a,x) over")
    prior: Literal["uniform", "training"] = Field(
        "uniform",
        description="class shares that predictions assume: equal, or the training images'",
    )
    threshold: float = Field(
        0.95, ge=0.0, le=1.0, description="pseudo_label, fixmatch: least probability of a pseudo-label"
    )
    pseudo_weight: float = Field(1.0, ge=0.0, description="pseudo_label: weight of the pseudo-label loss")
    fixmatch_weight: float = Field(1.0, ge=0.0, description="fixmatch: weight of the pseudo-label loss")
    strong_geometry: float = Field(
        2.0,
        ge=1.0,
        le=4.0,
        description="fixmatch: ranges of the strong view's geometry, as a multiple of the weak",
    )
    strong_jitter: float = Field(
        0.4, ge=0.0, le=0.9, description="fixmatch: largest change of the strong view's brightness and contrast"
    )
    strong_cutout: float = Field(
        0.4, ge=0.0, le=1.0, description="fixmatch: side of the strong view's cutout, share of the size"
    )
    consistency_weight: float = Field(10.0, ge=0.0, description="mean_teacher: weight of the consistency loss")
    teacher: float = Field(0.999, ge=0.0, le=0.9999, description="mean_teacher: decay of the teacher's average")
    seed: int = Field(
        0,
        ge=0,
        description="seed of the labelled draw, weights, batches and augmentation; the number of the draw is added",
    )

    @property
    def name(self) -> str:
        """The stage instance, as adgm@corrected-2-150-0."""
        return Run(self.variant, self.classes, self.labels, self.draw).stage

    @property
    def sizes(self) -> dict:
        """What every variant's net takes."""
        return {name: getattr(self, name) for name in ("size", "classes", "z_dim", "a_dim", "dropout")}

    @property
    def geometry(self) -> dict:
        """The random geometry of a training image, as `affine` takes it."""
        scale = (self.scale_min, self.scale_max)
        return {"flip": self.flip, "rotate": self.rotate, "scale": scale, "shift": self.shift}

    @property
    def wide_geometry(self) -> dict:
        """The random geometry of a strong view: rotation and shift times strong_geometry, scale to its power."""
        times = self.strong_geometry
        scale = (self.scale_min**times, self.scale_max**times)
        return {"flip": self.flip, "rotate": times * self.rotate, "scale": scale, "shift": times * self.shift}
