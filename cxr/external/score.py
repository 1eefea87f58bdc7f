"""The table of predictions of one external data set: what a predictor says of each image, beside its truth.

Columns: image_id, patient_id, sex, age, projection, view, then for each finding score.<slug> (the network's), the
calibrated probability.<slug> and positive.<slug> as the predictor's own operating point gives them, and truth.<slug>.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core.findings import SLUGS, in_view
from cxr.data.sources.dataset import Dataset
from cxr.external.mapping import Meaning, truth

if TYPE_CHECKING:
    from cxr.core.store import Store
    from cxr.predict.model import Predictor

PEOPLE = ("image_id", "patient_id", "sex", "age", "projection", "view")
BLOCK = 512  # images in memory


def table(
    predictor: Predictor, rows: pd.DataFrame, store: Store, dataset: Dataset
) -> tuple[pd.DataFrame, list[Meaning], float]:
    """(predictions in the order of image_id; the labels' meanings; the share that predict would refuse as unlike).

    rows: records of the images to score, all in the store. Raises ValueError when no label means any finding.
    """
    rows = rows.sort_values("image_id", ignore_index=True)
    known, meanings = truth(dataset.labels(rows, dataset.findings), dataset)
    if np.isnan(known).all():
        raise ValueError(f"{dataset.title}: none of its labels means one of the model's findings; nothing to score")
    places = store.rows(rows["image_id"])
    starts = range(0, len(rows), BLOCK)
    judged = [predictor.judge(store.images[places[start : start + BLOCK]]) for start in starts]
    columns = {name: rows[name] for name in PEOPLE}
    kinds = {
        "score": np.concatenate([one.scores for one in judged]),
        "probability": np.concatenate([one.probability for one in judged]),
        "positive": np.concatenate([one.positive for one in judged]),
        "truth": known,
    }
    for kind, values in kinds.items():
        columns |= {f"{kind}.{slug}": values[:, k].astype(np.float32) for k, slug in enumerate(SLUGS)}
    unlike = float((np.concatenate([one.ratio for one in judged]) > 1).mean())
    return pd.DataFrame(columns), meanings, unlike


def of_view(rows: pd.DataFrame, view: str, name: str) -> pd.DataFrame:
    """The rows that a model of this view takes. Raises ValueError where there is none."""
    chosen = in_view(rows, view)
    if chosen.empty:
        raise ValueError(f"external {name}: no {view} image, and the model was trained on {view} ones alone")
    return chosen
