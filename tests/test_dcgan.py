"""DCGAN: the paper's sizes, the initialisation that trains, the loss, and a training that repeats and resumes."""

import numpy as np
import pandas as pd
import pytest
import torch

from cxr import dcgan
from cxr.batches import Images
from cxr.checkpoints import Checkpoints
from cxr.runtime import fabric
from cxr.store import open_store, write_store


def test_the_papers_nets_have_the_papers_size():
    g, d = dcgan.build(128, 100, 64, 3, seed=0)
    assert sum(p.numel() for p in g.parameters()) == 12_786_560
    assert sum(p.numel() for p in d.parameters()) == 11_164_416


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (64, 3), (256, 1)])
def test_shapes_follow_the_size(size, channels):
    g, d = dcgan.build(size, 7, 2, channels, seed=0)
    x = g(torch.randn(2, 7, 1, 1))
    assert x.shape == (2, channels, size, size) and x.abs().max() <= 1
    assert d(x).shape == (2, 1, 1, 1)


def test_initialisation_is_that_of_the_cited_code():
    g, d = dcgan.build(64, 100, 64, 1, seed=0)
    convolutions = torch.cat(
        [m.weight.flatten() for n in (g, d) for m in n if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    )
    gains = torch.cat([m.weight for n in (g, d) for m in n if isinstance(m, torch.nn.BatchNorm2d)])
    assert abs(convolutions.mean()) < 1e-4 and abs(convolutions.std() - 0.02) < 1e-4
    assert (
        abs(gains.mean() - 1) < 0.005 and abs(gains.std() - 0.02) < 0.002
    )  # the paper's N(0, 0.02) would kill the signal (E23)
    assert all((m.bias == 0).all() for n in (g, d) for m in n if isinstance(m, torch.nn.BatchNorm2d))


def test_a_size_that_does_not_double_is_refused():
    with pytest.raises(ValueError, match="gan.size = 100: .* choose 16, 32, 64, 128, 256 or 512"):
        dcgan.levels(100)


def test_image_i_is_the_same_however_many_are_generated():
    g, _ = dcgan.build(16, 5, 4, 1, seed=0)
    few, many = (dcgan.generate(g, n, 5, 1, 2, device="cpu", batch=8) for n in (5, 20))
    assert few.shape == (5, 16, 16) and np.array_equal(few, many[:5])
    assert dcgan.generate(g, 0, 5, 1, device="cpu").shape[0] == 0


def test_grid_places_tiles_row_by_row():
    tiles = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    assert dcgan.grid(tiles, columns=2).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]


@pytest.fixture
def blobs(tmp_path) -> Images:
    """40 images of a bright disc on black: something that a GAN learns in seconds."""
    y, x = np.mgrid[:16, :16]
    centre = np.random.default_rng(0).uniform(6, 10, (40, 2))
    discs = np.stack([(((y - a) ** 2 + (x - b) ** 2) < 16) * 220 for a, b in centre]).astype(np.uint8)
    names = [f"i{n:02d}" for n in range(40)]
    write_store(tmp_path / "store", discs, pd.DataFrame({"image_id": names}))
    return Images([open_store(tmp_path / "store")], names)


def train(blobs, folder, epochs, **changes):
    settings = {
        "batch": 8,
        "lr": 2e-3,
        "beta1": 0.5,
        "z_dim": 8,
        "width": 8,
        "channels": 1,
        "flip": 0.5,
        "sample_every": 2,
        "seed": 3,
    }
    checkpoints = Checkpoints(folder, {}, minutes=60)
    return dcgan.fit(fabric("32-true"), blobs, checkpoints, label="gan", epochs=epochs, **(settings | changes))


def test_a_longer_training_continues_a_shorter_one_exactly(blobs, tmp_path):
    g, d, history, grids = train(blobs, tmp_path / "a", 5)
    train(blobs, tmp_path / "b", 3)
    g2, d2, history2, grids2 = train(blobs, tmp_path / "b", 5)
    assert history.equals(history2) and list(grids) == list(grids2) == [1, 2, 4, 5]
    assert all(np.array_equal(grids[e], grids2[e]) for e in grids)
    for one, other in ((g, g2), (d, d2)):
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    again = train(blobs, tmp_path / "b", 3)  # and a shorter one does not take the longer one's state
    assert len(again[2]) == 3 and list(again[3]) == [1, 2, 3]


def test_it_learns_that_the_middle_is_bright(blobs, tmp_path):
    g, _, history, _ = train(blobs, tmp_path, 25)
    made = dcgan.generate(g, 64, 8, 9, device="cpu").astype(float)
    assert made[:, 6:10, 6:10].mean() > made[:, :2, :].mean() + 80
    assert history[["d_real", "d_fake"]].to_numpy().min() >= 0 and history["loss_d"].iloc[0] > 0


def test_a_loss_that_is_not_finite_stops_with_the_cure(blobs, tmp_path):
    with pytest.raises(ValueError, match=r"gan: the loss is no longer finite in epoch \d+ .* lower gan.lr"):
        train(blobs, tmp_path, 5, lr=1e30)
