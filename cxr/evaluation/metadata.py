"""The metadata baseline: what sex, age and view predict without a pixel.

A classifier that does no better has not been shown to read the image (docs/papers.md, E35 and E53). It is one logistic
regression per column (scikit-learn's, L2 with C = 1), fitted on the training images and on the labels of the policy
that it is compared under. Features: indicators of sex and view, the age in standard deviations of the training
images, and an indicator of unknown age. All indicators of an unknown sex or view are 0; an unknown or impossible age
counts as the mean.

Shapes: N images, K columns (findings or classes).
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cxr.cohort.describe import possible
from cxr.core.findings import CLASS_NAMES, SLUGS, columns_of


class Baseline(NamedTuple):
    """features: fitted on the training images; models: K regressions, or the probability of a column with one class."""

    features: ColumnTransformer
    models: list[LogisticRegression | float]


def people(path: str | os.PathLike, records: pd.DataFrame, images: pd.Series) -> pd.DataFrame:
    """image_id, sex, age, projection and view of the images, in their order. Raises ValueError for an image that the
    records lack; path: the records' file, for the message.
    """
    rows = records.set_index("image_id")[["sex", "age", "projection", "view"]]
    missing = ~images.isin(rows.index)
    if missing.any():
        raise ValueError(
            f"{path}: no row of {images[missing].iloc[0]!r}, which was trained on or predicted; `dvc repro` makes the "
            "records again, and all stages after them"
        )
    return rows.loc[images].reset_index()


def views(rows: pd.DataFrame) -> pd.Series:
    """AP, PA, lateral, or unknown for a frontal image without a view."""
    view = rows["view"].where(rows["view"].isin(("AP", "PA")), "unknown")
    return view.where(rows["projection"] != "lateral", "lateral")


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    age = possible(rows["age"].astype(np.float64))
    return pd.DataFrame({"sex": rows["sex"].fillna("unknown"), "age": age, "view": views(rows)})


def fit(rows: pd.DataFrame, target: np.ndarray, weight: np.ndarray) -> Baseline:
    """rows: N training images, as `people` gives them; target and weight N x K, as in the policy's label table.

    A target between 0 and 1 counts as a positive and a negative, each with its part of the weight. A column without
    both classes predicts its share for all images (one half where no label counts).
    """
    indicators = [
        (name, OneHotEncoder(categories=[values], handle_unknown="ignore"), [name])
        for name, values in (("sex", ["F", "M"]), ("view", ["AP", "PA", "lateral"]))
    ]
    age = make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True))
    features = ColumnTransformer([*indicators, ("age", age, ["age"])], sparse_threshold=0)
    x, models = features.fit_transform(_table(rows)), []
    for t, w in zip(target.T, weight.T, strict=True):
        counted = np.flatnonzero(w > 0)
        soft = counted[(t[counted] > 0) & (t[counted] < 1)]  # each counts again, as its smaller part
        index = np.r_[counted, soft]
        positive = np.r_[t[counted] > 0.5, t[soft] <= 0.5]
        part = np.where(positive, t[index], 1 - t[index])
        if 0 < positive.sum() < len(positive):
            models.append(LogisticRegression(max_iter=1000).fit(x[index], positive, sample_weight=w[index] * part))
        else:
            models.append(float(positive.mean()) if len(positive) else 0.5)
    return Baseline(features, models)


def predict(baseline: Baseline, rows: pd.DataFrame) -> np.ndarray:
    """Probabilities, N x K."""
    x = baseline.features.transform(_table(rows))
    columns = [np.full(len(x), m) if isinstance(m, float) else m.predict_proba(x)[:, 1] for m in baseline.models]
    return np.stack(columns, axis=1)


def replace_scores(
    predictions: pd.DataFrame, train: pd.DataFrame, path: str | os.PathLike, records: pd.DataFrame
) -> pd.DataFrame:
    """A classifier's predictions with the scores of a metadata baseline, fitted on the training rows of the
    classifier's label table; path: the records' file. Raises ValueError for a training row that was predicted as well.
    """
    overlap = train["image_id"].isin(predictions["image_id"])
    if overlap.any():
        raise ValueError(
            f"{train['image_id'][overlap].iloc[0]!r} is a training image in a label table and also in the predictions: "
            "they were made under different splits; `dvc repro` makes them again"
        )
    baseline = fit(people(path, records, train["image_id"]), columns_of(train, "target"), columns_of(train, "weight"))
    scores = predict(baseline, people(path, records, predictions["image_id"]))
    return predictions.assign(**{f"score.{name}": scores[:, k] for k, name in enumerate(SLUGS)})


def class_probabilities(train: pd.DataFrame, rows: pd.DataFrame, count: int) -> np.ndarray:
    """RSNA: probabilities, N x count, of the classes in CLASS_NAMES[count], fitted on all of `train` (records with
    class_name). With two classes, the first is everything that is not Normal."""
    others = [train["class_name"] == name for name in CLASS_NAMES[count][1:]]
    target = np.stack([~np.any(others, axis=0), *others], axis=1).astype(np.float64)
    scores = predict(fit(train, target, np.ones_like(target)), rows)
    return scores / scores.sum(axis=1, keepdims=True)
