"""The gray-scale pipeline of DICOM: what each stored pattern of bits is shown as (PS3.3 C.7.6.3, C.11.1, C.11.2).

stored bits -> stored value -> modality (table, or slope and intercept) -> VOI (table or window) -> polarity -> padding.
Every step works on values one by one, so each is done once for every pattern that a pixel may have, and a picture is
then one look-up. Without a VOI step 8-bit values keep their places in the stored range; deeper ones are stretched
(cxr/data/picture.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cxr.data.picture import stretch, to_bytes

ELEMENTS = {  # that change what a stored value is shown as
    "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter", "WindowWidth",
    "PixelPaddingValue",
}  # fmt: skip
SAMPLE = 1024  # side of the image's middle in which values are compared with their neighbours
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def present(value: Any) -> bool:
    """Whether an element holds a value: not empty, and no list without one."""
    if value is None or value == "" or value == b"":
        return False
    return (not isinstance(value, list | tuple) and not hasattr(value, "append")) or any(map(present, value))


def several(value: Any) -> list:
    """The values of an element, of which there may be one."""
    return list(value) if isinstance(value, list | tuple) or hasattr(value, "append") else [value]


def number(values: Mapping, keyword: str, default: float) -> float:
    """An element's first value. Raises ValueError where it is no finite number."""
    if keyword not in values:
        return default
    try:
        value = float(several(values[keyword])[0])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"DICOM whose {keyword} is no number")
    return value


def check_numbers(keyword: str, value: Any) -> None:
    """Raise ValueError, without quoting it, where an element that should hold numbers holds anything else."""
    try:
        for one in several(value):
            float(one if present(one) else 0)
    except (TypeError, ValueError):
        raise ValueError(f"DICOM whose {keyword} is no number") from None


