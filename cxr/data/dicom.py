"""A DICOM file -> an 8-bit gray image: its elements, its frame, and the checks before anything is unpacked.

cxr/data/grayscale.py says what a stored value is shown as.
"""

from __future__ import annotations

import io
import struct
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cxr.data.grayscale import ELEMENTS, Display, Form, check_numbers, present
from cxr.data.picture import Picture, check_contrast, check_size, open_picture, reduced, whole
from cxr.data.sources.dicom_file import HEADER, Refused, read_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

TAGS = """
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns
    BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit
    RescaleIntercept RescaleSlope RescaleType ModalityLUTSequence
    WindowCenter WindowWidth VOILUTFunction VOILUTSequence
    PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths
"""
# The elements that are no number. What a file says in them is quoted only where it is a term of the standard.
OTHERS = frozenset(
    "PhotometricInterpretation RescaleType ModalityLUTSequence VOILUTFunction VOILUTSequence PixelData FloatPixelData "
    "DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths".split()
)
MEANINGS = frozenset(
    "MONOCHROME1 MONOCHROME2 RGB HSV ARGB CMYK YBR_FULL YBR_FULL_422 YBR_PARTIAL_422 YBR_PARTIAL_420 YBR_ICT "
    "YBR_RCT XYB".split()
)
NEEDED = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation")
NEEDED += ("BitsAllocated", "BitsStored", "PixelRepresentation")
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
RUN_LENGTH = "1.2.840.10008.1.2.5"
HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")


@cache
def _tags() -> list[int]:
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in TAGS.split()]


def decode(data: bytes, at_least: int) -> Picture:
    """Decode a DICOM file as cxr.data.decode.decode does. No message quotes free text of the file: it may name a
    person, wherever it stands.
    """
    import pydicom

    with pydicom.config.disable_value_validation():
        try:
            header = read_dicom(io.BytesIO(data), _tags())
        except Refused:
            raise
        except Exception as error:  # pydicom raises nearly every type
            raise ValueError(f"DICOM whose header can't be read ({type(error).__name__})") from error
        values = _values(header)
        _check(values)
        try:
            if values["SamplesPerPixel"] == 3:
                return whole(np.asarray(Image.fromarray(_full(header)).convert("L")))
            return _gray(header, values, at_least)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"damaged file ({type(error).__name__})") from error


def _values(header: Dataset) -> dict:
    """The value of each element that has one, by keyword.

    Looked up once: pydicom takes as long for an element that is absent as for parsing it.
    """
    from pydicom.datadict import keyword_for_tag

    values = {}
    for tag in list(header.keys()):
        keyword = keyword_for_tag(tag)
        try:
            value = header[tag].value
        except Exception as error:  # pydicom raises nearly every type
            raise ValueError(f"DICOM whose {keyword} can't be read ({type(error).__name__})") from error
        if present(value):
            if keyword not in OTHERS:
                check_numbers(keyword, value)
            values[keyword] = value
    return values


def _check(values: dict) -> None:
    """Raise ValueError for what is not one radiograph of up to 16 bits, before its pixels are decoded."""
    if "FloatPixelData" in values or "DoubleFloatPixelData" in values:
        raise ValueError("DICOM with floating-point pixels")
    if "PixelData" not in values:
        raise ValueError("DICOM without pixels, or cut short before their end")
    for keyword in NEEDED:
        if keyword not in values:
            raise ValueError(f"DICOM without {keyword}")
    check_size(values["Columns"], values["Rows"])
    if (frames := int(values.get("NumberOfFrames") or 1)) != 1:
        raise ValueError(f"DICOM with {frames} frames, not one radiograph")
    meaning, samples, bits = (values[key] for key in ("PhotometricInterpretation", "SamplesPerPixel", "BitsStored"))
    if not 1 <= bits <= 16:
        raise ValueError(f"DICOM with {bits} bits per pixel")
    if bits > values["BitsAllocated"]:
        raise ValueError(f"DICOM with {bits} bits per pixel in {values['BitsAllocated']}")
    if meaning == "PALETTE COLOR":
        raise ValueError("DICOM with photometric interpretation PALETTE COLOR, not gray: export it as MONOCHROME2")
    if (samples == 3) != meaning.startswith(("RGB", "YBR")) or (samples == 1) != meaning.startswith("MONOCHROME"):
        raise ValueError(f"DICOM with {_quoted(meaning)} and {samples} samples per pixel, not gray")
    if samples == 3 and bits != 8:
        raise ValueError(f"DICOM with {_quoted(meaning)} of {bits} bits, not 8")


def _quoted(meaning: str) -> str:
    return f"photometric interpretation {meaning}" if meaning in MEANINGS else "an unknown photometric interpretation"


