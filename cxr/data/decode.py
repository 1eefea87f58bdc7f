"""Decoding: a JPEG, PNG or DICOM file -> an 8-bit gray image with bright bone.

A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the wanted size allows it (PIL's Image.draft), also inside a
DICOM where that is exact. Gray values of a DICOM follow PS3.3 C.11.1 (rescale) and C.11.2 (VOI table and window).
Without a window 8-bit values stay as they are; deeper ones, and 16-bit PNGs, are stretched from the darkest to the
brightest pixel. MONOCHROME1 is inverted.

Resizing squashes an image to a square, as both papers' code and Irvin et al. 2019 (CheXpert) do.
"""

from __future__ import annotations

import io
import struct
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_PIXELS = 64_000_000  # four times the largest digital detector; more is a mistake or a decompression bomb
MIN_SIDE = 16
META = 1 << 16  # bytes in which a file's or frame's own header is looked for

DICOM_TAGS = """
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns
    BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue
    RescaleIntercept RescaleSlope RescaleType ModalityLUTSequence
    WindowCenter WindowWidth VOILUTFunction VOILUTSequence
    PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths
"""
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"


class Picture(NamedTuple):
    """A decoded image. pixels: uint8, H x W; filled: the width and height that the image fills.

    The last column and row are partly filled where the decoder's reduction does not divide the image's size.
    """

    pixels: np.ndarray
    filled: tuple[float, float]


def decode(data: bytes, name: str, at_least: int) -> Picture:
    """Decode the bytes of an image file. A reduced picture has no side below at_least.

    The content decides the format, not the name. Raises ValueError with the reason for a file that is not one
    radiograph: empty, of another format or truncated, over MAX_PIXELS, a side under MIN_SIDE, a DICOM without pixels or
    with several frames.
    """
    if not data:
        raise ValueError("empty file (0 bytes)")
    try:
        if data[128:132] == b"DICM":
            picture = _dicom(data, at_least)
        elif data[:2] == b"\xff\xd8" or data[:8] == b"\x89PNG\r\n\x1a\n":
            picture = _jpeg_or_png(data, at_least)
        else:
            raise ValueError("neither JPEG, PNG nor DICOM")
    except ValueError:
        raise
    except Exception as error:  # the decoders raise nearly every type on damaged files
        raise ValueError(f"damaged file ({type(error).__name__}: {error})") from error
    assert picture.pixels.dtype == np.uint8 and picture.pixels.ndim == 2
    return picture


def _whole(pixels: np.ndarray) -> Picture:
    return Picture(pixels, pixels.shape[::-1])


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels: more than {MAX_PIXELS:,} are refused, undecoded")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width} x {height} pixels: too small for a radiograph")


# JPEG and PNG ---------------------------------------------------------------------------------------------------------


