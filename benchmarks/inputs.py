"""Images in the sizes and formats of the two data sets, drawn by the phantom, in a folder that is made once a run.

CheXpert full: 2320 x 2828 gray JPEG; CheXpert small: 320 x 390 gray JPEG; RSNA: 1024 x 1024 baseline JPEG in a DICOM.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # worker processes import the script that started them, and are faster without pandas
    import pandas as pd

FULL, SMALL, CHALLENGE = (2828, 2320), (390, 320), (1024, 1024)  # height, width
QUALITY = {FULL: 90, SMALL: 90, CHALLENGE: 85}  # the challenge's files have about 110 kB


def radiograph(number: int, size: tuple[int, int]) -> np.ndarray:
    """A frontal phantom, uint8 H x W. The anatomy is drawn small and enlarged, the detector's grain is not."""
    from cxr.data.phantom.anatomy import Anatomy
    from cxr.data.phantom.cohort import render_frontal

    anatomy = Anatomy.sample((0, number, 5), number % 2 == 0, 30.0 + 5 * (number % 9))
    view = ("PA", "AP")[number % 2]
    return render_frontal(anatomy, {}, view, (0, number, 7), size, detail=min(0.8, 800 / size[0]))[0]


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY.get(pixels.shape, 90))
    return stream.getvalue()


def dicom(pixels: np.ndarray) -> bytes:
    """The image as the challenge packs it, without a patient."""
    import pydicom
    from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid(entropy_srcs=["benchmark"])
    data.Modality, data.BodyPartExamined, data.ViewPosition = "CR", "CHEST", "PA"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.LossyImageCompression = "01"
    data.PixelData = pydicom.encaps.encapsulate([jpeg(pixels)])
    data["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def files(folder: Path, n: int, size: tuple[int, int], encode: Callable[[np.ndarray], bytes] = jpeg) -> list[Path]:
    """n files of one kind in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.{'jpg' if encode is jpeg else 'dcm'}" for number in range(n)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(radiograph(number, size)))
    return paths


def records(paths: list[Path], repeat: int = 1) -> pd.DataFrame:
    """What cxr.pack needs of the canonical table: each file `repeat` times under another image_id."""
    import pandas as pd

    names = [path.name for path in paths] * repeat
    return pd.DataFrame({"image_id": [f"{i:06d}" for i in range(len(names))], "path": names})


def size_of(paths: list[Path]) -> str:
    """The files' mean size, in words."""
    return f"{np.mean([path.stat().st_size for path in paths]) / 1e6:.2f} MB a file"
