"""The short cut through a DICOM header gives what pydicom gives, or None."""

import io

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from cxr.data import decode
from cxr.data.dicom_frame import simple_frame
from tests.data.test_decode import dicom, encoded, smooth

PIXELS = smooth(96, 80)
FRAME = encoded(Image.fromarray(PIXELS), "JPEG", quality=90)
FILE = dicom(PIXELS, JPEGBaseline8Bit, FRAME)


def test_what_it_reads():
    rows, columns, meaning, jpeg = simple_frame(FILE)
    assert (rows, columns, meaning) == (96, 80, "MONOCHROME2")
    assert jpeg.rstrip(b"\0") == FRAME.rstrip(b"\0")


@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_same_pixels_with_and_without_the_short_cut(meaning, monkeypatch):
    data = dicom(PIXELS, JPEGBaseline8Bit, FRAME, PhotometricInterpretation=meaning)
    assert simple_frame(data).meaning == meaning
    quick = decode.decode(data, "x.dcm", 40)
    monkeypatch.setattr(decode, "simple_frame", lambda data: None)
    slow = decode.decode(data, "x.dcm", 40)
    assert quick.filled == slow.filled and np.array_equal(quick.pixels, slow.pixels)


@pytest.mark.parametrize(
    "tags",
    [
        {"RescaleSlope": 2, "RescaleIntercept": 0},
        {"WindowCenter": 100, "WindowWidth": 50},
        {"NumberOfFrames": 1},
        {"PhotometricInterpretation": "RGB"},
        {"PixelRepresentation": 1},
        {"SamplesPerPixel": 3},
        {"BitsStored": 7},
        {"Rows": None},
        {"ReferencedImageSequence": [pydicom.Dataset()]},
        {"PixelData": encapsulate([FRAME, FRAME])},
        {"PixelData": encapsulate([FRAME], fragments_per_frame=2)},
    ],
    ids=str,
)
def test_what_pydicom_must_judge(tags):
    assert simple_frame(dicom(PIXELS, JPEGBaseline8Bit, FRAME, **tags)) is None


def test_other_transfer_syntaxes_are_pydicoms():
    assert simple_frame(dicom(PIXELS, ExplicitVRLittleEndian)) is None
    j2k = encoded(Image.fromarray(PIXELS), "JPEG2000")
    assert simple_frame(dicom(PIXELS, JPEG2000Lossless, j2k)) is None


def test_every_cut_file_is_left_to_pydicom():
    whole = len(FILE) - 8 - len(FRAME) % 2
    assert all(simple_frame(FILE[:length]) is None for length in range(0, whole, 7))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(132, len(FILE) - len(FRAME)), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_header_never_raises_nor_reads_outside_the_file(changes):
    damaged = bytearray(FILE)
    for place, value in changes:
        damaged[place] = value
    frame = simple_frame(bytes(damaged))
    assert frame is None or (len(frame.jpeg) < len(FILE) and 0 <= frame.rows < 1 << 16)


def test_real_files_take_it(shared_data):
    for file in sorted(shared_data.glob("rsna/stage_2_train_images/*.dcm"))[::50]:
        frame = simple_frame(file.read_bytes())
        header = pydicom.dcmread(file)
        assert (frame.rows, frame.columns) == (header.Rows, header.Columns)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(frame.jpeg))), header.pixel_array)
