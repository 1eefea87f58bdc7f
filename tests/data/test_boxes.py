"""Boxes as shares of their image, and the size of an image from its header alone."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data import boxes
from cxr.data.sources.archive import Folder
from cxr.data.sources.registry import DATASETS
from tests.data.pictures import dicom, encoded, smooth


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[boxes.ORIENTATION] = orientation
    stream = io.BytesIO()
    Image.fromarray(smooth(40, 32)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def test_the_size_is_that_of_the_decoded_image():
    assert boxes.image_size(encoded(Image.fromarray(smooth(40, 32)))) == (32, 40)
    assert boxes.image_size(dicom(smooth(40, 32))) == (32, 40)
    assert boxes.image_size(turned(1)) == (32, 40) and boxes.image_size(turned(6)) == (40, 32)
    with pytest.raises(ValueError, match="no size can be read"):
        boxes.image_size(b"no image")


def relative(tmp_path, **change):
    for k, name in enumerate(("a.png", "b.png")):
        Image.fromarray(smooth(40, 32, k)).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"no image")
    records = pd.DataFrame({"image_id": ["a", "b", "c"], "path": ["a.png", "b.png", "c.png"]})
    rows = [("a", "Mass", 8, 10, 16, 20), ("c", "Mass", 1, 1, 2, 2), ("other", "Mass", 1, 1, 2, 2)]
    table = pd.DataFrame(rows, columns=list(boxes.COLUMNS)).assign(**change)
    return boxes.relative(Folder(tmp_path), records, table)


def test_a_box_is_a_share_of_its_image_and_lost_images_have_none(tmp_path):
    table, note = relative(tmp_path)
    assert table.to_numpy().tolist() == [["a", "Mass", 0.25, 0.25, 0.5, 0.5]] and note == ""


def test_boxes_of_images_of_another_size_are_left_out_with_a_note(tmp_path):
    table, note = relative(tmp_path, x=40)
    assert table.empty and list(table) == list(boxes.COLUMNS)
    assert note.startswith("1 of 1 boxes reach beyond their images, such as that of a: the images have not their")


def test_rsnas_boxes_are_of_an_opacity_and_nihs_of_their_own_finding():
    kept = pd.DataFrame({"image_id": ["i", "j"], "boxes": [np.array([[1.0, 2.0, 3.0, 4.0]]), []]})
    assert DATASETS["rsna"].boxes(kept).to_numpy().tolist() == [["i", "Lung Opacity", 1, 2, 3, 4]]
    box = {"finding": "Mass", "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "reader": ""}
    kept["boxes"] = [[box], []]
    assert DATASETS["nih"].boxes(kept).to_numpy().tolist() == [["i", "Mass", 1, 2, 3, 4]]
    assert DATASETS["padchest"].boxes is None
