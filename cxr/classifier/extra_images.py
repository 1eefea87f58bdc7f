"""A training on more than one label table: the images of extra data sets beside CheXpert's (cxr/classifier/extra.py).

Nothing of this file is in the fingerprint of a training without extra data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from cxr.classifier import extra
from cxr.classifier.train import Labelled
from cxr.core.files import read_json
from cxr.core.formats import Format
from cxr.core.store import open_store
from cxr.training.batches import Images

if TYPE_CHECKING:
    import torch

    from cxr.classifier.run import Data


class Made(Format, extra="ignore"):
    """What a training reads of an extra data set's dataset.json."""

    size: int = Field(description="side of the packed images, pixels")
    split_sha256: str = Field(description="SHA-256 of the CheXpert split that its patients were compared with")


def splits(folder: Path | None) -> dict[str, str]:
    """The split that each data set in a folder of the stage extra_data was read for, by the data set's name."""
    files = sorted(folder.glob("*/dataset.json")) if folder else []
    return {file.parent.name: read_json(file, f"extra_data@{file.parent.name}", Made).split_sha256 for file in files}


def check(folder: Path, names: Sequence[str], size: int, split_sha256: str) -> None:
    """Raises ValueError, with the cure, for a name that stands twice, and for a data set of another split or size."""
    if len(set(names)) < len(names):
        raise ValueError(f"classifier.extra names a data set twice: {', '.join(names)}")
    for name in names:
        made = read_json(folder / name / "dataset.json", f"extra_data@{name}", Made)
        if made.split_sha256 != split_sha256:
            raise ValueError(
                f"{folder / name}: its patients were compared with another split, so held-out ones may be in it; "
                f"`dvc repro extra_data@{name}` makes it again"
            )
        if made.size != size:
            raise ValueError(
                f"{folder / name}: images of {made.size} pixels, classifier.size = {size}; "
                f"`dvc repro extra_data@{name}` makes it again"
            )


def add(data: Data, folder: Path, names: Sequence[str], view: str, size: int, device: torch.device | str) -> Data:
    """The data of a training, with extra rows at the end of the training part. data: loaded for a CPU, which copies no
    image; device: where the images go. Raises ValueError as `check` and `rows` do, and for an image of both.
    """
    more = extra.rows(folder, names, view)
    check(folder, names, size, data.split.sha256)
    for part in data.parts.values():
        if (twice := more["image_id"].isin(part.table["image_id"])).any():
            raise ValueError(f"image {more.loc[twice, 'image_id'].iloc[0]!r} is in data.extra and in data.chexpert")
    stores = [open_store(folder / name / "store" / str(size)) for name in names]
    parts = {}
    for name, part in data.parts.items():
        table = extra.joined(part.table, more) if name == "train" else part.table
        opened = [*part.images.stores, *(stores if name == "train" else [])]
        parts[name] = Labelled(table, Images(opened, table["image_id"], device))
    return data._replace(parts=parts)


def lengthened(spec: dict, images: int) -> dict:
    """A control arm's settings where so many extra images are trained on: an epoch that counts images counts them too.

    Raises ValueError for an arm whose weights or groups are of the table without them.
    """
    if spec["objective"] in ("pos_weight", "group_dro"):
        raise ValueError(
            f"study.arms has {spec['objective']}, whose weights are of the table without classifier.extra: take one of "
            "both out"
        )
    return spec | {"epoch_images": spec["epoch_images"] and spec["epoch_images"] + images}
