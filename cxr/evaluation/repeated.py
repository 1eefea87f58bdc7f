"""Differences between two models that were each trained several times, all on the same patients.

Two things are random: the patients of the test set, and the training (its seed; for the ADGM also its draw of labels).
A difference is paired by training and by draw of patients. Its standard error contains both parts, as in the analysis
of multiple readers and cases, with trainings as readers (Obuchowski and Rockette 1995, degrees of freedom of Hillis
2007).
With S trainings, s the standard deviation of the S paired differences, C the covariance over patients of two of them,
and P the variance over patients of their mean,

    variance = max(P, s^2 / S + max(0, C)),    degrees of freedom = (S - 1) variance^2 / (s^2 / S)^2.

P + s^2 / S would count twice the noise of the patients that two trainings do not share. One training allows no combined
interval and no p. Two allow a weak one: where trainings vary more than patients, about one test in eight of equal
models is significant at 0.05. With three or more it is one in twenty.

Shapes: S trainings, B replicates of the patients.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from cxr.evaluation import metrics
from cxr.evaluation.names import DIFFERENCE


class Combined(NamedTuple):
    """The standard error of a mean difference over patients and trainings, and its degrees of freedom."""

    error: float
    df: float

    def interval(self, mean: float, confidence: float) -> tuple[float, float]:
        half = float(stdtrit(self.df, (1 + confidence) / 2)) * self.error
        return mean - half, mean + half

    def p(self, mean: float) -> float:
        """Two-sided p. 1 for trainings that are equal to the bit; NaN for a difference that does not vary."""
        if self.error > 0:
            return float(2 * stdtr(self.df, -abs(mean) / self.error))
        return 1.0 if mean == 0 == self.error else math.nan

    def p_greater(self, mean: float) -> float:
        """One-sided p of a difference at or below 0; NaN for a difference that does not vary."""
        if self.error > 0:
            return float(stdtr(self.df, -mean / self.error))
        return 0.5 if mean == 0 == self.error else math.nan

    def detectable(self, confidence: float, power: float) -> float:
        """The smallest true difference that the test detects with this probability; NaN where nothing varies."""
        quantiles = stdtrit(self.df, (1 + confidence) / 2) + stdtrit(self.df, power)
        return float(quantiles) * self.error if self.error > 1e-12 else math.nan


def combine(differences: np.ndarray, replicates: np.ndarray) -> Combined:
    """Combine S >= 2 differences, one per training, and their replicates S x B, with the same patients for all."""
    trainings, drawn = len(differences), replicates[:, ~np.isnan(replicates).any(axis=0)]
    if drawn.shape[1] < 2 or np.isnan(differences).any():
        return Combined(math.nan, math.nan)
    patients = drawn.mean(axis=0).var(ddof=1)
    shared = (trainings * patients - drawn.var(axis=1, ddof=1).mean()) / (trainings - 1)
    own = differences.var(ddof=1) / trainings
    variance = max(patients, own + max(0.0, shared))
    df = (trainings - 1) * (variance / own) ** 2 if own > 0 else math.inf
    return Combined(math.sqrt(variance), df)


def spread(values: np.ndarray) -> float:
    """The standard deviation over trainings; NaN for a single one."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def difference(differences: np.ndarray, replicates: np.ndarray, confidence: float, power: float) -> dict[str, float]:
    """The columns DIFFERENCE of S paired differences and their replicates S x B.

    difference: their mean; low, high: its interval over patients; sd: standard deviation over trainings; over patients
    and trainings together: total_low, total_high, df, p (two-sided), p_greater (one-sided) and detectable, the smallest
    difference that one test of this power detects, uncorrected. These are NaN for one training.
    """
    mean, over_patients = float(differences.mean()), replicates.mean(axis=0)
    low, high, _ = metrics.interval(over_patients, confidence)
    row = dict.fromkeys(DIFFERENCE, math.nan) | {
        "difference": mean,
        "low": low,
        "high": high,
        "sd": spread(differences),
    }
    if len(differences) == 1:
        return row
    both = combine(differences, replicates)
    total_low, total_high = both.interval(mean, confidence)
    row |= {"total_low": total_low, "total_high": total_high, "df": both.df if math.isfinite(both.df) else math.nan}
    row |= {"p": both.p(mean), "p_greater": both.p_greater(mean)}
    return row | {"detectable": both.detectable(confidence, power)}
