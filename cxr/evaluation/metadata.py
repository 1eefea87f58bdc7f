"""The metadata-only floor: what sex, age and view predict without a single pixel.

A classifier that does no better than this has shown no reading of the image (docs/papers.md, E35 and E53). A logistic
regression per column (scikit-learn's, L2 with C = 1) on indicators of sex and view, the age in standard deviations of
the training images, and an indicator where it is unknown. It is fitted on training images alone, on the labels of the
policy that it stands beside.

Shapes: N images, F = len(FEATURES), K columns (findings or classes).
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from cxr.cohort.describe import possible
from cxr.core.findings import CLASS_NAMES, SLUGS, columns_of

FEATURES = ("women", "men", "age", "age unknown", "AP", "PA", "lateral")


class Floor(NamedTuple):
    """centre and spread: of the training images' ages, in years; coefficients K x F; intercepts K."""

    centre: float
    spread: float
    coefficients: np.ndarray
    intercepts: np.ndarray


def people(path: str | os.PathLike, records: pd.DataFrame, images: pd.Series) -> pd.DataFrame:
    """image_id, sex, age, projection and view of the images, in their order. Raises ValueError, naming `path`, the
    records' file, for an image that it lacks.
    """
    rows = records.set_index("image_id")[["sex", "age", "projection", "view"]]
    lacking = ~images.isin(rows.index)
    if lacking.any():
        raise ValueError(
            f"{path}: no row of {images[lacking].iloc[0]!r}, which was trained on or predicted; `dvc repro` makes the "
            "records and all that comes after them"
        )
    return rows.loc[images].reset_index()


def views(rows: pd.DataFrame) -> pd.Series:
    """AP, PA, lateral, or unknown: a frontal image that does not say which."""
    named = rows["view"].where(rows["view"].isin(("AP", "PA")), "unknown")
    return named.where(rows["projection"] != "lateral", "lateral")


def features(rows: pd.DataFrame, centre: float, spread: float) -> np.ndarray:
    """N x F float64. What is unknown is 0 in all indicators of its kind; an unknown or impossible age is the mean, and
    says so in its own column."""
    age, view = possible(rows["age"].astype(np.float64)), views(rows)
    columns = [rows["sex"] == "F", rows["sex"] == "M", ((age - centre) / spread).fillna(0.0), age.isna()]
    columns += [view == name for name in FEATURES[4:]]
    return np.stack([np.asarray(c, np.float64) for c in columns], axis=1)


def fit(rows: pd.DataFrame, target: np.ndarray, weight: np.ndarray) -> Floor:
    """rows: N training images (as `people` gives them); target and weight N x K, as the policy's labels have them.

    A target between 0 and 1 counts as a positive and a negative of that part of its weight. A column without both
    classes predicts its share everywhere (one half where no label counts).
    """
    age = possible(rows["age"].astype(np.float64)).dropna()
    centre = float(age.mean()) if len(age) else 0.0
    spread = (float(age.std(ddof=0)) if len(age) else 0.0) or 1.0
    x = features(rows, centre, spread)
    coefficients, intercepts = np.zeros((target.shape[1], len(FEATURES))), np.zeros(target.shape[1])
    for k in range(target.shape[1]):
        counts = np.flatnonzero(weight[:, k] > 0)
        soft = counts[(target[counts, k] > 0) & (target[counts, k] < 1)]  # a second time, as their smaller part
        rows = np.r_[counts, soft]
        positive = np.r_[target[counts, k] > 0.5, target[soft, k] <= 0.5]
        part = np.where(positive, target[rows, k], 1 - target[rows, k])
        if 0 < positive.sum() < len(positive):
            model = LogisticRegression(max_iter=1000).fit(x[rows], positive, sample_weight=weight[rows, k] * part)
            coefficients[k], intercepts[k] = model.coef_[0], model.intercept_[0]
        elif len(positive):
            intercepts[k] = np.inf if positive.all() else -np.inf
    return Floor(centre, spread, coefficients, intercepts)


def predict(floor: Floor, rows: pd.DataFrame) -> np.ndarray:
    """Probabilities, N x K."""
    logits = features(rows, floor.centre, floor.spread) @ floor.coefficients.T + floor.intercepts
    return np.exp(-np.logaddexp(0.0, -logits))


def beside(
    predictions: pd.DataFrame, train: pd.DataFrame, path: str | os.PathLike, records: pd.DataFrame
) -> pd.DataFrame:
    """A classifier's predictions with its scores replaced by those of a floor fitted on the training rows of its label
    table; path: the records' file. Raises ValueError for a training row that was predicted as well."""
    both = train["image_id"].isin(predictions["image_id"])
    if both.any():
        raise ValueError(
            f"{train['image_id'][both].iloc[0]!r} stands in a label table as a training image and in the predictions: "
            "they were made under different splits; `dvc repro` makes them again"
        )
    floor = fit(people(path, records, train["image_id"]), columns_of(train, "target"), columns_of(train, "weight"))
    scores = predict(floor, people(path, records, predictions["image_id"]))
    return predictions.assign(**{f"score.{name}": scores[:, k] for k, name in enumerate(SLUGS)})


def classes(train: pd.DataFrame, rows: pd.DataFrame, count: int) -> np.ndarray:
    """Of RSNA: the probabilities, N x count, of the classes in CLASS_NAMES[count], fitted on all of `train` (records
    with class_name). With two classes, what is not Normal is the first."""
    own = [train["class_name"] == name for name in CLASS_NAMES[count][1:]]
    target = np.stack([~np.any(own, axis=0), *own], axis=1).astype(np.float64)
    scores = predict(fit(train, target, np.ones_like(target)), rows)
    return scores / scores.sum(axis=1, keepdims=True)
