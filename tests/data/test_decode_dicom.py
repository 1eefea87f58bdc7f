"""Decoding of DICOM: gray values by hand-computed numbers, bombs, and every kind of bad file."""

import io
import struct
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000Lossless,
    RLELossless,
)

from cxr.core.resize import resize
from cxr.data.decode import decode
from tests.data.pictures import (
    NAME,
    RUNS,
    baseline,
    bomb_png,
    dicom,
    encoded,
    inflating,
    j2k,
    oversized_jpeg,
    pixels_of,
    ramp,
    smooth,
)


def test_eight_bits_are_taken_as_they_are():
    pixels = ramp(np.uint8, 20, 200)
    np.testing.assert_array_equal(pixels_of(dicom(pixels), "", 32), pixels)
    np.testing.assert_array_equal(pixels_of(dicom(pixels, RescaleSlope=2, RescaleIntercept=-1024), "", 32), pixels)


def test_monochrome1_is_inverted():
    pixels = ramp(np.uint8, 20, 200)
    np.testing.assert_array_equal(
        pixels_of(dicom(pixels, PhotometricInterpretation="MONOCHROME1"), "", 32), 255 - pixels
    )
    deep = dicom(ramp(np.uint16, 0, 4095), BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(pixels_of(deep, "", 32), 255 - ramp(np.uint8, 0, 255), atol=1)


@pytest.mark.parametrize(
    "dtype, low, high, bits", [(np.uint16, 300, 4000, 12), (np.uint16, 0, 65535, 16), (np.int16, -1000, 900, 12)]
)
def test_deep_images_without_a_window_are_stretched(dtype, low, high, bits):
    data = dicom(ramp(dtype, low, high), BitsStored=bits)
    np.testing.assert_allclose(pixels_of(data, "", 32), ramp(np.uint8, 0, 255), atol=1)


def test_padding_does_not_count_as_the_darkest_pixel():
    pixels = ramp(np.int16, 0, 1000)
    pixels[:4] = -2000
    image = pixels_of(dicom(pixels, PixelPaddingValue=-2000), "", 32)
    assert (image[:4] == 0).all() and abs(int(image[16, 16]) - 114) <= 1  # pixel 528 of 128 to 1023


@pytest.mark.parametrize(
    "function, value, expected",
    [
        # PS3.3 C.11.2.1.2 with centre 2048, width 1000: (x - 2047.5) / 999 + 0.5 and so on, times 255
        ("LINEAR", 1548, 0),
        ("LINEAR", 2047, 127.4),
        ("LINEAR", 2297, 191.2),
        ("LINEAR", 2547, 255),
        (None, 2297, 191.2),
        ("LINEAR_EXACT", 1548, 0),
        ("LINEAR_EXACT", 2048, 127.5),
        ("LINEAR_EXACT", 2298, 191.25),
        ("SIGMOID", 2048, 127.5),
        ("SIGMOID", 2298, 186.4),  # 255 / (1 + e^-1)
        ("SIGMOID", 0, 0.07),
    ],
)
def test_windows_follow_the_standard(function, value, expected):
    tags = {"VOILUTFunction": function} if function else {}
    data = dicom(np.full((32, 32), value, np.uint16), BitsStored=12, WindowCenter=2048, WindowWidth=1000, **tags)
    assert abs(float(pixels_of(data, "", 32)[0, 0]) - expected) <= 0.51


def test_a_window_works_on_rescaled_values_and_the_first_of_several_counts():
    # Stored 100 is 2 * 100 - 50 = 150, the lower end of the window 200 +- 50, exactly.
    pixels = np.full((32, 32), 100, np.uint8)
    pixels[16:] = 125
    tags = {"RescaleSlope": 2, "RescaleIntercept": -50, "VOILUTFunction": "LINEAR_EXACT"}
    image = pixels_of(dicom(pixels, WindowCenter=[200, 9], WindowWidth=[100, 9], **tags), "", 32)
    assert image[0, 0] == 0 and image[31, 0] == 128


def test_a_negative_slope_inverts():
    data = dicom(ramp(np.uint16, 0, 4095), BitsStored=12, RescaleSlope=-1, RescaleIntercept=4095)
    np.testing.assert_allclose(pixels_of(data, "", 32), 255 - ramp(np.uint8, 0, 255), atol=1)


def test_a_voi_table_is_applied():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], list(range(255, -1, -1))
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    pixels = ramp(np.uint8, 0, 255)
    np.testing.assert_array_equal(pixels_of(dicom(pixels, VOILUTSequence=[table]), "", 32), 255 - pixels)


def test_transfer_syntaxes():
    pixels = ramp(np.uint16, 0, 4095)
    source = pydicom.dcmread(io.BytesIO(dicom(pixels, BitsStored=12)))
    for syntax in (RLELossless, JPEG2000Lossless):
        if syntax == RLELossless:
            source.compress(syntax, generate_instance_uid=False)
            frame = pydicom.encaps.get_frame(source.PixelData, 0, number_of_frames=1)
        else:
            frame = encoded(Image.fromarray(pixels), "JPEG2000", irreversible=False, no_jp2=True)
        data = dicom(pixels, syntax, frame, BitsStored=12)
        np.testing.assert_allclose(pixels_of(data, "", 32), ramp(np.uint8, 0, 255), atol=1)


