"""One matrix, one resample: geometry by invariants; streams that depend on their key alone."""

import time

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.core.store import Store, open_store, write_store
from cxr.training.batches import Images, affine, cycled, in_order, moves, order, warp
from cxr.training.machine import generator, seeded


def picture(size: int = 16) -> torch.Tensor:
    return torch.arange(size * size).remainder(251).to(torch.uint8).reshape(1, 1, size, size)


def test_nothing_switched_on_changes_nothing():
    matrix = affine(3, generator(0))
    assert torch.equal(matrix, torch.eye(2, 3).expand(3, 2, 3))
    x = picture().expand(3, 1, 16, 16)
    assert torch.equal(warp(x, matrix, 16), x.float() / 255)


def test_a_flip_is_the_mirror_image():
    x = picture()
    assert torch.allclose(warp(x, affine(1, generator(0), flip=1.0), 16), x.flip(-1).float() / 255, atol=1e-5)


def test_a_quarter_turn_is_rot90():
    matrix = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
    turned = warp(picture(), matrix, 16)
    assert any(torch.allclose(turned, torch.rot90(picture(), k, (-2, -1)).float() / 255, atol=1e-5) for k in (1, 3))


def test_a_crop_stays_inside_and_keeps_the_asked_share():
    matrix = affine(2000, generator(1), crop=(0.25, 0.5), ratio=(1.0, 1.0))
    corners = matrix @ torch.tensor([[-1.0, 1, -1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    assert corners.abs().max() <= 1 + 1e-5
    area = (matrix[:, 0, 0] * matrix[:, 1, 1]).abs()
    assert area.min() >= 0.25 - 1e-5 and area.max() <= 0.5 + 1e-5 and abs(area.mean() - 0.375) < 0.01


def test_scale_and_shift_are_in_the_units_they_say():
    matrix = affine(2000, generator(2), scale=(2.0, 2.0), shift=0.05)
    assert torch.allclose(matrix[:, 0, 0], torch.tensor(0.5))  # magnified twice: half of the image is seen
    assert matrix[:, :, 2].abs().max() <= 0.1 + 1e-6  # 5 % of a width that is 2 in these coordinates
    degrees = torch.rad2deg(torch.asin(affine(2000, generator(3), rotate=15.0)[:, 1, 0])).abs()
    assert 14 < degrees.max() <= 15.001


def test_outside_the_image_is_black():
    white = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    assert warp(white, torch.tensor([[[3.0, 0, 0], [0, 3.0, 0]]]), 8)[0, 0, 0, 0] == 0


def test_switching_one_augmentation_off_leaves_the_others_as_they_were():
    both = affine(5, generator(4), flip=0.5, rotate=10.0)
    one = affine(5, generator(4), rotate=10.0)
    assert torch.allclose(both[:, :, 0].abs(), one[:, :, 0].abs()) and torch.equal(both[:, :, 1], one[:, :, 1])


def test_streams_depend_on_their_key_alone():
    assert torch.equal(order(50, 1, 2), order(50, 1, 2)) and not torch.equal(order(50, 1, 2), order(50, 2, 1))
    before = torch.get_rng_state()
    with seeded(7, 8):
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(10)
    with seeded(7, 8):
        assert torch.equal(torch.rand(3), inside)


@pytest.fixture
def stores(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    write_store(tmp_path / "one", images[:4], pd.DataFrame({"image_id": list("abcd")}))
    write_store(tmp_path / "two", images[4:], pd.DataFrame({"image_id": list("ef")}))
    return images, [open_store(tmp_path / "one"), open_store(tmp_path / "two")]


def test_images_come_from_several_stores_in_the_asked_order(stores):
    images, opened = stores
    chosen = Images(opened, list("fbea"))
    assert np.array_equal(chosen.gather(torch.tensor([0, 1, 2, 3, 0])).numpy()[:, 0], images[[5, 1, 4, 0, 5]])
    batches = list(in_order(chosen, 3))
    assert [len(b[0]) for b in batches] == [3, 1]
    assert np.allclose(batches[1][1].numpy()[0, 0] * 255, images[0])


def test_an_image_that_no_store_holds_is_named(stores):
    with pytest.raises(ValueError, match="1 images are in no store, the first is 'z'"):
        Images(stores[1], ["a", "z"])


def test_images_are_looked_up_in_time_that_grows_with_their_number_not_its_square(tmp_path):
    """As many ids as CheXpert has: a comparison of every pair took a quarter of an hour."""
    n = 200_000
    ids = pd.Series([f"image{k:06d}" for k in range(n)])
    store = Store(tmp_path, np.empty((n, 1, 1), np.uint8), pd.DataFrame({"image_id": ids}))
    wanted = ids.sample(frac=0.9, random_state=0).to_numpy()
    started = time.process_time()
    images = Images([store], wanted)
    assert time.process_time() - started < 5
    assert (ids.to_numpy()[images.rows] == wanted).all() and not images.where.any()


def test_the_grid_is_affine_grids():
    images = torch.randint(0, 256, (5, 1, 24, 24), dtype=torch.uint8)
    matrix = affine(5, generator(3), flip=0.5, rotate=20, scale=(0.8, 1.2), shift=0.1, crop=(0.3, 1.0))
    for size in (24, 17):
        grid = torch.nn.functional.affine_grid(matrix, [5, 1, size, size], align_corners=False)
        expected = torch.nn.functional.grid_sample(images / 255, grid, align_corners=False)
        assert torch.allclose(warp(images, matrix, size), expected, atol=1e-4)


def test_a_permutation_is_drawn_once_an_epoch():
    order.cache_clear()
    for step in range(10):
        order(100, 7, 2, 0)
        cycled(40, 4, step, 7, 1)
    assert order.cache_info().misses == 2
    assert torch.equal(order(100, 7, 2, 0), torch.randperm(100, generator=generator(7, 2, 0)))


@pytest.mark.parametrize(("free", "resident"), [(2 * 3 * 64, False), (2 * 3 * 64 + 2, True)])
def test_a_gpu_holds_images_that_fill_less_than_half_of_its_free_memory(stores, monkeypatch, free, resident):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    monkeypatch.setattr(Images, "_fill_device", lambda self: torch.zeros(1))
    assert (Images(stores[1], list("abe"), "cuda").resident is not None) is resident


def test_images_on_the_device_are_those_from_the_disk(stores):
    disk, device = (Images(stores[1], list("fbea")) for _ in range(2))
    device.resident = device._fill_device()
    chosen = torch.tensor([3, 0, 1, 0])
    assert torch.equal(disk.gather(chosen), device.gather(chosen)) and device.drawn(chosen) is chosen
    assert torch.equal(disk.pixels(disk.drawn(chosen)), device.pixels(device.drawn(chosen)))


def test_what_moves_nothing_is_known_without_looking_at_a_matrix():
    assert not moves({"flip": 0.0, "rotate": 0.0, "crop": (1.0, 1.0)})
    assert moves({"flip": 0.5}) and moves({"scale": (1.0, 1.1)})
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    identity = torch.eye(2, 3).expand(2, 2, 3)
    assert torch.equal(warp(images, None, 8), warp(images, identity, 8))
    assert torch.equal(warp(images, None, 6), warp(images, identity, 6))
