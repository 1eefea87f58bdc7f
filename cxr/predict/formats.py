"""calibration.json, written by the calibrate stage into a predictor's folder beside model.json."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format
from cxr.explain.formats import Explained

CALIBRATED, NOT_TRAINED = "calibrated", "not trained on"
LEVELS = 20  # a population is shown by its quantiles at 0, 1 / LEVELS, ..., 1


class Rate(Format):
    """A share of test images with its interval over patients."""

    value: float = Field(ge=0, le=1, description="share, 0 to 1")
    low: float | None = Field(description="low end of the interval, null: too few patients")
    high: float | None = Field(description="high end of the interval, null: too few patients")


class Finding(Format):
    """How the score of one finding becomes a probability and a yes or no, and what that was worth on test images."""

    trained_share: float | None = Field(description="share of positives in training, by weight; null: not trained on")
    valid_share: float | None = Field(description="share of positives among certain validation labels")
    true_share: float | None = Field(description="share of positives in the real training images, which use assumes")
    slope: float | None = Field(description="of the scaling of the logit; null: too few validation labels")
    intercept: float | None = Field(description="of the scaling of the logit; null: too few validation labels")
    threshold: float | None = Field(description="a score from here on is a yes; null: too few validation labels")
    valid_positives: int = Field(description="validation images with the finding")
    valid_negatives: int = Field(description="validation images without it")
    test_positives: int = Field(description="test images with the finding")
    test_negatives: int = Field(description="test images without it")
    sensitivity: Rate | None = Field(description="on test images at the threshold; null: too few")
    specificity: Rate | None = Field(description="on test images at the threshold; null: too few")
    quantiles: list[float] = Field(
        description=f"of the calibrated probability of all test images, at 0, 1/{LEVELS}, ..., 1; empty: no scaling"
    )

    @property
    def status(self) -> str:
        """What its probability is: calibrated, or why there is none. Without a positive nothing was trained."""
        if self.trained_share is None:
            return NOT_TRAINED
        if self.slope is not None:
            return CALIBRATED
        return "too few validation images" if self.trained_share else NOT_TRAINED


class Outliers(Format):
    """What an image must not exceed to count as one of those that the model knows; the arrays are in
    features.safetensors.

    The distance is Mahalanobis's between the image's features and the nearest view's mean (Lee et al. 2018, equation
    2).
    """

    images: int = Field(description="training images whose features were taken")
    views: list[Literal["frontal", "lateral"]] = Field(description="views with a mean, in the order of the array")
    false_alarms: float = Field(description="share of images of its own kind that the threshold may refuse, 0 to 1")
    threshold: float = Field(description="largest distance that is accepted, from the validation images")
    valid_images: int = Field(description="validation images that the threshold is from")
    valid_refused: float = Field(description="share of them that it refuses")
    test_refused: float = Field(description="share of the test images that it refuses")
    view_accuracy: float | None = Field(description="share of held-out images whose view is guessed right; null: one")


class Calibration(Format):
    """What a predictor knows beside its weights."""

    data: str = Field(description="what the model was trained on: phantom (simulated patients), folder, zip, ...")
    scaling: str = Field(description="platt or temperature")
    sensitivity: float = Field(description="of the operating points, on validation images")
    confidence: float = Field(description="of every interval")
    test_images: int = Field(description="number of test images")
    test_patients: int = Field(description="their patients")
    split_sha256: str = Field(description="SHA-256 of the split's table")
    weights_sha256: str = Field(description="SHA-256 of model.safetensors")
    findings: dict[str, Finding] = Field(description="slug of the finding: its calibration")
    outliers: Outliers = Field(description="which images are refused as out of distribution")
    explained: Explained | None = Field(
        default=None, description="what its heat maps are worth on boxes of radiologists; null: not compared"
    )