class Form(NamedTuple):
    """How bits are a stored value. width: of a pattern, 8 or 16; stored, high: Bits Stored, High Bit; signed."""

    width: int
    allocated: int
    stored: int
    high: int
    signed: bool

    @classmethod
    def of(cls, values: Mapping, packed: bool) -> Form:
        """Of an image's elements. packed: a codec gave the values, so that they lie in the lowest bits."""
        allocated, stored = int(values["BitsAllocated"]), int(values["BitsStored"])
        high = int(number(values, "HighBit", stored - 1))
        if packed or not stored - 1 <= high < allocated:
            high = stored - 1
        return cls(8 if allocated <= 8 else 16, allocated, stored, high, values["PixelRepresentation"] == 1)

    def patterns(self, pixels: np.ndarray) -> np.ndarray:
        """Decoded pixels as unsigned patterns of `width` bits."""
        if pixels.dtype.itemsize > 2:
            return (pixels >> self.shift).astype(np.uint16)
        unsigned = np.dtype(f"u{self.width // 8}")
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False).astype(unsigned, copy=False)

    @property
    def shift(self) -> int:
        """Bits below the stored ones."""
        return self.high + 1 - self.stored

    @property
    def _inner_shift(self) -> int:
        return self.shift if self.allocated <= 16 else 0

    def range(self) -> tuple[int, int]:
        """The lowest and the highest stored value."""
        if self.signed:
            return -(1 << self.stored - 1), (1 << self.stored - 1) - 1
        return 0, (1 << self.stored) - 1

    def values(self) -> np.ndarray:
        """The stored value of every pattern, int64: its Bits Stored bits up to High Bit. Others are no part of it."""
        value = (np.arange(1 << self.width) >> self._inner_shift) & ((1 << self.stored) - 1)
        return value - ((value >> self.stored - 1) << self.stored) if self.signed else value

    def check(self, pixels: np.ndarray, counts: np.ndarray) -> None:
        """Raise ValueError when the bits above Bits Stored belong to the values: then that number is wrong.

        pixels: patterns, H x W; counts: pixels of each pattern. Those bits may hold an overlay, a sign or anything
        else, and are ignored. But values cut off at too few bits jump where whole values change little.
        """
        stored = self.values()
        full = np.arange(1 << self.width) >> self._inner_shift
        if self.signed:
            top = 1 << self.width - self._inner_shift - 1
            full = (full + top) % (2 * top) - top
        if not counts[full != stored].any():
            return
        top, left = ((side - min(side, SAMPLE)) // 2 for side in pixels.shape)
        sample = pixels[top : top + SAMPLE, left : left + SAMPLE]
        cut, whole = (
            sum(np.abs(np.diff(values[sample], axis=axis)).mean() for axis in (0, 1)) for values in (stored, full)
        )
        if cut > whole:
            raise ValueError(f"DICOM says {self.stored} bits per pixel, but its values have more")


class Display:
    """What each pattern of one image's pixels is shown as."""

    def __init__(self, form: Form, values: Mapping) -> None:
        """Raises ValueError for elements that make no gray values."""
        self.form, self.values = form, values
        self.inverted = values["PhotometricInterpretation"] == "MONOCHROME1"
        self.padding = _padding(form, values)
        with np.errstate(over="ignore", invalid="ignore"):
            self.rescaled = modality(form, values)
            self.voi = voi(self.rescaled, form, values)
        if not np.isfinite(self.rescaled if self.voi is None else self.voi).all():
            raise ValueError("DICOM whose rescale or window makes no numbers of its pixels")

    @cached_property
    def reducible(self) -> np.ndarray | None:
        """The gray value of each stored value, where the mean of stored values is shown as the mean of their grays;
        else None.
        """
        if self.form.width != 8 or self.form.stored != 8 or self.voi is not None:
            return None
        grays, plain = self.grays(np.ones(256, np.int64))[0], np.arange(256)
        return grays if np.array_equal(grays, plain) or np.array_equal(grays, plain[::-1]) else None

    def grays(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gray value of each pattern, uint8, and the counts without padding. Padding is black in either polarity.

        counts: pixels of each pattern. Raises ValueError when all are padding.
        """
        counted = counts if self.padding is None else np.where(self.padding, 0, counts)
        if not counted.any():
            raise ValueError("blank: every pixel is padding")
        if self.voi is not None:
            grays = to_bytes(self.voi)
        elif self.form.stored <= 8:  # the whole stored range, so that values stay as they are
            low, high = self.rescaled.min(), self.rescaled.max()
            grays = to_bytes((self.rescaled - low) / max(high - low, 1e-9))
        else:
            grays = stretch(self.rescaled, counted)
        if self.inverted:
            grays = 255 - grays
        return (grays if self.padding is None else np.where(self.padding, np.uint8(0), grays)), counted

    def why_blank(self, counted: np.ndarray) -> str:
        """The window beside the pixels' range, as the end of a message; '' without a window."""
        if self.voi is None or "VOILUTSequence" in self.values:
            return ""
        shown = self.rescaled[counted > 0]
        center, width = (number(self.values, key, 0) for key in ("WindowCenter", "WindowWidth"))
        return (
            f"; its window is {width:g} wide around {center:g}, its pixels reach from {shown.min():g} to "
            f"{shown.max():g}"
        )


def modality(form: Form, values: Mapping) -> np.ndarray:
    """PS3.3 C.11.1: each pattern's value in the unit of the modality, float64. A missing slope is 1, an intercept 0."""
    stored = form.values()
    if (table := _table(values, "ModalityLUTSequence", form.range())) is not None:
        return table.look_up(stored).astype(np.float64)
    slope = number(values, "RescaleSlope", 1)
    if slope == 0:
        raise ValueError("DICOM with RescaleSlope 0, which makes all pixels alike")
    return stored * slope + number(values, "RescaleIntercept", 0)


def voi(rescaled: np.ndarray, form: Form, values: Mapping) -> np.ndarray | None:
    """PS3.3 C.11.2: each pattern's share of white, by the first table, else the first window that means something, else
    None.

    A table is scaled by its own largest entry: some devices write the width of an entry as the depth of the values.
    """
    if (table := _table(values, "VOILUTSequence", (float(rescaled.min()), float(rescaled.max())))) is not None:
        return table.look_up(np.rint(rescaled)) / max(int(table.entries.max()), 1)
    function = str(values.get("VOILUTFunction", "LINEAR")).strip().upper()
    centers, widths = (several(values.get(keyword, [])) for keyword in ("WindowCenter", "WindowWidth"))
    for center, width in zip(centers, widths, strict=False):
        if present(center) and present(width):
            pair = {"WindowCenter": center, "WindowWidth": width}
            center, width = (number(pair, keyword, 0) for keyword in pair)
            if function not in FUNCTIONS:
                raise ValueError(f"DICOM with a VOI LUT function that is none of {', '.join(FUNCTIONS)}")
            if width > (function == "LINEAR"):  # PS3.3 C.11.2.1.2.1: a narrower window means nothing
                return _window(rescaled, center, width, function)
    return None


def _window(rescaled: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    from pydicom import Dataset
    from pydicom.pixels import apply_windowing

    window = Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, width, function
    # Its output then reaches from 0 to 1, whatever the image's own range.
    window.PhotometricInterpretation, window.PixelRepresentation, window.BitsStored = "MONOCHROME2", 0, 1
    with np.errstate(over="ignore"):  # 1 / inf is the 0 that is meant
        return apply_windowing(rescaled, window)


class Table(NamedTuple):
    """A look-up table. first: the value that the first entry is for; entries: uint16."""

    first: int
    entries: np.ndarray

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """The entry of each value; values below the first have the first entry, above the last the last."""
        return self.entries[np.clip(values - self.first, 0, len(self.entries) - 1).astype(np.int64)]


def _table(values: Mapping, keyword: str, reach: tuple[float, float]) -> Table | None:
    """The first look-up table of a sequence (PS3.3 C.11.1.1), None where the sequence has none.

    reach: lowest and highest value that come in. Data of one byte an entry, of two bytes, and two entries to a word are
    read. Raises ValueError when their length fits none.
    """
    if keyword not in values:
        return None
    item = values[keyword][0]
    descriptor, data = (item.get(name) for name in ("LUTDescriptor", "LUTData"))
    if not present(descriptor) or not present(data):
        return None
    if len(several(descriptor)) != 3:
        raise ValueError(f"DICOM whose {keyword} has a descriptor of {len(several(descriptor))} numbers, not 3")
    check_numbers(keyword, descriptor)
    n, first, depth = (int(part) for part in descriptor)
    n, depth = n % 65536 or 65536, depth % 256
    if first > reach[1] and first - 65536 >= reach[0]:  # a negative number that was read as unsigned
        first -= 65536
    if isinstance(data, bytes):
        little = item.is_little_endian is not False
        words = data if len(data) % 2 == 0 else data + b"\0"
        entries = np.frombuffer(words, "<u2" if little else ">u2")
    else:
        check_numbers(keyword, data)
        entries = np.array(several(data)).astype(np.int64) % 65536
    if depth <= 8 and len(entries) == -(-n // 2) < n:
        entries = np.stack([entries & 255, entries >> 8], -1).ravel()[:n]
    if len(entries) != n:
        raise ValueError(f"DICOM whose {keyword} says {n} entries and has {len(entries)}")
    return Table(first, entries.astype(np.uint16))


def _padding(form: Form, values: Mapping) -> np.ndarray | None:
    """Whether each pattern is padding (PS3.3 C.7.5.1.1.2): one value, or all from it to the range limit. None without.

    Padding may lie outside the range of the stored values, so whole patterns count too.
    """
    if "PixelPaddingValue" not in values:
        return None
    value = number(values, "PixelPaddingValue", 0)
    ends = np.array([value, number(values, "PixelPaddingRangeLimit", value)]).astype(np.int64)
    patterns = np.arange(1 << form.width)
    if form.signed:
        half = 1 << form.width - 1
        ends, patterns = (ends + half) % (2 * half) - half, (patterns + half) % (2 * half) - half
    else:
        ends = ends % (1 << form.width)
    low, high = ends.min(), ends.max()
    stored = form.values()
    return ((low <= patterns) & (patterns <= high)) | ((low <= stored) & (stored <= high))
