"""The commonest DICOM of a chest film, read in a few comparisons: 8-bit gray, one baseline JPEG frame, no rescale,
window or LUT, explicit VR little endian (all of RSNA 2018). pydicom spends about as long on such a header as the scaled
decoder on its pixels.

A file that is anything else, or damaged, is not judged here: the answer is None, and pydicom reads it. No value of an
element but these is looked at, so nothing about the patient is.

Source: DICOM PS3.5, 7.1.2 (explicit VR) and A.4 (encapsulated pixels); PS3.10, 7.1 (preamble and meta information).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

JPEG_BASELINE = b"1.2.840.10008.1.2.4.50\0"  # UIDs are padded to an even length
LONG = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"UC", b"UR", b"SV", b"UV"))  # SQ is left out
SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
UNDEFINED = 0xFFFFFFFF
SYNTAX, PIXELS = (2, 0x10), (0x7FE0, 0x10)
ITEM, END_OF_SEQUENCE = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
ROWS, COLUMNS, MEANING = (0x28, 0x10), (0x28, 0x11), (0x28, 4)
# SamplesPerPixel, BitsAllocated, BitsStored, HighBit, PixelRepresentation
EXPECTED = {(0x28, 2): 1, (0x28, 0x100): 8, (0x28, 0x101): 8, (0x28, 0x102): 7, (0x28, 0x103): 0}
# What changes how stored values are shown, or how many frames there are: pydicom's business.
OTHERS = frozenset(
    [(0x28, element) for element in (6, 8, 0x120, 0x1050, 0x1051, 0x1052, 0x1053, 0x1054, 0x1056, 0x3000, 0x3010)]
    + [(0x7FE0, element) for element in (1, 2, 8, 9)]
)

_short, _long, _item = struct.Struct("<HH2sH"), struct.Struct("<HH2s2xL"), struct.Struct("<HHL")


class Frame(NamedTuple):
    """What the header says of a frame, and the frame: a JPEG file's bytes."""

    rows: int
    columns: int
    meaning: str  # MONOCHROME1 or MONOCHROME2
    jpeg: bytes


def simple_frame(data: bytes) -> Frame | None:
    """The frame of a whole DICOM file of the kind above; None for every other file, damaged ones too."""
    values: dict[tuple[int, int], bytes] = {}
    position, last = 132, (0, 0)
    try:
        while True:
            group, element, kind, length = _short.unpack_from(data, position)
            tag = (group, element)
            if tag <= last or tag in OTHERS:
                return None
            last, position = tag, position + 8
            if kind in LONG:
                length = _long.unpack_from(data, position - 8)[3]
                position += 4
                if tag == PIXELS:
                    break
            elif kind not in SHORT:
                return None
            if length == UNDEFINED:
                return None
            if group == 0x28 or group == 2:
                values[tag] = data[position : position + length]
            position += length
        expected = all(int.from_bytes(values[tag], "little") == value for tag, value in EXPECTED.items())
        meaning = values[MEANING].strip()
        if not expected or meaning not in (b"MONOCHROME1", b"MONOCHROME2") or length != UNDEFINED:
            return None
        if values[SYNTAX] not in (JPEG_BASELINE, JPEG_BASELINE[:-1]):
            return None
        *tag, length = _item.unpack_from(data, position)  # the offset table
        if tuple(tag) != ITEM:
            return None
        position += 8 + length
        *tag, length = _item.unpack_from(data, position)
        start, end = position + 8, position + 8 + length
        *following, _ = _item.unpack_from(data, end)  # a frame in several fragments has another item here
        if tuple(tag) != ITEM or tuple(following) != END_OF_SEQUENCE:
            return None
        rows, columns = (int.from_bytes(values[tag], "little") for tag in (ROWS, COLUMNS))
    except (struct.error, KeyError):
        return None
    return Frame(rows, columns, meaning.decode(), data[start:end])