def test_baseline_frames_are_reduced_while_they_are_decoded():
    pixels = smooth(1024, 1024)
    data = baseline(pixels, PhotometricInterpretation="MONOCHROME1")
    image = decode(data, "", 225)
    assert image.pixels.shape == (256, 256)
    reference = np.asarray(Image.fromarray(255 - pixels).resize((225, 225), Image.Resampling.BILINEAR))
    assert np.abs(resize(image.pixels, 225) - reference.astype(float)).mean() < 2
    windowed = pixels_of(baseline(pixels, WindowCenter=128, WindowWidth=256, VOILUTFunction="LINEAR_EXACT"), "", 225)
    assert windowed.shape == (1024, 1024), "a window is applied to whole pixels"
    np.testing.assert_allclose(windowed.astype(int), pixels, atol=12)


def test_colour_dicom():
    pixels = np.full((32, 32, 3), (255, 0, 0), np.uint8)
    data = dicom(pixels, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    assert (pixels_of(data, "", 32) == 76).all()


@pytest.mark.parametrize(
    "data, message",
    [
        (dicom(None), "DICOM without pixels"),
        (dicom(np.zeros((3, 32, 32), np.uint8)), r"says 32 x 32 pixels, what it holds has the shape \(3, 32, 32\)"),
        (dicom(ramp(np.uint8, 0, 255), JPEG2000Lossless, j2k(64, 48)), "says 32 x 32 pixels, its JPEG frame 48 x 64"),
        (dicom(ramp(np.uint8, 0, 255), RLELossless, RUNS), "but has .* bytes of them: refused, undecoded"),
        (dicom(ramp(np.uint8, 0, 255), RescaleSlope="1e308", RescaleIntercept=0), "makes no numbers of its pixels"),
        (inflating(1), r"deflated transfer syntax 1\.2\.840\.10008\.1\.2\.1\.99: refused, undecoded"),
        (dicom(ramp(np.uint8, 0, 255), PixelData=None), "DICOM without pixels"),
        (dicom(np.zeros((3, 32, 32), np.uint8), NumberOfFrames=3), "DICOM with 3 frames"),
        (dicom(ramp(np.uint8, 0, 255), "1.2.3.4.5"), r"can't be decoded \(transfer syntax 1\.2\.3\.4\.5\)"),
        (dicom(ramp(np.uint8, 0, 255), Rows=64), "can't be decoded"),
        (
            dicom(ramp(np.uint8, 0, 255), Rows=20000, Columns=20000),
            "20000 x 20000 pixels: more than .* refused, undecoded",
        ),
        (dicom(ramp(np.uint8, 0, 255)[:1, :1]), "1 x 1 pixels: too small"),
        (dicom(ramp(np.uint8, 0, 255), PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR, not gray"),
        (dicom(ramp(np.uint32, 0, 255)), "DICOM with 32 bits"),
        (baseline(smooth(64, 64), Rows=32), "DICOM says 64 x 32 pixels, its JPEG frame 64 x 64"),
        (baseline(smooth(200, 200))[:-9000], "cut short"),
        (dicom(ramp(np.uint8, 0, 255))[:140], "DICOM without pixels|damaged"),
    ],
)
def test_bad_dicoms_and_no_word_about_the_patient(data, message, capfd, recwarn):
    with pytest.raises(ValueError, match=message) as caught:
        decode(data, "x.dcm", 64)
    said = str(caught.value) + "".join(capfd.readouterr()) + "".join(str(warning.message) for warning in recwarn)
    assert NAME not in said and "19010203" not in said


def test_decompression_bombs_take_no_memory(tmp_path):
    """The peak of a process that refuses them all, over that of one that decodes a 32 x 32 DICOM of each kind."""
    small = dicom(ramp(np.uint8, 0, 255)), dicom(ramp(np.uint8, 0, 255), JPEG2000Lossless, j2k(32, 32))
    big = j2k(32, 32)
    at = big.index(b"\xff\x51") + 6
    big = big[:at] + struct.pack(">2I", 20000, 20000) + big[at + 8 :]
    bombs = [bomb_png(), oversized_jpeg(), dicom(ramp(np.uint8, 0, 255), JPEG2000Lossless, big), inflating(200)]
    bombs += [dicom(ramp(np.uint8, 0, 255), RLELossless, RUNS * 10), baseline(smooth(64, 64), frame=oversized_jpeg())]
    code = """
import resource, sys
from pathlib import Path
from cxr.data.decode import decode
for file in sys.argv[1:]:
    try:
        decode(Path(file).read_bytes(), file, 64)
    except ValueError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

    def run(files: list[bytes]) -> list[str]:
        paths = [tmp_path / f"{k}.img" for k in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout.splitlines()

    (least,) = run(list(small))
    *refused, peak = run(bombs)
    assert len(refused) == len(bombs) and int(peak) - int(least) < 80, (peak, least, refused)