def _gray(header: Dataset, values: dict, at_least: int) -> Picture:
    syntax = header.file_meta.TransferSyntaxUID
    form = Form.of(values, packed=syntax.is_transfer_syntax and syntax.is_encapsulated and syntax != RUN_LENGTH)
    meaning = values["PhotometricInterpretation"]
    display = _plain(form, meaning) if ELEMENTS.isdisjoint(values) else Display(form, values)
    # A window must see whole pixels: the mean of clipped values is not the clipped mean.
    if syntax == JPEG_BASELINE and display.reducible is not None:
        picture = _baseline(header, at_least)
        return picture._replace(pixels=255 - picture.pixels) if display.reducible[0] else picture
    pixels = form.patterns(_full(header))
    counts = np.bincount(pixels.ravel(), minlength=1 << form.width)
    form.check(pixels, counts)
    grays, counted = display.grays(counts)
    try:
        check_contrast(np.bincount(grays, counted, minlength=256))
    except ValueError as error:
        raise ValueError(f"{error}{display.why_blank(counted)}") from error
    return whole(grays[pixels])


@cache
def _plain(form: Form, meaning: str) -> Display:
    """The display of every image of this form without one of ELEMENTS."""
    return Display(form, {"PhotometricInterpretation": meaning})


def _cure(syntax: str) -> str:
    """What decodes a transfer syntax, where that may be missing."""
    if syntax in HTJ2K:
        return " is HTJ2K; pip install pylibjpeg pylibjpeg-openjpeg"
    return "" if find_spec("gdcm") else "; python-gdcm may decode them: pip install 'cxr[dicom]'"


def _full(header: Dataset) -> np.ndarray:
    """The whole frame, decoded by pydicom and its plugins (Pillow, python-gdcm): H x W, or H x W x 3."""
    from pydicom.uid import UID

    _check_frame(header)
    shape = (header.Rows, header.Columns) + (3,) * (header.get("SamplesPerPixel") == 3)
    if len(shape) == 2:
        header.pixel_array_options(correct_unused_bits=False)  # pydicom looks at Bits Stored alone, not at High Bit
    try:
        pixels = header.pixel_array
    except Exception as error:  # plugins raise nearly every type
        syntax = UID(header.file_meta.get("TransferSyntaxUID") or "")
        known = syntax.is_transfer_syntax and header.PhotometricInterpretation in MEANINGS
        raise ValueError(
            f"DICOM pixels can't be decoded ({f'transfer syntax {syntax}' if known else 'unknown transfer syntax'})"
            f"{_cure(syntax)}: {type(error).__name__}" + (f": {error}" if known else "")
        ) from error
    if pixels.shape != shape:
        raise ValueError(
            f"DICOM says {header.Columns} x {header.Rows} pixels, what it holds has the shape {pixels.shape}"
        )
    return pixels


def _check_frame(header: Dataset) -> None:
    """Refuse an encapsulated frame that unpacks to more pixels than the header says. The plugins don't check."""
    from pydicom.encaps import get_frame
    from pydicom.uid import UID

    width, height, data = header.Columns, header.Rows, header.PixelData
    whole = width * height * header.get("SamplesPerPixel", 1) * header.BitsAllocated // 8
    if len(data) > 2 * whole + (1 << 20):
        raise ValueError(
            f"DICOM says {width} x {height} pixels, but has {len(data):,} bytes of them: refused, undecoded"
        )
    syntax = UID(header.file_meta.get("TransferSyntaxUID") or "")
    if syntax.is_transfer_syntax and syntax.is_encapsulated:
        size = _stream_size(get_frame(data, 0, number_of_frames=1))
        if size not in (None, (width, height)):
            raise ValueError(f"DICOM says {width} x {height} pixels, its JPEG frame {size[0]} x {size[1]}")


def _stream_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a JPEG, JPEG-LS (SOF marker) or JPEG 2000 (SIZ marker) code stream, if any."""
    if (at := frame.find(b"\xff\x4f\xff\x51", 0, HEADER)) >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
        return right - left, bottom - top
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 9 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = struct.unpack_from(">2H", frame, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + length  # fill bytes may stand before a marker
    return None


def _baseline(header: Dataset, at_least: int) -> Picture:
    """An 8-bit baseline JPEG frame, reduced while it is decoded."""
    from pydicom.encaps import get_frame

    picture = open_picture(get_frame(header.PixelData, 0, number_of_frames=1))
    if picture.size != (header.Columns, header.Rows):
        width, height = picture.size
        raise ValueError(f"DICOM says {header.Columns} x {header.Rows} pixels, its JPEG frame {width} x {height}")
    return reduced(picture, at_least)
