"""DICOM's gray-scale pipeline: gray values worked out by hand from PS3.3 C.11, and every form of its elements."""

import io

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from cxr.data.decode import decode
from cxr.data.grayscale import Form
from tests.data.pictures import baseline, dicom, pixels_of, ramp, smooth

DEEP = ramp(np.uint16, 0, 4095)
GRAY = ramp(np.uint8, 0, 255)
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}
INVERSE = {"PhotometricInterpretation": "MONOCHROME1"}


def shown(pixels, **tags):
    """The gray values of a 12-bit image, as int."""
    return pixels_of(dicom(pixels, **{"BitsStored": 12} | tags), "", 32).astype(int)


def table(descriptor, data, vr="US"):
    """A sequence of one look-up table."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", vr, data)
    return [item]


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


# Windows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, value, expected",
    [
        # PS3.3 C.11.2.1.2 with centre 2048, width 1000: (x - 2047.5) / 999 + 0.5 and so on, times 255
        ("LINEAR", 1548, 0),
        ("LINEAR", 2047, 127.4),
        ("LINEAR", 2297, 191.2),
        ("LINEAR", 2547, 255),
        (None, 2297, 191.2),
        ("", 2297, 191.2),
        ("LINEAR_EXACT", 1548, 0),
        ("LINEAR_EXACT", 2048, 127.5),
        ("linear_exact", 2298, 191.25),
        ("SIGMOID", 2048, 127.5),
        ("SIGMOID", 2298, 186.4),  # 255 / (1 + e^-1)
        ("SIGMOID", 0, 0.07),
    ],
)
def test_windows_follow_the_standard(function, value, expected):
    pixels = DEEP.copy()
    pixels[0, 0] = value
    tags = {} if function is None else {"VOILUTFunction": function}
    assert abs(shown(pixels, WindowCenter=2048, WindowWidth=1000, **tags)[0, 0] - expected) <= 0.51
    inverse = shown(pixels, WindowCenter=2048, WindowWidth=1000, **tags, **INVERSE)
    assert abs(inverse[0, 0] - (255 - expected)) <= 0.51, "polarity comes after the window"


@pytest.mark.parametrize(
    "center, width",
    [("", ""), (2048, ""), ("", 4096), (2048, 0), (2048, 1), (2048, -5), (["", ""], ["", ""])],
)
def test_a_window_that_means_nothing_is_none(center, width):
    np.testing.assert_allclose(shown(DEEP, WindowCenter=center, WindowWidth=width), GRAY, atol=1)


def test_the_first_window_that_means_something_counts():
    image = shown(DEEP, WindowCenter=["", 2048, 7], WindowWidth=["", 4096, 7], VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_allclose(image, GRAY, atol=1)


@pytest.mark.parametrize("tags", [{"WindowCenter": -6000}, {"WindowCenter": 9000}, {"WindowCenter": 9000} | INVERSE])
def test_a_window_beside_the_values_is_a_reject(tags):
    with pytest.raises(
        ValueError, match=r"blank: .*window is 1500 wide around -?[69]000, its pixels reach from 0 to 4095"
    ):
        shown(DEEP, WindowWidth=1500, **tags)


# Modality -------------------------------------------------------------------------------------------------------------


def test_a_missing_slope_is_one_and_a_missing_intercept_zero():
    plain = shown(DEEP, **WINDOW)
    for slope in ("", 1):
        for intercept in ("", 0):
            tags = {"RescaleSlope": slope, "RescaleIntercept": intercept}
            np.testing.assert_array_equal(shown(DEEP, **WINDOW, **tags), plain)
    lower = WINDOW | {"WindowCenter": 1048}
    np.testing.assert_array_equal(shown(DEEP, **lower, RescaleIntercept=-1000), plain)
    twice = {"WindowCenter": 4096, "WindowWidth": 8192, "VOILUTFunction": "LINEAR_EXACT"}
    np.testing.assert_array_equal(shown(DEEP, **twice, RescaleSlope=2, RescaleIntercept=""), plain)


@pytest.mark.parametrize(
    "tags", [{"RescaleSlope": 0}, {"RescaleSlope": 0, "RescaleIntercept": 100}, {"RescaleSlope": 0} | WINDOW]
)
def test_slope_zero_is_a_reject(tags):
    with pytest.raises(ValueError, match="DICOM with RescaleSlope 0, which makes all pixels alike"):
        shown(DEEP, **tags)


def test_a_modality_table_comes_before_the_window():
    doubled = table([4096, 0, 16], list(range(0, 8192, 2)))
    tags = {"ModalityLUTSequence": doubled, "WindowCenter": 4096, "WindowWidth": 8192, "VOILUTFunction": "LINEAR_EXACT"}
    np.testing.assert_array_equal(shown(DEEP, **tags), shown(DEEP, **WINDOW))
    tags |= {"RescaleSlope": 7, "RescaleIntercept": 7}  # a table and a slope exclude each other: the table counts
    np.testing.assert_array_equal(shown(DEEP, **tags), shown(DEEP, **WINDOW))


# Tables ---------------------------------------------------------------------------------------------------------------

RISING = list(range(4096))
EIGHT = (np.arange(4096) // 16).astype(np.uint8)


@pytest.mark.parametrize(
    "voi",
    [
        table([4096, 0, 12], RISING),
        table([4096, 0, 16], RISING),  # the depth is an entry's width, not the values' range
        table([4096, 0, 10], RISING),  # or too small
        table([4096, 0, 16], [16 * value for value in RISING]),
        table([4096, 0, 12], np.array(RISING, "<u2").tobytes(), "OW"),
        table([4096, 0, 8], EIGHT.tobytes(), "OW"),  # two entries to a word
        table([4096, 0, 8], EIGHT.view("<u2").tolist()),
        table([4096, 0, 8], EIGHT.astype(int).tolist()),  # an entry to a word
        [Dataset()],  # without a table
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_voi_table_is_scaled_by_its_own_largest_entry(voi, photometric):
    image = shown(DEEP, VOILUTSequence=voi, PhotometricInterpretation=photometric)
    np.testing.assert_allclose(image, 255 - GRAY.astype(int) if photometric == "MONOCHROME1" else GRAY, atol=1)


def test_a_voi_table_comes_before_a_window_and_after_the_slope():
    falling = table([4096, 0, 12], RISING[::-1])
    np.testing.assert_allclose(
        shown(DEEP, VOILUTSequence=falling, WindowCenter=9, WindowWidth=9), GRAY[::-1, ::-1], atol=1
    )
    moved = table([4096, 1000, 12], RISING)
    np.testing.assert_allclose(shown(DEEP, VOILUTSequence=moved, RescaleIntercept=1000), GRAY, atol=1)


def test_values_beside_a_table_have_its_ends():
    image = shown(DEEP, VOILUTSequence=table([1024, 1024, 10], list(range(1024))))
    assert (image[DEEP <= 1024] == 0).all() and (image[DEEP >= 2047] == 255).all()
    assert abs(image[DEEP == 1537] - 128).max(initial=0) <= 1


def test_a_tables_first_value_may_be_negative():
    signed = (DEEP.astype(int) - 2048).astype(np.int16)
    voi = table([4096, 65536 - 2048, 12], RISING)  # -2048 as it is read when the element is taken for unsigned
    np.testing.assert_allclose(shown(signed, VOILUTSequence=voi), GRAY, atol=1)


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_table_of_another_length_than_it_says_is_a_reject(sequence):
    with pytest.raises(ValueError, match=rf"DICOM whose {sequence} says 4096 entries and has 400"):
        shown(DEEP, **{sequence: table([4096, 0, 12], RISING[:400])})


# Padding --------------------------------------------------------------------------------------------------------------

BODY = ramp(np.uint16, 500, 2500)
BODY[:4] = 0


@pytest.mark.parametrize(
    "voi", [{}, {"WindowCenter": 1500, "WindowWidth": 2000}, {"VOILUTSequence": table([4096, 0, 12], RISING)}]
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("frame", [0, 4000])
def test_padding_is_black_in_either_polarity_and_does_not_count(voi, photometric, frame):
    pixels = np.where(BODY == 0, frame, BODY).astype(np.uint16)
    padded = shown(pixels, PixelPaddingValue=frame, PhotometricInterpretation=photometric, **voi)
    assert (padded[:4] == 0).all()
    if not voi:
        assert padded[4:].min() == 0 and padded[4:].max() == 255, "the rest is stretched as if there were no frame"


def test_padding_of_eight_bits():
    pixels = ramp(np.uint8, 20, 200)
    pixels[:4] = 255
    image = pixels_of(dicom(pixels, PixelPaddingValue=255), "", 32)
    np.testing.assert_array_equal(image, np.where(pixels == 255, 0, pixels))
    image = pixels_of(dicom(pixels, PixelPaddingValue=255, **INVERSE), "", 32)
    np.testing.assert_array_equal(image, np.where(pixels == 255, 0, 255 - pixels))


def test_padding_of_a_range_in_either_order_and_outside_the_stored_values():
    for first, last in ((0, 600), (600, 0)):
        image = shown(DEEP, PixelPaddingValue=first, PixelPaddingRangeLimit=last, **WINDOW, **INVERSE)
        assert (image[DEEP <= 600] == 0).all() and image[DEEP > 600].max() == 217  # 255 * (1 - 604 / 4096)
    assert shown(DEEP, PixelPaddingRangeLimit=600)[0, 20] > 0, "a limit alone says nothing"
    signed = (DEEP.astype(int) - 2048).astype(np.int16)
    signed[:4] = -32768  # no value of 12 bits
    for written in (-32768, 32768):
        data = dicom(signed, BitsStored=12, **INVERSE)
        image = pixels_of(with_padding(data, written), "", 32)
        assert (image[:4] == 0).all() and image[4:].max() == 255


def with_padding(data: bytes, value: int) -> bytes:
    """The file with a Pixel Padding Value that is written as US or, where negative, as SS."""
    header = pydicom.dcmread(io.BytesIO(data))
    header.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    stream = io.BytesIO()
    header.save_as(stream)
    return stream.getvalue()


def test_a_padded_baseline_frame_is_looked_at_pixel_by_pixel():
    pixels = smooth(256, 256) // 2 + 100
    image = decode(baseline(pixels, PixelPaddingValue=0, **INVERSE), "", 32)
    assert image.pixels.shape == (256, 256), "a mean of padding and picture would be neither"
    assert decode(baseline(pixels, **INVERSE), "", 32).pixels.shape == (32, 32)


def test_an_image_of_padding_alone_is_a_reject():
    with pytest.raises(ValueError, match="blank: every pixel is padding"):
        shown(DEEP, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    flat = BODY.copy()
    flat[4:] = 700
    with pytest.raises(ValueError, match="blank: 98 %"):
        shown(flat, PixelPaddingValue=0, **WINDOW)


# Bits -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", [12, 13, 15])
@pytest.mark.parametrize("rows", [1, 16, 32])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_are_an_overlay_or_nothing(bit, rows, signed):
    stored = ((DEEP.astype(int) - 2048) & 0xFFF).astype(np.uint16) if signed else DEEP.copy()
    expected = shown(stored, PixelRepresentation=int(signed))
    stored[:rows] |= 1 << bit
    np.testing.assert_array_equal(shown(stored, PixelRepresentation=int(signed)), expected)
    np.testing.assert_allclose(expected, GRAY, atol=1)


@pytest.mark.parametrize("bits", [9, 10, 11])
def test_too_few_bits_stored_are_a_reject(bits):
    with pytest.raises(ValueError, match=f"DICOM says {bits} bits per pixel, but its values have more"):
        shown(DEEP, BitsStored=bits)


def test_high_bit_says_where_the_stored_bits_lie():
    for low in (0, 3):
        header = pydicom.dcmread(io.BytesIO(dicom((DEEP << 4) | low, BitsStored=12, **WINDOW)))
        header.HighBit = 15
        stream = io.BytesIO()
        header.save_as(stream)
        np.testing.assert_array_equal(pixels_of(stream.getvalue(), "", 32), shown(DEEP, **WINDOW))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_stored_value_is_the_number_that_its_bits_say(data):
    width = data.draw(st.sampled_from([8, 16]))
    stored = data.draw(st.integers(1, width))
    high = data.draw(st.integers(stored - 1, width - 1))
    signed = data.draw(st.booleans())
    pattern = data.draw(st.integers(0, (1 << width) - 1))
    bits = f"{pattern:0{width}b}"[width - 1 - high : width - 1 - high + stored]
    expected = int(bits, 2) - ((1 << stored) if signed and bits[0] == "1" else 0)
    form = Form(width, width, stored, high, signed)
    assert form.values()[pattern] == expected
    assert form.range()[0] <= expected <= form.range()[1]


# Reference ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    signed=st.booleans(),
    slope=st.sampled_from([None, 1, 2, 0.5, -1]),
    center=st.integers(-2000, 4000),
    width=st.integers(2, 5000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    voi=st.booleans(),
)
def test_slope_window_and_table_agree_with_pydicom(signed, slope, center, width, function, voi):
    """pydicom's functions on the pixels, scaled from its output range to 0 to 255."""
    pixels = (DEEP.astype(int) - 2048).astype(np.int16) if signed else DEEP
    tags = {"BitsStored": 12} if slope is None else {"BitsStored": 12, "RescaleSlope": slope, "RescaleIntercept": -10}
    tags |= {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function}
    tags |= {"VOILUTSequence": table([300, 100, 12], list(range(0, 4096, 13))[:299] + [4095])} if voi else {}
    data = dicom(pixels, **tags)
    header = pydicom.dcmread(io.BytesIO(data))
    values = apply_modality_lut(pixels, header)
    reference = apply_voi_lut(np.rint(values).astype(int) if voi else values, header).astype(float)
    ends = (0, 4095) if voi else apply_modality_lut(np.array(header_range(header)), header)
    share = (reference - ends[0]) / (ends[1] - ends[0])
    expected = np.clip(share, 0, 1) * 255
    if np.subtract(*np.percentile(expected, (98, 2))) < 20:
        return  # hardly any contrast: a reject, or nearly one
    np.testing.assert_allclose(pixels_of(data, "", 32), expected, atol=0.51)


def header_range(header) -> tuple[int, int]:
    return (-2048, 2047) if header.PixelRepresentation else (0, 4095)
