"""Opens a DICOM file, also one without its preamble or without its meta header."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pydicom import Dataset

START = 132  # bytes of the preamble and the letters DICM
HEADER = 1 << 16  # bytes in which the meta header is looked for


class Refused(ValueError):
    """A DICOM file that is refused before it is parsed. The message quotes nothing of the file."""


def is_dicom(start: bytes) -> bool:
    """Whether the first START bytes of a file, or more, are those of a DICOM file.

    Without a preamble the meta header (group 2) or the first element (group 8, in little or big endian) stands there.
    """
    little = start[:2] in (b"\x08\x00", b"\x02\x00") and start[3:4] == b"\x00"
    return b"DICM" in (start[128:132], start[:4]) or little or start[:3] == b"\x00\x08\x00"


def read_dicom(stream: BinaryIO, tags: Sequence[int], pixels: bool = True) -> Dataset:
    """The elements `tags` of a DICOM file. pixels: read those behind the pixel data too.

    Without a meta header the transfer syntax is that of the elements: implicit or explicit, little or big endian.
    Raises Refused for a deflated file, and what pydicom raises for a damaged one. No other element is parsed, so
    nothing about the patient can end up in a message.
    """
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    start = stream.read(HEADER)
    if DeflatedExplicitVRLittleEndian.encode() in start:  # pydicom would inflate all of it, whatever it holds
        raise Refused(f"DICOM with the deflated transfer syntax {DeflatedExplicitVRLittleEndian}: refused, undecoded")
    whole = start[128:132] == b"DICM"
    stream.seek(0)
    if start[:4] == b"DICM":  # the letters without the 128 bytes before them
        stream, whole = io.BytesIO(bytes(128) + stream.read()), True
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote what they warn of
        header = pydicom.dcmread(stream, force=not whole, stop_before_pixels=not pixels, specific_tags=list(tags))
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else syntax
    return header
