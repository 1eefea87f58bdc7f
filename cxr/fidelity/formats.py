"""fidelity.json, written by the fidelity stage for each finding of a generator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format

LEVEL = 0.05  # of the two-sample test
EVERY = "every"  # the name, in place of a finding, of the images of all training patients
OVER_HALVES = "over random halves of the real images"


class Spread(Format):
    """A measure over random halves of the real images."""

    mean: float = Field(description=f"mean {OVER_HALVES}")
    low: float = Field(description=f"2.5 % quantile {OVER_HALVES}")
    high: float = Field(description=f"97.5 % quantile {OVER_HALVES}")


class Measure(Format):
    """One measure of generated against real images, beside real against real."""

    generated: Spread = Field(description="generated images against one half of the real images")
    floor: Spread = Field(description="the other half of the real images against that half")
    difference: Spread = Field(description="generated minus floor")


class Tested(Format):
    """A classifier's cross-fitted AUC of telling two samples of images apart."""

    auc: float = Field(ge=0, le=1, description="share of pairs that it orders rightly; 0.5 is chance")
    p: float = Field(gt=0, le=1, description="share of permutations with an AUC as high, one-sided")


class Apart(Tested):
    """Generated against real images in one space, beside two pairs of real samples."""

    floor: Spread | None = Field(description="AUC of one half of the real patients against the other; null: too few")
    held_out: Tested | None = Field(description="held-out against training real images; null: too few")


class TwoSample(Format):
    """Whether a classifier can tell generated from real images: the verdict on their quality."""

    n: int = Field(description="real images, and as many generated ones")
    patients: int = Field(description="patients of the real images")
    permutations: int = Field(description="random permutations of the labels")
    told_apart: bool | None = Field(description=f"whether a corrected p is at most {LEVEL}; null: too few")
    spaces: dict[str, Apart] = Field(description="space (pixels or features): the test in it; empty with too few")


class Space(Format):
    """Distances to the nearest training image in one space."""

    generated_median: float = Field(description="median distance of the generated images")
    held_out_median: float = Field(description="median distance of the held-out real images")
    duplicates: float = Field(description="share of generated images that are duplicates, 0 to 1")
    held_out_duplicates: float = Field(description="share of held-out images that would be duplicates, 0 to 1")
    same_patient_median: float | None = Field(
        description="median distance of a training image to its patient's nearest other; null: no patient has two"
    )
    reidentified: float | None = Field(
        description="share of generated images nearer than that to a training image, 0 to 1"
    )
    held_out_reidentified: float | None = Field(description="the same share of held-out images, 0 to 1")
    membership_auc: float = Field(description="AUC of telling training from held-out images by distance, 0 to 1")
    membership_low: float = Field(description="low end of its 95 % interval over patients")
    membership_high: float = Field(description="high end of its 95 % interval over patients")
    own_median: float | None = Field(
        None, description="median distance of edited images to their own patient's nearest; absent: not edited"
    )


class Memorisation(Format):
    """Whether generated images are copies of training images. Null and empty without a held-out image."""

    duplicates: float | None = Field(ge=0, le=1, description="share of generated images that are duplicates, 0 to 1")
    duplicates_low: float | None = Field(description="low end of its 95 % interval")
    duplicates_high: float | None = Field(description="high end of its 95 % interval")
    spaces: dict[str, Space] = Field(description="space (features or pixels): distances in it")


class Fidelity(Format):
    """How good one finding's generated images are, and whether they are copies."""

    finding: str = Field(description="slug of the finding, or every: of all training images")
    real: int = Field(description="real training images of the finding")
    patients: int = Field(description="their patients")
    generated: int = Field(description="generated images")
    held_out: int = Field(description="real validation and test images of the finding")
    held_out_patients: int = Field(description="their patients")
    half: int = Field(description="images in the smallest random half, 0: too few patients")
    replicates: int = Field(description="number of random halves")
    quality: dict[str, Measure] = Field(description="name of the measure: its values; empty with too few patients")
    two_sample: TwoSample = Field(description="generated against real images, the verdict")
    memorisation: Memorisation = Field(description="nearest training images")
    features: Literal["classifier", "inception"] = Field(description="space that images are compared in")
    generator_sha256: str = Field(description="SHA-256 of the generator's weights")
    split_sha256: str = Field(description="SHA-256 of the split's table")
    scales: int = Field(description="scales of MS-SSIM")
