"""Makes a predictor of a trained classifier: its calibration, operating points, outlier threshold and model card.

Everything is fitted on validation images or counted in training, with the functions of cxr/evaluation/operating.py;
test images only say what it is worth. So the numbers are those of the stage evaluate.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.classifier.formats import Model
from cxr.core.files import write_json
from cxr.core.findings import FINDINGS, SLUGS, columns_of, in_view
from cxr.evaluation import operating
from cxr.evaluation.classifiers import Settings
from cxr.predict import outliers
from cxr.predict.formats import LEVELS, Calibration, Finding, Outliers, Rate
from cxr.predict.model import score, write_gaussians
from cxr.report.page import text

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cxr.classifier.net import Classifier
    from cxr.core.store import Store
    from cxr.data.formats import Extra

TOLERANCE = 0.02  # a score of bf16 differs by less from the same network's in 32 bits


class Trained(NamedTuple):
    """The training rows, in the classifier's view: table: what it was trained on; real: the policy's label table."""

    table: pd.DataFrame
    real: pd.DataFrame

    @classmethod
    def of(cls, table: pd.DataFrame, real: pd.DataFrame, view: str) -> Trained:
        """The training rows of whole tables."""
        return cls(*(in_view(rows[rows["split"] == "train"], view) for rows in (table, real)))


class Network(NamedTuple):
    """A classifier, the store of its images, and its predictions."""

    fabric: Fabric
    net: Classifier
    store: Store
    predictions: pd.DataFrame

    def features(self, rows: pd.DataFrame) -> np.ndarray:
        """N x D, of the rows' images. Raises ValueError where the network's scores are not those it predicted."""
        scored = score(self.fabric, self.net, self.store.images[self.store.rows(rows["image_id"])])
        known = rows["image_id"].isin(self.predictions["image_id"]).to_numpy()
        check_scores(self.predictions, rows.loc[known, "image_id"], scored.scores[known])
        return scored.features


def number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def findings(predictions: pd.DataFrame, trained: Trained, settings: Settings) -> dict[str, Finding]:
    """Slug -> calibration. predictions: of the classifier, of validation and test images."""
    shares, true = operating.trained_share(trained.table), operating.true_share(trained.real)
    valid, test = (predictions[predictions["split"] == split] for split in ("valid", "test"))
    fitted = operating.fit_findings(valid, shares, true, settings)
    judged = {"final": operating.fit(predictions, shares, true, settings)}
    tables = operating.tables({"final": predictions}, judged, {"final": shares}, true, settings)
    rows = tables["operating"].set_index("finding")
    scores, result = columns_of(test, "score"), {}
    for k, (slug, name, f) in enumerate(zip(SLUGS, FINDINGS, fitted, strict=True)):
        row = rows.loc[name]
        rates = {rate: _rate(row, rate) for rate in ("sensitivity", "specificity")}
        probability = f.probability(scores[:, k])["calibrated"]
        levels = np.quantile(probability, np.linspace(0, 1, LEVELS + 1)) if f.scaling else []
        result[slug] = Finding(
            trained_share=number(f.trained),
            valid_share=number(f.valid),
            true_share=number(f.true),
            slope=f.scaling.slope if f.scaling else None,
            intercept=f.scaling.intercept if f.scaling else None,
            threshold=number(f.threshold),
            valid_positives=int(row["valid_positives"]),
            valid_negatives=int(row["valid_negatives"]),
            test_positives=int(row["positives"]),
            test_negatives=int(row["negatives"]),
            quantiles=[float(level) for level in levels],
            **rates,
        )
    return result


def _rate(row: pd.Series, name: str) -> Rate | None:
    if pd.isna(row[name]):
        return None
    return Rate(value=float(row[name]), low=number(row[f"{name}_low"]), high=number(row[f"{name}_high"]))


def sample(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, evenly spaced in the order of image_id."""
    rows = rows.sort_values("image_id", ignore_index=True)
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]


def fit_outliers(
    parts: Mapping[str, pd.DataFrame], features: Mapping[str, np.ndarray], view: str, false_alarms: float
) -> tuple[Outliers, outliers.Gaussians]:
    """parts: train, valid and test rows (image_id, projection) of all views; features: of their images, N x D each;
    view: the classifier's. Distances count over images of its view; the other view is known so that it can be named.

    Raises ValueError without a validation image of the view.
    """
    parts = {part: rows.reset_index(drop=True) for part, rows in parts.items()}
    gaussians = outliers.fit(features["train"], list(parts["train"]["projection"]))
    away = {part: outliers.distances(gaussians, features[part]) for part in ("valid", "test")}
    own = {part: away[part].min(axis=1)[in_view(parts[part], view).index] for part in away}
    if not len(own["valid"]):
        raise ValueError(f"no validation image with classifier.view = {view}, which the outlier threshold needs")
    limit = outliers.threshold(own["valid"], false_alarms)
    held_out = pd.concat([parts["valid"], parts["test"]])["projection"].to_numpy(object)
    guess = np.array(gaussians.views, object)[np.concatenate([away["valid"], away["test"]]).argmin(axis=1)]
    numbers = Outliers(
        images=len(parts["train"]),
        views=list(gaussians.views),
        false_alarms=false_alarms,
        threshold=limit,
        valid_images=len(own["valid"]),
        valid_refused=float((own["valid"] > limit).mean()),
        test_refused=float((own["test"] > limit).mean()) if len(own["test"]) else 0.0,
        view_accuracy=float((guess == held_out).mean()) if len(gaussians.views) > 1 else None,
    )
    return numbers, gaussians


def check_scores(predictions: pd.DataFrame, images: pd.Series, scores: np.ndarray) -> None:
    """Raises ValueError unless the network gives these images the scores that its predictions have."""
    kept = predictions.set_index("image_id").loc[images, [f"score.{slug}" for slug in SLUGS]].to_numpy()
    if not len(images):
        return
    if (gap := float(np.abs(kept - scores).max())) > TOLERANCE:
        raise ValueError(
            f"the network's scores differ from its predictions by up to {gap:.2g}: weights, images and predictions are "
            "not of one run; `dvc repro calibrate` makes them again"
        )


def write(
    folder: Path,
    trained: Path,
    meta: Model,
    calibration: Calibration,
    gaussians: outliers.Gaussians,
    extra: Sequence[Extra] = (),
) -> None:
    """Write a predictor's folder. trained: the classifier's; meta: its model.json; extra: the other data sets that it
    was trained on.
    """
    folder.mkdir()
    for name in ("model.safetensors", "model.json"):
        shutil.copyfile(trained / name, folder / name)
    write_json(folder / "calibration.json", calibration)
    write_gaussians(folder / "features.safetensors", gaussians)
    names = dict(zip(SLUGS, FINDINGS, strict=True))
    context = {"calibration": calibration, "model": meta.model_dump(), "names": names, "extra": extra}
    (folder / "README.md").write_text(text("predict/card.md.j2", context), encoding="utf-8")
