"""All X-rays of the training patients, whatever their labels: what a generator of all training images learns from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core.findings import in_view
from cxr.core.guard import SplitId, guard, read_split
from cxr.core.records import load


class Everybody(NamedTuple):
    """training: records of all training patients' images of a view. split_sha256: of the split's table."""

    training: pd.DataFrame
    split_sha256: str


def everybody(records: Path, split: Path, view: str, what: str) -> Everybody:
    """CheXpert's training patients, sorted by image_id. what: the training, such as diffusion@0.

    Raises ValueError for fewer than two images, and for images of held-out patients.
    """
    table = load(records, "chexpert")
    info: SplitId
    splits, info = read_split(split, "chexpert")
    training = splits.loc[splits["split"] == "train", "image_id"]
    chosen = in_view(table[table["image_id"].isin(training)], view).sort_values("image_id", ignore_index=True)
    guard(chosen, splits, by=info.by, what=what)
    if len(chosen) < 2:
        section = what.partition("@")[0]
        raise ValueError(f"{what}: {len(chosen)} {view} images of training patients; set {section}.view to all")
    return Everybody(chosen, info.sha256)
