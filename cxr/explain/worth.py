"""What a classifier's heat maps are worth: each method and its floors on images with boxes, and with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from cxr.explain import boxes, maps, overlay, sanity
from cxr.explain.boxed import Boxed
from cxr.explain.formats import Measured, Worth
from cxr.explain.maps import METHODS

FLOORS = ("mean_box", "mean_box_of_view")


def method_maps(
    net: nn.Module, finding: int, images: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(method: its maps of N images, float32 N x S x S; method: how similar each is to that of random weights, N, NaN
    where one is flat). images: uint8 N x S x S. A method that the network does not allow is left out.
    """
    made, similar = {}, {}
    targets, random = [finding] * len(images), sanity.randomised(net, 0)
    for method in METHODS:
        if method == "grad_cam" and not _has_maps(net, images.shape[1]):
            continue
        made[method] = maps.heat_maps(net, images, targets, method)
        similar[method] = sanity.similarity(made[method], maps.heat_maps(random, images, targets, method))
    return made, similar


def scores(net: nn.Module, finding: int, test: Boxed, train: Boxed) -> tuple[pd.DataFrame, dict[str, float]]:
    """(a row for each test image, with <method>.hit and <method>.iou of METHODS and FLOORS;
    method: mean similarity of its maps to those of random weights, NaN where maps are flat).

    Raises ValueError without an image in either part.
    """
    if not len(test.rows) or not len(train.rows):
        raise ValueError(f"{len(test.rows)} test and {len(train.rows)} training images have boxes; both need some")
    found, similar = method_maps(net, finding, test.images)
    views, wanted = (part.rows["view"].fillna("").to_list() for part in (train, test))
    same = boxes.mean_boxes(train.masks, [""] * len(views), [""] * len(wanted))
    found |= dict(zip(FLOORS, (same, boxes.mean_boxes(train.masks, views, wanted)), strict=True))
    means = {k: float("nan") if np.isnan(one).all() else float(np.nanmean(one)) for k, one in similar.items()}
    return boxes.score(found, test.masks, test.rows), means


def examples(net: nn.Module, finding: int, test: Boxed, side: int = 160) -> Image.Image:
    """Six X-rays with their boxes in a row, and below them a row of heat maps for each method that is possible."""
    chosen = np.unique(np.linspace(0, len(test.rows) - 1, min(6, len(test.rows))).astype(int))
    grays, masks = test.images[chosen], test.masks[chosen]
    rows = [[overlay.outlined(gray, mask) for gray, mask in zip(grays, masks, strict=True)]]
    for method in METHODS:
        if method != "grad_cam" or _has_maps(net, grays.shape[1]):
            heats = maps.scaled(maps.heat_maps(net, grays, [finding] * len(grays), method))
            rows.append([overlay.coloured(gray, heat) for gray, heat in zip(grays, heats, strict=True)])
    whole = Image.new("RGB", (len(chosen) * (side + 4) - 4, len(rows) * (side + 4) - 4))
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            large = Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST)
            whole.paste(large, (x * (side + 4), y * (side + 4)))
    return whole


def _has_maps(net: nn.Module, size: int) -> bool:
    try:
        maps.feature_maps(net, size)
    except ValueError:
        return False
    return True


def measured(table: pd.DataFrame, similar: Mapping[str, float]) -> dict[str, Worth]:
    """Method -> what its maps are worth. table: of cxr/evaluation/pointing.py; similar: as of `scores`."""
    rows = {(row["method"], row["measure"]): row for row in table.to_dict("records")}

    def measure(method: str, name: str) -> Measured:
        row = rows[method, name]
        own = {"value": row["value"], "low": row["value_low"], "high": row["value_high"]}
        floor = rows[row["floor"], name]["value"]
        return Measured(**own, floor=floor, gain_low=row["gain_low"], gain_high=row["gain_high"], beats=row["beats"])

    return {
        method: Worth(
            hit=measure(method, "hit"), iou=measure(method, "iou"), random=None if np.isnan(value) else float(value)
        )
        for method, value in similar.items()
    }


def methods_of(table: pd.DataFrame) -> Sequence[str]:
    """The methods that a table of scores has."""
    return [method for method in METHODS if f"{method}.hit" in table]
