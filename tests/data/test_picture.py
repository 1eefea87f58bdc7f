"""What every format shares: the stretch of deep values, and the check for contrast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxr.data.decode import decode
from cxr.data.picture import STRAYS, check_contrast, limits
from tests.data.pictures import dicom, encoded, pixels_of, ramp, smooth

DEEP = ramp(np.uint16, 0, 4095)
GRAY = ramp(np.uint8, 0, 255)


@pytest.fixture(params=["DICOM", "PNG"])
def shown(request):
    """Shows 16-bit values as gray values, as int."""
    form = dicom if request.param == "DICOM" else lambda pixels: encoded(Image.fromarray(pixels))
    return lambda pixels: pixels_of(form(pixels), "", 32).astype(int)


OUTLIERS = {"hot pixel": (1, 65535), "bar": (64, 65535), "wide bar": (200, 65535), "moderate bar": (64, 16383)}


@pytest.mark.parametrize("kind", OUTLIERS)
def test_a_hot_pixel_or_a_bar_leaves_the_anatomy_its_contrast(kind, shown):
    number, value = OUTLIERS[kind]
    pixels = DEEP.copy()
    pixels.flat[:number] = value
    image = shown(pixels)
    assert (image.flat[:number] == 255).all()
    rest = image.flat[number:]
    assert rest[0] <= 1 and rest[-1] == 255 and np.ptp(rest) >= 254
    dark = np.where(pixels == value, 0, 30000 + DEEP).astype(np.uint16)
    image = shown(dark)
    assert (image.flat[:number] == 0).all() and np.ptp(image.flat[number:]) >= 254


def test_hot_pixels_of_several_values(shown):
    pixels = DEEP.copy()
    pixels.flat[::100] = np.linspace(40000, 65535, 11).astype(np.uint16)
    image = shown(pixels)
    kept = np.ones(1024, bool)
    kept[::100] = False
    np.testing.assert_allclose(image.flat[kept], GRAY.flat[kept], atol=2)


def test_anatomy_beside_a_large_flat_background_is_no_outlier(shown):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 20, (32, 32)).astype(np.uint16)  # 80 % of a narrow field is dark noise
    pixels[:, 13:19] = np.linspace(500, 4000, 192).reshape(32, 6)
    image = shown(pixels)
    assert image[0, 13] == 32 and image[-1, 18] == 255, "stretched from the darkest to the brightest pixel"


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.integers(0, 65535), min_size=2, max_size=40, unique=True),
    seed=st.integers(0, 9),
    share=st.sampled_from([0.25, 0.5, 2, 8]),  # exact in binary
)
def test_limits_lie_inside_move_with_the_values_and_leave_few_pixels_out(values, seed, share):
    values = np.array(values, float)
    counts = np.random.default_rng(seed).integers(1, 50, len(values))
    low, high = limits(values, counts)
    assert values.min() <= low < high <= values.max()
    outside = (values < low) | (values > high)
    ends = (values == values.min()) | (values == values.max())
    assert counts[outside & ~ends].sum() <= 2 * STRAYS * counts.sum()
    moved = limits(values * share + 7, counts)
    assert moved == (low * share + 7, high * share + 7)


FLAT = {
    "black": np.zeros((64, 64), np.uint8),
    "white": np.full((64, 64), 255, np.uint8),
    "gray": np.full((64, 64), 77, np.uint8),
    "noise": np.random.default_rng(0).integers(100, 106, (64, 64)).astype(np.uint8),
    "a dot": np.where(np.arange(4096) < 30, 255, 9).astype(np.uint8).reshape(64, 64),
}


# A JPEG smears a dot over its block of 8 x 8.
FORMS = [(kind, form) for kind in FLAT for form in ("PNG", "JPEG", "DICOM", "MONOCHROME1", "windowed")]


@pytest.mark.parametrize("kind, form", [pair for pair in FORMS if pair != ("a dot", "JPEG")])
def test_blank_images_are_rejects(kind, form):
    pixels = FLAT[kind]
    data = {
        "PNG": lambda: encoded(Image.fromarray(pixels)),
        "JPEG": lambda: encoded(Image.fromarray(pixels), "JPEG", quality=95),
        "DICOM": lambda: dicom(pixels),
        "MONOCHROME1": lambda: dicom(pixels, PhotometricInterpretation="MONOCHROME1"),
        "windowed": lambda: dicom(pixels, WindowCenter=128, WindowWidth=256),
    }[form]()
    with pytest.raises(ValueError, match="blank: 98 % of the pixels lie within 8 of 256 gray levels"):
        decode(data, "x", 32)


@pytest.mark.parametrize("pixels", [np.full((64, 64), 999, np.uint16), np.zeros((64, 64), np.uint16)])
def test_deep_constant_images_are_rejects(pixels):
    for data in (dicom(pixels), dicom(pixels, BitsStored=12), encoded(Image.fromarray(pixels))):
        with pytest.raises(ValueError, match="blank: "):
            decode(data, "x", 32)


def test_the_check_for_contrast_by_hand():
    for levels, blank in ((7, True), (8, False)):
        histogram = np.zeros(256, int)
        histogram[[100, 100 + levels]] = 50
        if blank:
            with pytest.raises(ValueError, match="blank"):
                check_contrast(histogram)
        else:
            check_contrast(histogram)


def test_pale_and_dark_radiographs_are_none_of_these():
    pale = (smooth(256, 256) // 10 + 200).astype(np.uint8)
    for pixels in (pale, 255 - pale):
        assert decode(encoded(Image.fromarray(pixels), "JPEG"), "x", 64).pixels.shape == (64, 64)