def _open(data: bytes) -> Image.Image:
    """The picture's header, checked; its pixels are not decoded yet."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except Image.DecompressionBombError as error:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels are refused, undecoded") from error
    _check_size(*picture.size)
    return picture


def _reduce(picture: Image.Image, at_least: int) -> tuple[float, float]:
    """Make PIL decode a JPEG gray and reduced, no side below at_least. Returns the width and height that it fills."""
    drafted = picture.draft("L", (at_least, at_least))
    return drafted[1][2:] if drafted else picture.size


def _jpeg_or_png(data: bytes, at_least: int) -> Picture:
    picture = _open(data)
    if picture.format == "JPEG":
        filled = _reduce(picture, at_least)
        if picture.mode == "CMYK":
            picture = picture.convert("RGB")
        return Picture(np.asarray(picture.convert("L")), filled)
    if picture.mode.startswith("I"):
        return _whole(_stretch(np.asarray(picture).astype(np.float32)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    if picture.mode == "P":
        picture = picture.convert("RGB")
    return _whole(np.asarray(picture.convert("L")))


def _stretch(values: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """Scale linearly: the darkest value (of those `inside`) becomes 0, the brightest 255."""
    considered = values if inside is None else values[inside]
    low, high = float(considered.min()), float(considered.max())
    return _to_bytes((values - low) / max(high - low, 1e-9))


def _to_bytes(share: np.ndarray) -> np.ndarray:
    return (np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)


# DICOM ----------------------------------------------------------------------------------------------------------------


@cache
def _tags() -> list[int]:
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in DICOM_TAGS.split()]


def _dicom(data: bytes, at_least: int) -> Picture:
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if DeflatedExplicitVRLittleEndian.encode() in data[:META]:  # pydicom would inflate all of it, whatever it holds
        raise ValueError(
            f"DICOM with the deflated transfer syntax {DeflatedExplicitVRLittleEndian}: refused, undecoded"
        )
    # Only these tags are parsed, so nothing about the patient can end up in a message.
    with pydicom.config.disable_value_validation():
        header = pydicom.dcmread(io.BytesIO(data), specific_tags=_tags())
        # Look each element up once: pydicom takes as long for one that is absent as for parsing it.
        values = {(element := header[tag]).keyword: element.value for tag in list(header.keys())}
        rows, columns, bits = (values.get(keyword) or 0 for keyword in ("Rows", "Columns", "BitsStored"))
        if "FloatPixelData" in values or "DoubleFloatPixelData" in values:
            raise ValueError("DICOM with floating-point pixels")
        if not values.get("PixelData"):
            raise ValueError("DICOM without pixels, or cut short before their end")
        _check_size(columns, rows)
        if (frames := int(values.get("NumberOfFrames") or 1)) != 1:
            raise ValueError(f"DICOM with {frames} frames, not one radiograph")
        if not 1 <= bits <= 16:
            raise ValueError(f"DICOM with {bits} bits per pixel")
        if values.get("SamplesPerPixel") == 3 and bits == 8:
            return _whole(np.asarray(Image.fromarray(_full(header)).convert("L")))
        return _gray_dicom(header, values, bits, at_least)


def _gray_dicom(header: Dataset, values: dict, bits: int, at_least: int) -> Picture:
    meaning = values.get("PhotometricInterpretation")
    if meaning not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"DICOM with photometric interpretation {meaning}, not gray")
    signed = values.get("PixelRepresentation") == 1
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    table, windowed = _display(header, values, np.arange(low, high + 1))
    if not np.isfinite(table).all():
        raise ValueError("DICOM whose rescale or window makes no numbers of its pixels")
    # A window must see whole pixels: the mean of clipped values is not the clipped mean.
    if bits == 8 and not windowed and header.file_meta.get("TransferSyntaxUID") == JPEG_BASELINE:
        pixels, filled = _baseline(header, at_least)
    else:
        pixels, filled = _whole(_full(header))
    # Bits above BitsStored are no part of the value.
    places = pixels if pixels.dtype == np.uint8 and bits == 8 else np.clip(pixels.astype(np.int32), low, high) - low
    if windowed or bits <= 8:
        grays = _to_bytes(table) if windowed else _stretch(table)  # the whole stored range, so values stay as they are
        image = places if places.dtype == np.uint8 and np.array_equal(grays, np.arange(256)) else grays[places]
    else:
        padding = values.get("PixelPaddingValue")
        inside = None if padding is None else pixels != padding
        image = _stretch(table[places], inside if inside is None or inside.any() else None)
    return Picture(255 - image if meaning == "MONOCHROME1" else image, filled)


def _full(header: Dataset) -> np.ndarray:
    """The whole frame, decoded by pydicom and its plugins (Pillow, python-gdcm): H x W, or H x W x 3."""
    _check_frame(header)
    shape = (header.Rows, header.Columns) + (3,) * (header.get("SamplesPerPixel") == 3)
    try:
        pixels = header.pixel_array
    except Exception as error:  # plugins raise nearly every type
        syntax = header.file_meta.get("TransferSyntaxUID")
        cure = "" if find_spec("gdcm") else "; python-gdcm may decode them: pip install 'cxr[dicom]'"
        raise ValueError(
            f"DICOM pixels can't be decoded (transfer syntax {syntax}){cure}: {type(error).__name__}: {error}"
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
    if (at := frame.find(b"\xff\x4f\xff\x51", 0, META)) >= 0:
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

    picture = _open(get_frame(header.PixelData, 0, number_of_frames=1))
    if picture.size != (header.Columns, header.Rows):
        width, height = picture.size
        raise ValueError(f"DICOM says {header.Columns} x {header.Rows} pixels, its JPEG frame {width} x {height}")
    filled = _reduce(picture, at_least)
    return Picture(np.asarray(picture.convert("L")), filled)


def _display(header: Dataset, values: dict, stored: np.ndarray) -> tuple[np.ndarray, bool]:
    """What each stored value is shown as, and whether a window or table made it: then in 0..1, else in the rescaled
    unit.

    One entry per possible stored value, since rescale, table and window work on values one by one.
    """
    from pydicom import Dataset
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    if not values.keys().isdisjoint(("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")):
        stored = apply_modality_lut(stored, header)
    rescaled = np.asarray(stored, np.float64)
    if tables := values.get("VOILUTSequence"):
        depth = tables[0].LUTDescriptor[2]
        return apply_voi(rescaled.astype(np.int64), header) / ((1 << depth) - 1), True
    center, width = _first(values.get("WindowCenter")), _first(values.get("WindowWidth"))
    function = values.get("VOILUTFunction") or "LINEAR"
    # PS3.3 C.11.2.1.2.1: a narrower window means nothing.
    if center is None or width is None or not width > (function == "LINEAR"):
        return rescaled, False
    window = Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, width, function
    # Its output then reaches from 0 to 1, whatever the image's own range.
    window.PhotometricInterpretation, window.PixelRepresentation, window.BitsStored = "MONOCHROME2", 0, 1
    with np.errstate(over="ignore"):  # 1 / inf is the 0 that is meant
        return apply_windowing(rescaled, window), True


def _first(value) -> float | None:
    """Of several windows the first is the default one."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float | str) else value[0])
