"""The metadata baseline: what sex, age and view predict without a pixel.

A classifier that does no better has not been shown to read the image (docs/papers.md, E35 and E53). It is one logistic
regression per column (scikit-learn's, L2 with C = 1), fitted on the training images and on the labels of the policy
that it is compared under. Features: the age in standard deviations of the training images; indicators of sex and view;
and, times a strength, indicators of the age's decade, of each pair of sex, view and decade, and of each cell of all
three. At strength 0 the three add up; at 1, with many images, the score is the cell's own share of positives. The
strength is the one of STRENGTHS with the lowest cross-entropy in a cross-validation over training patients. Ages are
whole years. Unknown is a value of its own; an unknown or impossible age counts as the mean. What no training image has,
has no indicator.

Shapes: N images, K columns (findings or classes).
"""

from __future__ import annotations

import os
from itertools import combinations
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

COMBINED = {"+".join(names): names for size in (2, 3) for names in combinations(("sex", "view", "decade"), size)}
STRENGTHS = (0.0, 0.1, 0.3, 1.0)
FOLDS = 3  # of training patients


class Baseline(NamedTuple):
    """features: fitted on the training images; models: K regressions, or the probability of a column with one class."""

    features: ColumnTransformer
    models: list[LogisticRegression | float]


def people(path: str | os.PathLike, records: pd.DataFrame, images: pd.Series) -> pd.DataFrame:
    """image_id, patient_id, sex, age, projection and view of the images, in their order. Raises ValueError for an image
    that the records lack; path: the records' file, for the message.
    """
    rows = records.set_index("image_id")[["patient_id", "sex", "age", "projection", "view"]]
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
    """age, and the values that have indicators: sex, view, decade, and their combinations, joined."""
    age = np.floor(possible(rows["age"].astype(np.float64)))
    decade = (age // 10).map("{:.0f}".format).where(age.notna(), "unknown")
    table = pd.DataFrame({"age": age, "sex": rows["sex"].fillna("unknown"), "view": views(rows), "decade": decade})
    for joined, (first, *others) in COMBINED.items():
        table[joined] = table[first].str.cat([table[name] for name in others], sep="+")
    return table


def fit(rows: pd.DataFrame, target: np.ndarray, weight: np.ndarray) -> Baseline:
    """rows: N training images, as `people` gives them; target and weight N x K, as in the policy's label table.

    A target between 0 and 1 counts as a positive and a negative, each with its part of the weight. A column without
    both classes predicts its share for all images (one half where no label counts).
    """
    table = _table(rows)
    age = make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True))
    each = OneHotEncoder(handle_unknown="ignore")
    parts = [("age", age, ["age"]), ("single", each, ["sex", "view"]), ("combined", each, ["decade", *COMBINED])]
    features = ColumnTransformer(parts, sparse_threshold=0).fit(table)
    # Images with the same metadata are one row x, with the weights of their positives and negatives in each fold.
    alike = table.groupby(["sex", "view", "age"], dropna=False, sort=False).ngroup().to_numpy()
    x = features.transform(table.iloc[np.unique(alike, return_index=True)[1]])
    patient = np.unique(rows["patient_id"].astype(str), return_inverse=True)[1]
    cell = alike * FOLDS + np.random.default_rng(0).permutation(patient.max(initial=-1) + 1)[patient] % FOLDS
    combined = np.zeros(x.shape[1], bool)
    combined[features.output_indices_["combined"]] = True
    models: list[LogisticRegression | float] = []
    for t, w in zip(np.where(weight > 0, target, 0).T, weight.T, strict=True):
        counts = [np.bincount(cell, part, len(x) * FOLDS).reshape(-1, FOLDS) for part in (w * t, w * (1 - t))]
        positives, negatives = counts
        if positives.any() and negatives.any():
            models.append(_regress(x, positives, negatives, combined))
        else:
            models.append(float(positives.any()) if positives.any() or negatives.any() else 0.5)
    return Baseline(features, models)


def _regress(x: np.ndarray, positives: np.ndarray, negatives: np.ndarray, combined: np.ndarray) -> LogisticRegression:
    """The regression at the best strength. x U x F; positives, negatives U x FOLDS: weights; combined F: which columns
    the strength multiplies."""

    def fitted(strength: float, kept: np.ndarray) -> LogisticRegression | None:
        part = [weights[:, kept].sum(axis=1) for weights in (positives, negatives)]
        if not all(weights.any() for weights in part):
            return None
        scale = np.where(combined, strength, 1.0)
        index = [np.flatnonzero(weights) for weights in part]
        label = np.repeat([1, 0], [len(index[0]), len(index[1])])
        counted = np.r_[part[0][index[0]], part[1][index[1]]]
        model = LogisticRegression(solver="newton-cholesky").fit(x[np.r_[*index]] * scale, label, counted)
        model.coef_ *= scale  # so that it takes x
        return model

    def loss(strength: float) -> float:
        total = 0.0
        for fold in range(FOLDS):
            if model := fitted(strength, np.arange(FOLDS) != fold):
                logits = model.decision_function(x)
                total += positives[:, fold] @ np.logaddexp(0, -logits) + negatives[:, fold] @ np.logaddexp(0, logits)
        return total

    model = fitted(min(STRENGTHS, key=loss), np.ones(FOLDS, bool))
    assert model is not None
    return model


def predict(baseline: Baseline, rows: pd.DataFrame) -> np.ndarray:
    """Probabilities, N x K."""
    x = baseline.features.transform(_table(rows))
    columns = [np.full(x.shape[0], m) if isinstance(m, float) else m.predict_proba(x)[:, 1] for m in baseline.models]
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
