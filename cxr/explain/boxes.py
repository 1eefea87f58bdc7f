"""Heat maps against boxes that radiologists drew: does the map point at the finding?

    hit   the pointing game (Zhang et al. 2018): 1 where the map's largest value lies in a box, without a tolerance
    iou   the map's largest values, as many as the boxes have pixels, against the boxes: intersection over union

The floor is a map that has seen no pixel: where the boxes of the training images lie on the mean, also of each view.
A heat map that does not beat it says only that findings lie in lungs.

Shapes: N images, S image size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

Box = Sequence[float]  # x, y, width, height, in pixels of the original image


def mask(boxes: Sequence[Box], width: int, height: int, size: int) -> np.ndarray:
    """The pixels of an image, squashed to size x size, whose centres lie in a box: bool S x S. width, height: of the
    original image. A box between two centres gets the pixel that its middle lies in.
    """
    result = np.zeros((size, size), bool)
    for x, y, w, h in boxes:
        columns, rows = _span(x, w, size / width, size), _span(y, h, size / height, size)
        result[rows, columns] = True
    return result


def _span(start: float, length: float, scale: float, size: int) -> slice:
    """The pixels with start <= centre < start + length, at least one."""
    first, end = (int(np.ceil(edge * scale - 0.5)) for edge in (start, start + length))
    if end <= first:
        first = int((start + length / 2) * scale)
        end = first + 1
    return slice(min(max(first, 0), size - 1), min(max(end, 1), size))


def hits(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The pointing game's score of N maps: 1 or 0; where several pixels are the largest, the share of them in a box. A
    map that is the same everywhere so scores as a random point does. masks: N x S x S bool.
    """
    largest = maps == maps.max(axis=(1, 2), keepdims=True)
    return (largest & masks).sum(axis=(1, 2)) / largest.sum(axis=(1, 2))


def overlaps(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Intersection over union of N maps with the boxes at the boxes' own area: N, 0 to 1.

    Where pixels at the limit are equal, each counts in part, so that the area matches and their order says nothing.
    """
    result = np.zeros(len(maps))
    for k, (values, inside) in enumerate(zip(maps.reshape(len(maps), -1), masks.reshape(len(maps), -1), strict=True)):
        area = int(inside.sum())
        limit = np.sort(values)[len(values) - area]
        above, at = values > limit, values == limit
        part = (area - above.sum()) / at.sum()
        both = (above & inside).sum() + part * (at & inside).sum()
        result[k] = both / (2 * area - both)
    return result


def mean_boxes(masks: np.ndarray, views: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """The floor's maps: how often the boxes of training images cover each pixel, of the wanted view; a view without any
    gets the mean of all. masks: N x S x S of training images with boxes, views: theirs; wanted: M views -> M x S x S.
    """
    of = np.asarray(views, object)
    overall = masks.mean(axis=0)
    means = {view: masks[of == view].mean(axis=0) if (of == view).any() else overall for view in set(wanted)}
    return np.stack([means[view] for view in wanted]).astype(np.float32)


def score(maps: dict[str, np.ndarray], masks: np.ndarray, rows: pd.DataFrame) -> pd.DataFrame:
    """image_id, patient_id and view of the rows, and for each method <method>.hit and <method>.iou.

    maps: method, floors among them, -> N x S x S. Every image has a box.
    """
    if not masks.any(axis=(1, 2)).all():
        raise ValueError("an image without a box has nothing to point at: leave it out")
    table = rows[["image_id", "patient_id", "view"]].reset_index(drop=True)
    for method, values in maps.items():
        table[f"{method}.hit"], table[f"{method}.iou"] = hits(values, masks), overlaps(values, masks)
    return table
