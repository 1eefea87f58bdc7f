"""Image files for the tests of decoding: whole ones, damaged ones and decompression bombs."""

import io
import struct
import warnings
import zlib

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from cxr.data.decode import decode

NAME = "DOE^PLANTED"
RUNS = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 1_500_000  # RLE: each pair is 128 pixels


def encoded(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A chest-like picture: large soft structures, some fine texture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 10)).astype(np.uint8)).resize((width, height))
    return np.clip(np.asarray(coarse) + rng.normal(0, 4, (height, width)), 0, 255).astype(np.uint8)


def dicom(pixels: np.ndarray | None, syntax=ExplicitVRLittleEndian, frame: bytes | None = None, **tags) -> bytes:
    """A DICOM file of these stored values. frame: their encapsulated form; tags: replace elements, or (None) remove."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.PatientName, data.PatientID, data.PatientBirthDate = NAME, NAME, "19010203"
    data.PhotometricInterpretation, data.SamplesPerPixel = "MONOCHROME2", 1
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape[-2:] if pixels.ndim == 2 or pixels.shape[-1] != 3 else pixels.shape[:2]
        data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data.PixelData = encapsulate([frame]) if frame else pixels.tobytes()
        data["PixelData"].VR = "OB" if frame or pixels.itemsize == 1 else "OW"
    for tag, value in tags.items():
        setattr(data, tag, value) if value is not None else delattr(data, tag)
    if "BitsStored" in data:
        data.HighBit = data.BitsStored - 1
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(stream, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return stream.getvalue()


def planted(data: bytes, keyword: str, vr: str, text: str) -> bytes:
    """A DICOM file (explicit VR) in which one element, of the meta header too, holds a text under the VR of a text."""
    header = pydicom.dcmread(io.BytesIO(data))
    tag = pydicom.tag.Tag(keyword)
    even = text + " " * (len(text) % 2)
    if keyword == "TransferSyntaxUID":
        uid = header.file_meta.TransferSyntaxUID.encode()
        return data.replace(uid, even.encode().ljust(len(uid), b"\0"), 1)
    part = header.file_meta if tag.group == 2 else header
    part[tag] = pydicom.DataElement(tag, "LO", even, validation_mode=pydicom.config.IGNORE)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.filewriter.dcmwrite(stream, header, implicit_vr=False, little_endian=True)
    name = struct.pack("<2H", tag.group, tag.element)
    return stream.getvalue().replace(name + b"LO", name + vr.encode())


def ramp(dtype, low: int, high: int) -> np.ndarray:
    """A 32 x 32 ramp from low to high, both reached."""
    return np.linspace(low, high, 1024).round().astype(dtype).reshape(32, 32)


def pixels_of(data: bytes, name: str, at_least: int) -> np.ndarray:
    return decode(data, name, at_least).pixels


def baseline(pixels: np.ndarray, **tags) -> bytes:
    frame = tags.pop("frame", None) or encoded(Image.fromarray(pixels), "JPEG", quality=95)
    return dicom(pixels, JPEGBaseline8Bit, frame, **tags)


def j2k(height: int, width: int) -> bytes:
    return encoded(Image.new("L", (width, height)), "JPEG2000", irreversible=False, no_jp2=True)


def inflating(megabytes: int) -> bytes:
    """A small DICOM file that inflates to so many megabytes."""
    stream = io.BytesIO()
    data = pydicom.dcmread(io.BytesIO(dicom(ramp(np.uint8, 0, 255))))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.PixelData = bytes(megabytes << 20)
    data.save_as(stream)
    return stream.getvalue()


def oversized_png() -> bytes:
    """A PNG header that announces 20000 x 20000 pixels; there are hardly any."""
    data = bytearray(encoded(Image.fromarray(ramp(np.uint8, 0, 255))))
    data[16:24] = (20000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def oversized_jpeg() -> bytes:
    data = bytearray(encoded(Image.fromarray(ramp(np.uint8, 0, 255)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = (20000).to_bytes(2, "big") * 2
    return bytes(data)


def bomb_png() -> bytes:
    """20000 x 20000 black pixels, whole, in 400 kB."""
    pack = zlib.compressobj(9)
    rows = b"".join([*(pack.compress(bytes(20001 * 100)) for _ in range(200)), pack.flush()])
    chunks = ((b"IHDR", struct.pack(">2I5B", 20000, 20000, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    body = (struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b)) for t, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
