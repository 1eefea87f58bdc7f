"""Colour over an X-ray and the outline of boxes, by hand."""

import numpy as np

from cxr.explain import overlay


def test_a_map_of_zeros_leaves_the_x_ray_and_a_map_of_ones_covers_it_in_part():
    gray = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    plain = overlay.coloured(gray, np.zeros((8, 8), np.float32))
    np.testing.assert_array_equal(plain, np.repeat(gray[..., None], 3, axis=2))
    full = overlay.coloured(gray, np.ones((8, 8), np.float32)).astype(int)
    brightest = np.array([252, 255, 164])  # inferno's last colour
    np.testing.assert_allclose(full, 0.35 * gray[..., None] + 0.65 * brightest, atol=2)


def test_brightness_rises_with_the_map():
    black = np.zeros((1, 64), np.uint8)
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None]
    light = overlay.coloured(black, ramp).astype(int).sum(axis=2)[0]
    assert (np.diff(light) >= 0).all() and light[-1] > 300


def test_only_the_border_of_a_box_is_drawn():
    mask = np.zeros((8, 8), bool)
    mask[1:6, 2:7] = True
    drawn = (overlay.outlined(np.full((8, 8), 50, np.uint8), mask) != 50).any(axis=2)
    expected = mask.copy()
    expected[2:5, 3:6] = False
    np.testing.assert_array_equal(drawn, expected)
    whole = (overlay.outlined(np.full((4, 4), 50, np.uint8), np.ones((4, 4), bool)) != 50).any(axis=2)
    assert whole.sum() == 12 and not whole[1:3, 1:3].any()
