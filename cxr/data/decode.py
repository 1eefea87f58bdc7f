"""Decoding: a JPEG, PNG, TIFF or DICOM file -> an 8-bit gray image with bright bone.

A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the wanted size allows it (PIL's Image.draft), also inside a
DICOM where that is exact. cxr/data/dicom.py and grayscale.py hold what is DICOM's, tiff.py what is TIFF's. 8-bit values
stay as they are; a 16-bit PNG is stretched (cxr/data/picture.py). A photograph is turned as its EXIF orientation says.

Resizing squashes an image to a square, as both papers' code and Irvin et al. 2019 (CheXpert) do.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
from PIL import Image

from cxr.data import dicom, tiff
from cxr.data.picture import Picture, check_contrast, gray, open_picture, reduced, stretch, whole
from cxr.data.sources.dicom_file import is_dicom

ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# How other files that lie where an image should be begin, what they are, and the cure.
CONVERT = "convert it to PNG without loss"
OTHERS = (
    (rb"BM.{4}\0\0\0\0", "BMP", CONVERT),
    (rb"RIFF.{4}WEBP", "WebP", CONVERT),
    (rb"GIF8", "GIF", CONVERT),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000 outside a DICOM", CONVERT),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL", CONVERT),
    (rb".{4}ftyp(?:hei|hev|mif|msf|avi)", "HEIF or AVIF", CONVERT),
    (rb"%PDF", "PDF", "export the image from it as PNG"),
    (rb"\x5c\x01\0\0.{340}n[+i]1\0", "NIfTI", CONVERT),
    (rb"NRRD", "NRRD", CONVERT),
    (rb"\x1f\x8b", "gzip", "unpack it"),
    (rb"PK\x03\x04", "ZIP", "unpack it"),
    (rb"version https://git-lfs", "a pointer of Git LFS", "git lfs pull brings the file itself"),
    (rb"\s*<(?:!doctype|html|\?xml)", "a web page or an error of the server", "download it again"),
)


def decode(data: bytes, name: str, at_least: int) -> Picture:
    """Decode the bytes of an image file. A reduced picture has no side below at_least.

    The content decides the format, not the name. Raises ValueError with the reason for a file that is not one
    radiograph: empty, of another format or truncated, over MAX_PIXELS, a side under MIN_SIDE, without contrast, a DICOM
    without pixels, with several frames, or one that can't be shown rightly.
    """
    if not data:
        raise ValueError("empty file (0 bytes)")
    try:
        if is_jpeg_or_png(data):
            picture = _jpeg_or_png(data, at_least)
        elif is_dicom(data):
            picture = dicom.decode(data, at_least)
        elif tiff.is_tiff(data):
            picture = tiff.decode(data)
        else:
            raise ValueError(_other(data))
    except ValueError:
        raise
    except Exception as error:  # the decoders raise nearly every type on damaged files
        raise ValueError(f"damaged file ({type(error).__name__}: {error})") from error
    assert picture.pixels.dtype == np.uint8 and picture.pixels.ndim == 2
    check_contrast(np.asarray(Image.fromarray(picture.pixels).histogram()))
    return picture


def decode_for(data: bytes, name: str, sizes: Collection[int]) -> dict[int, Picture]:
    """The picture that an image of each size is made of: as `decode` decodes for that size alone, so that an image does
    not depend on what other sizes are asked for. Sizes that share a picture cost one decoding. Raises ValueError as
    `decode` does.
    """
    pictures: dict[int, Picture] = {}
    picture = None
    for size in sorted(set(sizes), reverse=True):
        if picture is None or size < picture.least:
            picture = decode(data, name, size)
        pictures[size] = picture
    return pictures


def begins_as_image(start: bytes) -> bool:
    """Whether the first 512 bytes of a file are those of an image, be it of a format that `decode` refuses."""
    if is_jpeg_or_png(start) or is_dicom(start) or tiff.is_tiff(start):
        return True
    return any(cure == CONVERT and re.match(form, start, re.DOTALL | re.IGNORECASE) for form, _, cure in OTHERS)


def is_jpeg_or_png(start: bytes) -> bool:
    return start[:2] == b"\xff\xd8" or start[:8] == b"\x89PNG\r\n\x1a\n"


def _other(data: bytes) -> str:
    """Why a file that is no image of ours is refused, with the cure where its format is known."""
    for start, form, cure in OTHERS:
        if re.match(start, data[:512], re.DOTALL | re.IGNORECASE):
            return f"neither JPEG, PNG, TIFF nor DICOM, but {form}: {cure}"
    return "neither JPEG, PNG, TIFF nor DICOM"


def _jpeg_or_png(data: bytes, at_least: int) -> Picture:
    picture = open_picture(data)
    turn = TURNS.get(picture.getexif().get(ORIENTATION))
    if picture.format != "PNG":  # JPEG, or the several JPEGs in one file that some phones write: the first
        if turn is None:
            return reduced(picture, at_least)
        # A turned picture that is reduced would be partly filled in its first column or row.
        return whole(np.asarray(gray(picture).transpose(turn)))
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.uint16)
        counts = np.bincount(deep.ravel(), minlength=1 << 16)
        shown = Image.fromarray(stretch(np.arange(1 << 16, dtype=np.float64), counts)[deep])
    else:
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
        if picture.mode == "P":
            picture = picture.convert("RGB")
        shown = picture.convert("L")
    return whole(np.asarray(shown if turn is None else shown.transpose(turn)))
