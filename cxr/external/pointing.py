"""Heat maps of a predictor against the boxes of another hospital's radiologists, finding by finding.

A finding counts where a label of the data set means it, or nearly (mapping.csv), and the image has that label and a box
of it. The floor has seen no pixel: where the boxes of the other patients lie on the mean, of all or of the same view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS
from cxr.explain import boxes as boxed
from cxr.explain import worth
from cxr.explain.worth import FLOORS
from cxr.external.mapping import SCORED, Meaning

if TYPE_CHECKING:
    from torch import nn

    from cxr.core.store import Store

SIDES = ["x", "y", "width", "height"]


def table(
    net: nn.Module, store: Store, rows: pd.DataFrame, boxes: pd.DataFrame, meanings: Sequence[Meaning], most: int
) -> pd.DataFrame:
    """A row for each finding and image with a box of it: finding, image_id, patient_id, view, and for each method and
    floor <method>.hit and <method>.iou, for each method <method>.random (cxr/explain/worth.py).

    rows: predictions (cxr/external/score.py), whose truth says which images have the finding; boxes: of
    cxr/data/boxes.py; most: images of one finding, evenly spaced in the order of image_id. A finding whose boxes are
    all of one patient has no floor and is left out. The table has no row where no finding counts.
    """
    parts = []
    for k, finding in enumerate(FINDINGS):
        labels = [one.label for one in meanings if one.finding == finding and one.answer in SCORED]
        own = boxes[boxes["label"].isin(labels)]
        chosen = rows[(rows[f"truth.{SLUGS[k]}"] == 1) & rows["image_id"].isin(own["image_id"])]
        chosen = chosen.sort_values("image_id", ignore_index=True)
        chosen = chosen.iloc[np.unique(np.linspace(0, len(chosen) - 1, min(most, len(chosen))).astype(int))]
        if chosen["patient_id"].nunique() > 1:
            parts.append(_finding(net, k, store, chosen.reset_index(drop=True), own))
    if not parts:
        return pd.DataFrame(columns=["finding", "image_id", "patient_id", "view"])
    return pd.concat(parts, ignore_index=True)


def _finding(net: nn.Module, place: int, store: Store, rows: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    of_image = dict(tuple(boxes.groupby("image_id")[SIDES]))
    masks = np.stack([boxed.mask(of_image[i].to_numpy().tolist(), 1, 1, store.size) for i in rows["image_id"]])
    images = store.images[store.rows(rows["image_id"])]
    maps, random = worth.method_maps(net, place, images)
    patients, views = rows["patient_id"].to_list(), rows["view"].fillna("").to_list()
    floors = (others_mean(masks, patients), others_mean(masks, patients, views))
    scored = boxed.score(maps | dict(zip(FLOORS, floors, strict=True)), masks, rows)
    scored = scored.assign(**{f"{method}.random": values for method, values in random.items()})
    scored.insert(0, "finding", FINDINGS[place])
    return scored


def others_mean(masks: np.ndarray, patients: Sequence[str], views: Sequence[str] | None = None) -> np.ndarray:
    """For each of N images how often the boxes of the other patients' images cover each pixel: float32 N x S x S.

    masks: bool N x S x S. views: then only of the image's own view, where another patient has one. Raises ValueError
    where all images are of one patient.
    """
    who, view = np.asarray(patients, object), None if views is None else np.asarray(views, object)
    if len(set(patients)) < 2:
        raise ValueError("a mean box of other patients needs two patients")
    result = np.empty(masks.shape, np.float32)
    for k in range(len(masks)):
        others = who != who[k]
        same = others & (view == view[k]) if view is not None else others
        result[k] = masks[same if same.any() else others].mean(axis=0)
    return result
