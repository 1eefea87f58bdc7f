"""A TIFF file -> an 8-bit gray image: one page, of up to 16 bits a pixel, with the polarity that it states.

Of 8 bits and fewer values stay as they are, deeper ones are stretched (cxr/data/picture.py). A form whose gray is not
sure is refused: Pillow reads signed bytes as unsigned, drops the lower half of 16-bit colours, and leaves 16-bit
values of WhiteIsZero as they are. Orientation: Pillow turns a TIFF when its pixels are read.
"""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from cxr.data.picture import MAX_PIXELS, Picture, check_size, stretch, whole

START = re.compile(rb"II[*+]\0|MM\0[*+]")  # classic and BigTIFF
BITS, PHOTOMETRIC, FORMAT = 258, 262, 339  # tags
WHITE_IS_ZERO = 0
COLOURS = frozenset(("RGB", "RGBA", "RGBa", "RGBX", "LA", "La", "P", "PA", "CMYK", "YCbCr"))
CONVERT = "export it as 8-bit or 16-bit gray"


def is_tiff(start: bytes) -> bool:
    """Whether a file that begins so is a TIFF."""
    return bool(START.match(start))


def decode(data: bytes) -> Picture:
    """Decode the bytes of a TIFF.

    Raises ValueError for several pages, more than MAX_PIXELS, and a form that is refused; for a damaged file what
    Pillow raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote what they warn of
        try:
            picture = Image.open(io.BytesIO(data), formats=("TIFF",))
        except Image.DecompressionBombError as error:
            raise ValueError(f"more than {MAX_PIXELS:,} pixels are refused, undecoded") from error
        except UnidentifiedImageError:
            raise ValueError(f"TIFF that is damaged, or of a form that is not read: {CONVERT}") from None
        check_size(*picture.size)
        _check_form(picture)
        white = picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO  # the pages' tags may be dropped with the pixels
        picture.load()
        if picture.mode.startswith("I"):
            return whole(_deep(np.asarray(picture), white))
        return whole(np.asarray(_gray(picture)))


def _check_form(picture: Image.Image) -> None:
    tags = picture.tag_v2
    bits, kinds = ({*np.atleast_1d(tags.get(tag, 1)).tolist()} for tag in (BITS, FORMAT))
    if getattr(picture, "is_animated", False):
        raise ValueError("TIFF with several pages: export the one image")
    if 3 in kinds or picture.mode == "F":
        raise ValueError(f"TIFF with floating-point pixels: {CONVERT}")
    if kinds - {1, 4}:  # 4: undefined
        raise ValueError(f"TIFF with signed pixels: {CONVERT}")
    if max(bits) > 16:
        raise ValueError(f"TIFF with {max(bits)} bits a pixel: {CONVERT}")
    if picture.mode not in ("1", "L", *COLOURS) and not picture.mode.startswith("I"):
        raise ValueError(f"TIFF with colours of the kind {picture.mode}: {CONVERT}")
    if picture.mode in COLOURS and max(bits) > 8:
        raise ValueError(f"TIFF with colours of {max(bits)} bits: {CONVERT}")


def _deep(values: np.ndarray, white: bool) -> np.ndarray:
    """Unsigned values of at most 16 bits, stretched. white: whether 0 is white."""
    values = values.astype(np.uint16)
    counts = np.bincount(values.ravel(), minlength=1 << 16)
    order = np.arange(1 << 16, dtype=np.float64)
    return stretch(-order if white else order, counts)[values]


def _gray(picture: Image.Image) -> Image.Image:
    """At most 8 bits a sample as gray; what is transparent lies on black."""
    straight = {"RGBa": "RGBA", "La": "LA", "CMYK": "RGB", "YCbCr": "RGB"}.get(picture.mode)
    picture = picture.convert(straight) if straight else picture
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    if picture.mode == "P":
        picture = picture.convert("RGB")
    return picture.convert("L")
