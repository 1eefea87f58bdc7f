"""Decoding: gray values by hand-computed numbers, scaled decoding against a full one, and every kind of bad file."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from cxr.core.resize import resize
from cxr.data.decode import decode

NAME = "DOE^PLANTED"


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


def ramp(dtype, low: int, high: int) -> np.ndarray:
    """A 32 x 32 ramp from low to high, both reached."""
    return np.linspace(low, high, 1024).round().astype(dtype).reshape(32, 32)


# JPEG and PNG ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(1024, 1024), (2828, 2320), (390, 320), (390, 390)])
@pytest.mark.parametrize("size", [64, 96, 128, 225])
def test_scaled_decoding_stays_within_two_gray_levels_of_a_full_one(height, width, size):
    data = encoded(Image.fromarray(smooth(height, width)), "JPEG", quality=90)
    whole = np.asarray(Image.open(io.BytesIO(data))).astype(np.float32)
    reference = np.asarray(Image.fromarray(whole).resize((size, size), Image.Resampling.BILINEAR))
    picture = decode(data, "x.jpg", size)
    factor = next(f for f in (8, 4, 2, 1) if f == 1 or min(height, width) // f >= size)
    assert picture.pixels.shape == (-(-height // factor), -(-width // factor)), "reduced while it is decoded"
    assert picture.filled == (width / factor, height / factor)
    difference = np.abs(resize(picture.pixels, size, picture.filled) - reference)
    assert difference.mean() < 1 and np.percentile(difference, 99) < 6


def test_real_files_scaled_decoding(shared_data):
    files = sorted(shared_data.glob("rsna/stage_2_train_images/*.dcm"))[::21]
    files += sorted(shared_data.glob("chexpert/*/train/*/*/*.jpg"))[::40]
    for file in files:
        dicom = file.suffix == ".dcm"
        whole = pydicom.dcmread(file).pixel_array if dicom else np.asarray(Image.open(file).convert("L"))
        for size in (64, 96, 113, 225):
            picture = Image.fromarray(whole.astype(np.float32))
            reference = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
            decoded = decode(file.read_bytes(), file.name, size)
            difference = np.abs(resize(decoded.pixels, size, decoded.filled) - reference)
            assert difference.mean() < 1.5, (file, size)


def test_resize_squashes_and_averages():
    image = np.zeros((40, 80), np.uint8)
    image[:, 1::2] = 200
    small = resize(image, 10)
    assert small.shape == (10, 10) and small.dtype == np.uint8
    assert np.abs(small[:, 1:-1].astype(int) - 100).max() <= 3, (
        "columns finer than a pixel become their mean, not moire"
    )


def pixels_of(data: bytes, name: str, at_least: int) -> np.ndarray:
    return decode(data, name, at_least).pixels


def test_modes_become_the_gray_that_they_show():
    gray = ramp(np.uint8, 0, 255)
    picture = Image.fromarray(gray)
    rgb = np.stack([gray, gray, gray], -1)
    for same in (
        encoded(picture),
        encoded(Image.fromarray(rgb)),
        encoded(picture.convert("P")),
        encoded(picture.convert("LA")),
        encoded(Image.fromarray(np.dstack([rgb, np.full_like(gray, 255)]))),
        encoded(Image.fromarray(gray.astype(np.uint16) * 257)),
    ):
        np.testing.assert_allclose(pixels_of(same, "x.png", 32), gray, atol=1)
    half = np.dstack([rgb, np.full_like(gray, 128)])
    np.testing.assert_allclose(pixels_of(encoded(Image.fromarray(half)), "x.png", 32), gray * (128 / 255), atol=1)
    shallow = Image.fromarray(ramp(np.uint16, 100, 4095))  # 12 bits in 16: stretched
    np.testing.assert_allclose(pixels_of(encoded(shallow), "x.png", 32), gray, atol=1)
    blocks = Image.fromarray(np.kron(rgb[::8, ::8], np.ones((32, 32, 1), np.uint8)))
    expected = np.asarray(blocks.convert("L")).astype(int)
    cmyk = pixels_of(encoded(blocks.convert("CMYK"), "JPEG", quality=95), "x.jpg", 128)
    assert np.abs(cmyk - expected).mean() < 3
    colour = Image.fromarray(np.full((32, 32, 3), (255, 0, 0), np.uint8))
    assert abs(pixels_of(encoded(colour, "JPEG", quality=95), "x.jpg", 32).mean() - 76) < 2  # 0.299 * 255


def test_content_decides_not_the_name():
    picture = Image.fromarray(ramp(np.uint8, 0, 255))
    for data in (encoded(picture), encoded(picture, "JPEG"), dicom(ramp(np.uint8, 0, 255))):
        for name in ("x.jpg", "x.png", "x.dcm", "x"):
            assert pixels_of(data, name, 32).shape == (32, 32)


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


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", r"empty file \(0 bytes\)"),
        (b"GIF89a" + bytes(200), "neither JPEG, PNG nor DICOM"),
        (b"Path,Sex,Age\n" * 50, "neither JPEG, PNG nor DICOM"),
        (encoded(Image.fromarray(smooth(300, 300)), "JPEG")[:4000], "(?i)damaged file .*truncated"),
        (encoded(Image.fromarray(smooth(300, 300)))[:4000], "(?i)damaged file .*truncated"),
        (encoded(Image.fromarray(smooth(300, 300)), "JPEG")[:20], "damaged file"),
        (b"\xff\xd8" + bytes(100), "damaged file"),
        (encoded(Image.new("L", (1, 1))), "1 x 1 pixels: too small for a radiograph"),
        (encoded(Image.new("L", (1, 1)), "JPEG"), "1 x 1 pixels: too small"),
        (oversized_png(), "more than 64,000,000 pixels are refused|20000 x 20000 pixels: more than"),
        (oversized_jpeg(), "more than 64,000,000 pixels are refused|20000 x 20000 pixels: more than"),
        (encoded(Image.new("1", (9000, 8000))), "9000 x 8000 pixels: more than 64,000,000 are refused, undecoded"),
    ],
)
def test_bad_pictures(data, message):
    with pytest.raises(ValueError, match=message):
        decode(data, "x.jpg", 64)


# DICOM ----------------------------------------------------------------------------------------------------------------


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


def baseline(pixels: np.ndarray, **tags) -> bytes:
    frame = tags.pop("frame", None) or encoded(Image.fromarray(pixels), "JPEG", quality=95)
    return dicom(pixels, JPEGBaseline8Bit, frame, **tags)


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


RUNS = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 1_500_000  # RLE: each pair is 128 pixels


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
