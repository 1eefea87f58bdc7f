"""Decoding of JPEG and PNG: scaled decoding against a full one, and every kind of bad file."""

import gzip
import io

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageOps

from cxr.core.resize import resize
from cxr.data import decode as decoding
from cxr.data.decode import decode
from tests.data.pictures import (
    baseline,
    dicom,
    encoded,
    oversized_jpeg,
    oversized_png,
    pixels_of,
    ramp,
    smooth,
)


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
    red = np.zeros((32, 32, 3), np.uint8)
    red[:16, :, 0] = 255
    shown = pixels_of(encoded(Image.fromarray(red), "JPEG", quality=95), "x.jpg", 32)
    assert abs(shown[:16].mean() - 76) < 2 and shown[16:].mean() < 2  # 0.299 * 255


@pytest.mark.parametrize("form", ["JPEG", "PNG", "PNG of 16 bits"])
@pytest.mark.parametrize("orientation", range(10))
def test_a_photograph_is_turned_as_its_exif_says(form, orientation):
    corners = np.zeros((64, 96), np.uint8)
    corners[:16, :16], corners[:16, -16:] = 255, 128
    picture = Image.fromarray(corners.astype(np.uint16) * 257 if "16" in form else corners)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture, form[:4].strip(), exif=exif, **({"quality": 95} if form == "JPEG" else {}))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expected = np.asarray(expected).astype(int) // (257 if "16" in form else 1)
    decoded = decode(data, "x", 16)
    assert (
        np.abs(resize(decoded.pixels, 32, decoded.filled).astype(int) - resize(expected.astype(np.uint8), 32)).mean()
        < 3
    )
    # by hand: where the first row and column of the file are to be seen
    top_left = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert resize(decoded.pixels, 32, decoded.filled)[top_left.get(orientation, (0, 0))] > 240


def test_phones_write_several_jpegs_into_one_file():
    first, second = Image.fromarray(smooth(400, 400)), Image.fromarray(smooth(400, 400, 1))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.abs(pixels_of(data, "x.jpg", 400).astype(int) - smooth(400, 400)).mean() < 3
    assert pixels_of(data, "x.jpg", 100).shape == (100, 100)


@pytest.mark.parametrize(
    "form, name, cure",
    [
        ("BMP", "BMP", "convert it to PNG"),
        ("WEBP", "WebP", "convert it to PNG"),
        ("GIF", "GIF", "convert it to PNG"),
        ("JPEG2000", "JPEG 2000 outside a DICOM", "convert it to PNG"),
        ("PDF", "PDF", "export the image from it as PNG"),
    ],
)
def test_other_formats_are_named_with_the_cure(form, name, cure):
    data = encoded(Image.fromarray(smooth(64, 64)), form)
    with pytest.raises(ValueError, match=f"^neither JPEG, PNG, TIFF nor DICOM, but {name}: {cure}"):
        decode(data, "x.jpg", 32)


@pytest.mark.parametrize(
    "data, name",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS: git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "a web page or an error of the server: download it again"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page or an error of the server"),
        (gzip.compress(b"x", mtime=0), "gzip: unpack it"),
        (b"PK\x03\x04", "ZIP: unpack it"),
    ],
)
def test_what_lies_where_an_image_should_be_is_named(data, name):
    with pytest.raises(ValueError, match=f"neither JPEG, PNG, TIFF nor DICOM, but {name}"):
        decode(data, "x.jpg", 32)


def test_content_decides_not_the_name():
    picture = Image.fromarray(ramp(np.uint8, 0, 255))
    for data in (encoded(picture), encoded(picture, "JPEG"), dicom(ramp(np.uint8, 0, 255))):
        for name in ("x.jpg", "x.png", "x.dcm", "x"):
            assert pixels_of(data, name, 32).shape == (32, 32)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", r"empty file \(0 bytes\)"),
        (b"GIF89a" + bytes(200), "neither JPEG, PNG, TIFF nor DICOM"),
        (b"Path,Sex,Age\n" * 50, "neither JPEG, PNG, TIFF nor DICOM"),
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


@pytest.mark.parametrize("form", ["JPEG", "DICOM", "PNG", "turned"])
def test_what_a_size_is_made_of_does_not_depend_on_other_sizes(form, monkeypatch):
    pixels = smooth(390, 320)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = {
        "JPEG": lambda: encoded(Image.fromarray(pixels), "JPEG", quality=90),
        "DICOM": lambda: baseline(pixels),
        "PNG": lambda: encoded(Image.fromarray(pixels)),
        "turned": lambda: encoded(Image.fromarray(pixels), "JPEG", quality=90, exif=exif),
    }[form]()
    sizes = [16, 32, 40, 41, 64, 80, 81, 160, 161, 224, 400]
    alone = {size: decode(data, "x", size) for size in sizes}
    calls = []
    monkeypatch.setattr(decoding, "decode", lambda *given: calls.append(given) or decode(*given))
    together = decoding.decode_for(data, "x", sizes)
    assert list(together) == sizes[::-1]
    for size in sizes:
        assert together[size].filled == alone[size].filled
        np.testing.assert_array_equal(together[size].pixels, alone[size].pixels)
    assert len(calls) == (4 if form in ("JPEG", "DICOM") else 1), "one decoding for the sizes that share a picture"
