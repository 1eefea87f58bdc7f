"""Boxes against hand-drawn masks, the pointing game, the overlap at matched area, and their floor."""

import numpy as np
import pandas as pd
import pytest

from cxr.evaluation import pointing
from cxr.explain import boxes


def at(*points, size=4):
    heat = np.zeros((size, size))
    for k, point in enumerate(points):
        heat[point] = len(points) - k
    return heat


def test_a_box_in_pixels_of_the_original_becomes_pixels_of_the_squashed_image():
    mask = boxes.mask([(20, 10, 40, 20)], width=80, height=40, size=8)  # x 20..60 of 80, y 10..30 of 40
    expected = np.zeros((8, 8), bool)
    expected[2:6, 2:6] = True
    np.testing.assert_array_equal(mask, expected)
    assert boxes.mask([(0, 0, 80, 40)], 80, 40, 8).all()
    both = boxes.mask([(0, 0, 10, 5), (70, 35, 10, 5)], 80, 40, 8)
    assert both.sum() == 2 and both[0, 0] and both[7, 7]


@pytest.mark.parametrize("box", [(41, 20, 1, 1), (79, 39, 1, 1), (0, 0, 2, 2)])
def test_a_tiny_box_keeps_one_pixel(box):
    assert boxes.mask([box], 80, 40, 8).sum() == 1


def test_masks_agree_with_the_box_drawn_at_full_size():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 40, 2)
        w, h = rng.integers(8, 24, 2)
        full = np.zeros((64, 64), bool)
        full[y : y + h, x : x + w] = True
        mask = boxes.mask([(x, y, w, h)], 64, 64, 64)
        np.testing.assert_array_equal(mask, full)
        assert abs(boxes.mask([(x, y, w, h)], 64, 64, 16).sum() * 16 - w * h) <= 16 * (w + h) / 4


def test_the_pointing_game_by_hand():
    masks = np.zeros((4, 4, 4), bool)
    masks[:, 1:3, 1:3] = True
    heat = np.stack([at((1, 1)), at((0, 0), (1, 1)), np.ones((4, 4)), at((2, 2)) + at((3, 3))])
    np.testing.assert_allclose(boxes.hits(heat, masks), [1, 0, 4 / 16, 0.5])


def test_overlap_at_the_boxes_own_area_by_hand():
    masks = np.zeros((3, 4, 4), bool)
    masks[:, 0, :2] = True
    inside, half, flat = at((0, 0), (0, 1)), at((0, 0), (3, 3)), np.ones((4, 4))
    # flat: of two random pixels of 16 a quarter of one lies in the box
    np.testing.assert_allclose(boxes.overlaps(np.stack([inside, half, flat]), masks), [1, 1 / 3, 0.25 / 3.75])


def test_overlap_does_not_depend_on_the_order_of_equal_pixels():
    rng = np.random.default_rng(1)
    heat = rng.integers(0, 3, (5, 8, 8)).astype(float)
    masks = rng.random((5, 8, 8)) < 0.3
    turned = boxes.overlaps(heat[:, ::-1, ::-1], masks[:, ::-1, ::-1])
    np.testing.assert_allclose(boxes.overlaps(heat, masks), turned)
    np.testing.assert_allclose(boxes.overlaps(heat, masks), boxes.overlaps(heat * 10 - 3, masks))


def test_the_floor_is_the_mean_box_of_the_view():
    masks = np.zeros((3, 4, 4), bool)
    masks[0, 0], masks[1, 0, :2], masks[2, 3] = True, True, True
    floor = boxes.mean_boxes(masks, ["AP", "AP", "PA"], ["AP", "PA", "LL"])
    np.testing.assert_allclose(floor[0, 0], [1, 1, 0.5, 0.5])
    np.testing.assert_allclose(floor[1, 3], 1)
    np.testing.assert_allclose(floor[2], masks.mean(axis=0), atol=1e-6)


def simulated(shift, n=150):
    """Scores of n images of 60 patients: maps that peak in the box, moved by `shift` pixels, and a fixed floor."""
    rng = np.random.default_rng(5)
    masks, heat = np.zeros((n, 16, 16), bool), np.zeros((n, 16, 16))
    for k in range(n):
        y, x = rng.integers(0, 11, 2)
        masks[k, y : y + 5, x : x + 5] = True
        py, px = np.clip((y + 2 + shift, x + 2), 0, 15)
        heat[k] = np.exp(-((np.arange(16)[:, None] - py) ** 2 + (np.arange(16) - px) ** 2) / 8)
    rows = pd.DataFrame({"image_id": np.arange(n).astype(str), "patient_id": (np.arange(n) % 60).astype(str)})
    rows["view"] = "AP"
    flat = np.stack([boxes.mean_boxes(masks, rows["view"], ["AP"])[0]] * n)
    return boxes.score({"grad_cam": heat, "mean box": flat}, masks, rows)


def test_maps_that_know_the_place_beat_the_floor_and_others_do_not():
    good = pointing.table(simulated(0), ["grad_cam"], ["mean box"], 500, 0.95, 0).set_index(["method", "measure"])
    assert good.loc[("grad_cam", "hit"), "value"] == 1 and good.loc[("grad_cam", "iou"), "value"] > 0.6
    assert good.loc["grad_cam", "beats"].all()
    floor = good.loc[("mean box", "hit")]
    assert np.isnan(floor["gain"]) and not floor["beats"] and floor["patients"] == 60 and floor["images"] == 150
    low, value, high = (good.loc[("grad_cam", "iou"), name] for name in ("gain_low", "gain", "gain_high"))
    assert 0 < low < value < high
    bad = pointing.table(simulated(9), ["grad_cam"], ["mean box"], 500, 0.95, 0).set_index(["method", "measure"])
    assert not bad.loc["grad_cam", "beats"].any()


def test_the_best_of_two_floors_is_the_one_to_beat():
    scores = simulated(0)
    scores["other.hit"], scores["other.iou"] = 1.0, 0.0
    table = pointing.table(scores, ["grad_cam"], ["mean box", "other"], 200, 0.95, 0).set_index(["method", "measure"])
    assert table.loc[("grad_cam", "hit"), "floor"] == "other" and not table.loc[("grad_cam", "hit"), "beats"]
    assert table.loc[("grad_cam", "iou"), "floor"] == "mean box"


def test_the_interval_covers_as_many_patients_as_there_are():
    """Copies of a patient's image add no certainty: the interval is that of the patients."""
    scores = simulated(4)
    thrice = pd.concat([scores] * 3, ignore_index=True)
    width = [np.ptp(pointing.table(s, ["grad_cam"], ["mean box"], 500, 0.95, 0)[["value_low", "value_high"]].iloc[0])
             for s in (scores, thrice)]  # fmt: skip
    assert width[0] == pytest.approx(width[1], rel=1e-9)


def test_an_image_without_a_box_is_refused():
    rows = pd.DataFrame({"image_id": ["a"], "patient_id": ["p"], "view": ["AP"]})
    with pytest.raises(ValueError, match="without a box has nothing to point at"):
        boxes.score({"m": np.ones((1, 4, 4))}, np.zeros((1, 4, 4), bool), rows)
