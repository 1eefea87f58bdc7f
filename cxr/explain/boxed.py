"""X-rays with boxes, from a source's files to what a network reads and where the boxes lie in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.files import Progress
from cxr.core.resize import resize
from cxr.data.decode import decode
from cxr.data.picture import MAX_PIXELS
from cxr.data.sources.registry import share_patients
from cxr.explain.boxes import mask
from cxr.training.pretrained import trained_on

if TYPE_CHECKING:
    from cxr.data.sources.archive import Tree


class Boxed(NamedTuple):
    """rows: N records with image_id, patient_id, view; images: uint8 N x S x S; masks: bool N x S x S."""

    rows: pd.DataFrame
    images: np.ndarray
    masks: np.ndarray


def check_start(start: str, dataset: str) -> None:
    """Raises ValueError where the initial weights of the classifier have seen images of the data set's people: its maps
    would be judged on images that it has learnt from. start: classifier.weights.
    """
    if any(share_patients(seen, dataset) for seen in trained_on(start)):
        raise ValueError(
            f"classifier.weights = {start}: these weights were trained on images of {dataset}'s patients, on which the "
            "heat maps are judged: choose others, such as xrv:densenet121-res224-mimic_ch"
        )


def sample(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """The rows with boxes, at most so many, evenly spaced in the order of image_id."""
    rows = rows[rows["boxes"].map(len) > 0].sort_values("image_id", ignore_index=True)
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]


def read(tree: Tree, rows: pd.DataFrame, size: int) -> Boxed:
    """The images of rows with boxes, each squashed to size x size. An image that can't be decoded is left out."""
    kept, images, masks = [], [], []
    with Progress("explain", len(rows)) as progress:
        for place, (path, boxes) in enumerate(zip(rows["path"], rows["boxes"], strict=True)):
            for picture in _decoded(tree, path):
                height, width = picture.shape
                kept.append(place)
                images.append(resize(picture, size))
                masks.append(mask(boxes, width, height, size))
            progress.update(1)
    if not kept:
        return Boxed(rows.iloc[:0], np.zeros((0, size, size), np.uint8), np.zeros((0, size, size), bool))
    return Boxed(rows.iloc[kept].reset_index(drop=True), np.stack(images), np.stack(masks))


def _decoded(tree: Tree, path: str) -> Iterator[np.ndarray]:
    """The image at its whole size, in which boxes count pixels, or nothing where it can't be decoded."""
    try:
        yield decode(tree.read(path), path, MAX_PIXELS).pixels
    except ValueError:
        return
