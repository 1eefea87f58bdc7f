"""Boxes that radiologists drew, as shares of their image, so that they fit it at any size."""

from __future__ import annotations

import io
from typing import Protocol

import pandas as pd

from cxr.data.decode import ORIENTATION
from cxr.data.picture import open_picture
from cxr.data.sources.dicom_file import is_dicom, read_dicom

COLUMNS = ("image_id", "label", "x", "y", "width", "height")
SIDES = {"Rows": 0x00280010, "Columns": 0x00280011}  # DICOM's tags
TOLERANCE = 0.01  # share of an image's side that a published box may reach beyond it


class Files(Protocol):
    """A data set's files by name (cxr/data/sources/archive.py)."""

    def read(self, name: str) -> bytes: ...


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) of an image file in pixels, as it is decoded, from its header alone.

    Raises ValueError for a file whose header can't be read.
    """
    try:
        if is_dicom(data):
            header = read_dicom(io.BytesIO(data), list(SIDES.values()), pixels=False)
            return int(header.Columns), int(header.Rows)
        picture = open_picture(data)
        turned = picture.getexif().get(ORIENTATION, 1) >= 5
        return picture.size[::-1] if turned else picture.size
    except Exception as error:  # the decoders raise nearly every type on damaged files
        raise ValueError(f"no size can be read ({type(error).__name__})") from None


def relative(tree: Files, records: pd.DataFrame, boxes: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """(boxes with x, y, width and height as shares of their image's sides, 0 to 1; a note, '' for none).

    records: image_id and path; boxes: COLUMNS in pixels of the image. A box of an image without a record, or whose size
    can't be read, is left out. Where boxes reach beyond their images none is kept: the images are not of the size that
    the boxes were drawn on.
    """
    boxes = boxes.merge(records[["image_id", "path"]], on="image_id")
    sizes: dict[str, tuple[float, float]] = {}
    for path in boxes["path"].unique():
        try:
            sizes[path] = image_size(tree.read(path))
        except ValueError:
            continue
    boxes = boxes[boxes["path"].isin(sizes)].reset_index(drop=True)
    width, height = (boxes["path"].map({path: size[k] for path, size in sizes.items()}).astype(float) for k in (0, 1))
    shares = boxes.assign(
        x=boxes["x"] / width, y=boxes["y"] / height, width=boxes["width"] / width, height=boxes["height"] / height
    )[list(COLUMNS)]
    beyond = (shares["x"] + shares["width"] > 1 + TOLERANCE) | (shares["y"] + shares["height"] > 1 + TOLERANCE)
    if beyond.any():
        where = f"{int(beyond.sum()):,} of {len(shares):,} boxes reach beyond their images, such as that of "
        where += f"{shares.loc[beyond, 'image_id'].iloc[0]}"
        return shares[:0], f"{where}: the images have not their published size, so no box is used"
    return shares, ""
