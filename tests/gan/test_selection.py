"""Looks at a generator: by hand, and the rules that stop a training."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.core.store import open_store, write_store
from cxr.gan import selection as watch
from cxr.gan.kid import kid
from cxr.training.batches import Images


def test_diversity_by_hand():
    """A triangle of sides 3, 4 and 5; one point over and over."""
    assert watch.diversity(np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])) == pytest.approx(4)
    assert watch.diversity(np.zeros((5, 3))) == 0


@pytest.mark.parametrize("size", [16, 32, 128])
def test_the_embedding_is_fixed_by_its_seed_and_learns_nothing(size):
    x = torch.rand(2, 1, size, size)
    one, same, other = (watch.Embedding(size, seed)(x) for seed in (0, 0, 1))
    assert one.shape == (2, watch.FEATURES) and torch.equal(one, same) and not torch.equal(one, other)
    assert not any(p.requires_grad for p in watch.Embedding(size, 0).parameters())


@pytest.fixture
def chests(tmp_path):
    """90 smooth random pictures; 60 to train on, 30 kept back."""
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(90, 4, 4)).repeat(4, 1).repeat(4, 2)
    images = (128 + 40 * waves).clip(0, 255).astype(np.uint8)
    names = [f"i{k:02}" for k in range(90)]
    write_store(tmp_path / "s", images, pd.DataFrame({"image_id": names}))
    store = open_store(tmp_path / "s")
    return images, Images([store], names[:60]), Images([store], names[60:])


def test_a_look_is_the_formula_over_scaled_features(chests):
    images, train, back = chests
    made = images[::2][:20] // 2
    found = watch.Watch(train, back, 3).look(made)
    net = watch.Embedding(16, 3)

    def features(x):
        return net(torch.from_numpy(x)[:, None].float() / 127.5 - 1).double().numpy()

    real = features(images[:60])
    x, y, z = ((features(part) - real.mean(0)) / real.std(0) for part in (made, images[60:], images[:60]))
    assert found["kid"] == pytest.approx(kid(y, x), rel=1e-4)
    pairs = [[np.linalg.norm(a - b) for i, a in enumerate(part) for b in part[:i]] for part in (x, z)]
    assert found["diversity"] == pytest.approx(np.mean(pairs[0]) / np.mean(pairs[1]), rel=1e-4)


def test_real_images_are_near_and_varied_others_are_not(chests):
    images, train, back = chests
    judge = watch.Watch(train, back, 0)
    real, grey, same = (judge.look(x) for x in (images[:60], images[:60] // 3, np.repeat(images[:1], 60, 0)))
    assert abs(real["kid"]) < 0.1 < grey["kid"] and real["kid"] < same["kid"]
    assert real["diversity"] == pytest.approx(1) and same["diversity"] < 1e-6
    assert math.isnan(watch.Watch(train, None, 0).look(images[:60])["kid"])


def history(*looks: tuple[float, float] | None) -> list[dict]:
    blank = (math.nan, math.nan)
    return [{"epoch": e} | dict(zip(("kid", "diversity"), v or blank, strict=True)) for e, v in enumerate(looks, 1)]


@pytest.mark.parametrize(
    ("looks", "patience", "limit", "says"),
    [
        ([(1, 0.0), None, (3, 1.0), None, (2, 1.0)], 2, 0.2, "no better KID in 2 looks"),
        ([(1, 0.0), None, (3, 1.0)], 2, 0.2, None),
        ([(3, 1.0), (1, 1.0), (2, 1.0)], 2, 0.2, None),
        ([(3, 1.0), (2, 1.0), (2, 1.0), (2, 1.0)], 0, 0.2, None),
        ([(3, 0.0), (2, 0.1)], 0, 0.2, None),  # one look below; the first epoch's does not count
        ([(3, 0.0), (2, 0.1), None, (1, 0.19)], 0, 0.2, "diversity below 20.0%"),
        ([(3, 0.0), (2, 0.1), None, (1, 0.21)], 0, 0.2, None),
        ([(3, 0.0), (2, 0.0), (1, 0.0)], 0, 0.0, None),
    ],
)
def test_when_it_stops(looks, patience, limit, says):
    found = watch.stop(history(*looks), patience, limit)
    assert found is None if says is None else says in found


def test_a_collapse_is_said_once_each_time():
    rows = history((0, 0.0), (0, 0.05), (0, 0.05), None, (math.nan, 0.5), (0, 0.0))
    rows = [row | dict.fromkeys(("loss_d", "loss_g", "d_real", "d_fake"), 0.5) for row in rows]
    lines = [watch.line(rows[:end], 0.0) for end in range(1, 7)]
    assert lines[0] == "epoch 1: D 0.500, G 0.500, D(x) 0.50, D(G(z)) 0.50, KID 0, diversity 0.00"
    assert lines[3] == "" and lines[4] == "epoch 5: D 0.500, G 0.500, D(x) 0.50, D(G(z)) 0.50, diversity 0.50"
    warned = [line for line in lines if "warning" in line]
    assert len(warned) == 2 and "of epoch 2 have 5.0%" in warned[0] and "of epoch 6 have 0.0%" in warned[1]
