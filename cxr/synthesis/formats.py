"""plan.json, written by the balance stage. cxr/classifier/formats.py has arm.json, which its trainings read."""

from __future__ import annotations

from pydantic import Field

from cxr.core.formats import Format


class FindingPlan(Format):
    """What balancing adds for one finding."""

    positives: int = Field(description="real training images with the finding")
    generated: int = Field(description="generated images with the finding")
    negatives: int = Field(description="generated images without it")
    prevalence_before: float = Field(description="share of training images with the finding, 0 to 1")
    prevalence_after: float = Field(description="the same with the generated images, 0 to 1")
    gan_images: int = Field(description="images that the generator was trained on")
    gan_epochs: int = Field(description="epochs that the generator was trained for")


class Plan(Format):
    """What balancing adds to the training images."""

    target_prevalence: float = Field(description="share of images with each finding to reach, 0 to 1")
    kind: str = Field(description="kind of the generator")
    dose: float = Field(description="generated positives as a multiple of the real ones; 0: as target_prevalence asks")
    labels: str = Field(description="the other labels of a generated image: masked, one_hot or sampled")
    views: str = Field(description="views of the generated images: kept or independent, as balance.views")
    filter: str = Field(description="which generated images are kept: none, agree or soft, as balance.filter")
    train_images: int = Field(description="real training images")
    synthetic_images: int = Field(description="generated images")
    split_sha256: str = Field(description="SHA-256 of the split's table")
    findings: dict[str, FindingPlan] = Field(description="slug of the finding: what is added for it")
