"""Decoding of DICOM: transfer syntaxes, files without their header, bombs, and every kind of bad file."""

import io
import struct
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from cxr.core.resize import resize
from cxr.data.decode import decode
from cxr.data.sources.archive import Folder
from cxr.data.sources.dicom_headers import read_headers
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


SYNTAXES = {"implicit": ImplicitVRLittleEndian, "explicit": ExplicitVRLittleEndian, "big endian": ExplicitVRBigEndian}


def headless(form: str, syntax: str) -> bytes:
    """A 12-bit ramp in a file that lacks the preamble, the meta header or both."""
    pixels = ramp(np.uint16, 0, 4095)
    data = pydicom.dcmread(
        io.BytesIO(dicom(pixels, BitsStored=12, PatientSex="F", PatientAge="051Y", ViewPosition="PA"))
    )
    data.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    little = syntax != "big endian"
    data.PixelData = pixels.astype("<u2" if little else ">u2").tobytes()
    stream = io.BytesIO()
    implicit = syntax == "implicit"
    pydicom.dcmwrite(stream, data, implicit_vr=implicit, little_endian=little, force_encoding=True)
    whole = stream.getvalue()
    body = 132 + 12 + pydicom.dcmread(io.BytesIO(whole)).file_meta.FileMetaInformationGroupLength
    return {
        "whole": whole, "no preamble": whole[132:], "preamble cut": whole[128:], "no meta header": whole[body:],
        "preamble alone": whole[:132] + whole[body:],
    }[form]  # fmt: skip


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("form", ["whole", "no preamble", "preamble cut", "no meta header", "preamble alone"])
def test_a_file_without_its_header_is_read(form, syntax, tmp_path, recwarn):
    data = headless(form, syntax)
    np.testing.assert_allclose(pixels_of(data, "", 32), ramp(np.uint8, 0, 255), atol=1)
    (tmp_path / "x.dcm").write_bytes(data)
    assert read_headers(Folder(tmp_path), ["x.dcm"]) == [("F", 51, "PA")]
    assert not recwarn.list


@pytest.mark.parametrize("start", [b"\x08\x00\x16\x00", b"\x02\x00\x00\x00", b"\x00\x08\x00\x16", b"DICM"])
def test_what_only_begins_like_one_is_rejected_without_a_word_of_its_content(start, capfd, recwarn):
    for rest in (NAME.encode() * 50, bytes(500), b"\xff" * 500, b"UI\x1a\x00" + NAME.encode() * 50):
        with pytest.raises(ValueError) as caught:
            decode(start + rest, "x.dcm", 64)
        assert NAME not in str(caught.value) + "".join(capfd.readouterr()) + "".join(str(w.message) for w in recwarn)


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
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0] = ramp(np.uint8, 0, 255)
    data = dicom(pixels, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    np.testing.assert_allclose(pixels_of(data, "", 32), 0.299 * pixels[..., 0], atol=1)


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
        (dicom(ramp(np.uint8, 0, 255), "1.2.3.4.5"), r"can't be decoded \(unknown transfer syntax\)"),
        (dicom(ramp(np.uint8, 0, 255), Rows=64), "can't be decoded"),
        (
            dicom(ramp(np.uint8, 0, 255), Rows=20000, Columns=20000),
            "20000 x 20000 pixels: more than .* refused, undecoded",
        ),
        (dicom(ramp(np.uint8, 0, 255)[:1, :1]), "1 x 1 pixels: too small"),
        (dicom(ramp(np.uint8, 0, 255), PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR, not gray"),
        (dicom(ramp(np.uint8, 0, 255), PhotometricInterpretation="RGB"), "RGB and 1 samples per pixel, not gray"),
        (
            dicom(
                np.zeros((32, 32, 3), np.uint16),
                SamplesPerPixel=3,
                PhotometricInterpretation="RGB",
                PlanarConfiguration=0,
            ),
            "RGB of 16 bits, not 8",
        ),
        (dicom(ramp(np.uint8, 0, 255), PhotometricInterpretation=None), "DICOM without PhotometricInterpretation"),
        (dicom(ramp(np.uint8, 0, 255), BitsAllocated=None), "DICOM without BitsAllocated"),
        (dicom(ramp(np.uint8, 0, 255), BitsStored=12), "DICOM with 12 bits per pixel in 8"),
        (
            dicom(ramp(np.uint8, 0, 255), HTJ2KLossless, j2k(32, 32)),
            r"4\.201\) is HTJ2K; pip install pylibjpeg pylibjpeg-openjpeg",
        ),
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
    gray = encoded(Image.fromarray(ramp(np.uint8, 0, 255)), "JPEG2000", irreversible=False, no_jp2=True)
    small = dicom(ramp(np.uint8, 0, 255)), dicom(ramp(np.uint8, 0, 255), JPEG2000Lossless, gray)
    big = j2k(32, 32)
    at = big.index(b"\xff\x51") + 6
    big = big[:at] + struct.pack(">2I", 20000, 20000) + big[at + 8 :]
    bombs = [bomb_png(), oversized_jpeg(), dicom(ramp(np.uint8, 0, 255), JPEG2000Lossless, big), inflating(200)]
    bombs += [dicom(ramp(np.uint8, 0, 255), RLELossless, RUNS * 10), baseline(smooth(64, 64), frame=oversized_jpeg())]
    code = """
import resource, sys
from pathlib import Path
from cxr.data.decode import decode
from cxr.data.sources.archive import Folder
from cxr.data.sources.dicom_headers import read_headers
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
