"""Decoding of TIFF: files of another writer (tifffile) in every form, against the arrays that they were made of."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from cxr.data.decode import decode
from tests.data.pictures import dicom, encoded, ramp, smooth

GRAY = ramp(np.uint8, 0, 255)


def written(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def shown(data: bytes) -> np.ndarray:
    picture = decode(data, "x", 16)
    assert picture.filled == picture.pixels.shape[::-1]
    return picture.pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("zero", ["minisblack", "miniswhite"])
def test_eight_bits_keep_their_values_and_white_at_zero_is_turned_over(order, compression, zero):
    data = written(GRAY, photometric=zero, compression=compression, byteorder=order)
    np.testing.assert_array_equal(shown(data), 255 - GRAY if zero == "miniswhite" else GRAY)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_the_lossless_compressions_of_scanners(compression):
    np.testing.assert_array_equal(shown(encoded(Image.fromarray(GRAY), "TIFF", compression=compression)), GRAY)


@pytest.mark.parametrize("order, zero", [("<", "minisblack"), (">", "minisblack"), ("<", "miniswhite")])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("low, high", [(0, 65535), (100, 4095)])
def test_deep_pixels_are_stretched_with_the_polarity_that_the_file_states(order, zero, compression, low, high):
    deep = ramp(np.uint16, low, high)
    data = written(deep, photometric=zero, compression=compression, byteorder=order)
    np.testing.assert_allclose(shown(data), 255 - GRAY if zero == "miniswhite" else GRAY, atol=1)


def test_a_deep_tiff_is_the_same_picture_as_the_png_of_its_pixels():
    deep = (smooth(80, 64).astype(np.uint16) * 13) + 7
    deep[:3] = 65535  # a label burned in
    np.testing.assert_array_equal(shown(written(deep)), shown(encoded(Image.fromarray(deep))))


def test_tiles_big_files_and_colours():
    big = smooth(96, 64)
    np.testing.assert_array_equal(shown(written(big, tile=(32, 32))), big)
    np.testing.assert_array_equal(shown(written(big, bigtiff=True)), big)
    rgb = np.stack([GRAY] * 3, -1)
    for planes in ("contig", "separate"):
        pixels = rgb if planes == "contig" else np.moveaxis(rgb, 2, 0)
        np.testing.assert_allclose(shown(written(pixels, photometric="rgb", planarconfig=planes)), GRAY, atol=1)
    half = np.dstack([rgb, np.full_like(GRAY, 128)])
    straight = written(half, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_allclose(shown(straight), GRAY * (128 / 255), atol=1)
    np.testing.assert_array_equal(shown(encoded(Image.fromarray(GRAY).convert("P"), "TIFF")), GRAY)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation):
    corners = np.zeros((32, 48), np.uint8)
    corners[:16, :16], corners[:16, -16:] = 255, 128
    pixels = shown(written(corners, extratags=[(274, "H", 1, orientation, True)]))
    top_left = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert pixels[top_left[orientation]] == 255
    assert pixels.shape == ((48, 32) if orientation > 4 else (32, 48))


@pytest.mark.parametrize(
    "data, message",
    [
        (written(np.stack([GRAY, GRAY])), "TIFF with several pages"),
        (written(GRAY.astype(np.float32)), "TIFF with floating-point pixels"),
        (written(ramp(np.int16, -500, 500)), "TIFF with signed pixels"),
        (written(ramp(np.int8, -100, 100)), "TIFF with signed pixels"),
        (written(ramp(np.uint32, 0, 10**6)), "TIFF with 32 bits a pixel"),
        (written(np.stack([ramp(np.uint16, 0, 4095)] * 3, -1), photometric="rgb"), "TIFF with colours of 16 bits"),
        (written(ramp(np.uint16, 0, 9), photometric="miniswhite", byteorder=">"), "of a form that is not read"),
        (written(np.full((32, 32), 90, np.uint8)), "blank"),
        (written(smooth(300, 300))[:4000], "(?i)damaged file|TIFF that is damaged"),
        (written(smooth(300, 300), compression="zlib")[:-2000], "(?i)damaged"),
        (b"II*\0" + bytes(100), "TIFF that is damaged"),
        (written(np.zeros((8, 8), np.uint8)), "8 x 8 pixels: too small"),
    ],
)
def test_what_can_not_be_shown_rightly_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        decode(data, "x.tif", 16)


def test_a_bomb_is_refused_before_its_pixels_are_read():
    small = bytearray(written(GRAY))
    with tifffile.TiffFile(io.BytesIO(small)) as file:
        for name in ("ImageWidth", "ImageLength"):
            tag = file.pages[0].tags[name]
            small[tag.valueoffset : tag.valueoffset + 2] = (60000).to_bytes(2, "little")
    with pytest.raises(ValueError, match=r"refused, undecoded"):
        decode(bytes(small), "x.tif", 16)


def test_a_dicom_with_a_tiff_header_in_its_preamble_is_a_dicom():
    data = bytearray(dicom(GRAY))
    data[:8] = written(GRAY)[:8]
    np.testing.assert_array_equal(decode(bytes(data), "x", 16).pixels, GRAY)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_no_message_and_no_warning_quotes_what_the_file_says(compression, recwarn, capfd):
    whole = written(smooth(64, 64), description="DOE^PLANTED", software="PLANTED", compression=compression)
    assert b"PLANTED" in whole
    messages = []
    for end in range(8, len(whole), 97):
        broken = bytearray(whole[:end])
        broken[end // 2] ^= 0xFF
        try:
            decode(bytes(broken), "x.tif", 16)
        except ValueError as error:
            messages.append(str(error))
    assert messages and not any("PLANTED" in message for message in messages)
    assert not recwarn.list and "PLANTED" not in "".join(capfd.readouterr())
