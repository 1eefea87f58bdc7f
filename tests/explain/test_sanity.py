"""The check with random weights (Adebayo et al. 2018): maps that follow the weights change."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cxr.explain import maps, sanity
from tests.data.pictures import smooth
from tests.explain.make import Bright
from tests.explain.test_maps import classifier


@pytest.mark.parametrize("method", maps.METHODS)
def test_random_weights_change_the_maps(method):
    net = classifier()
    images = np.stack([smooth(64, 64, k) for k in range(3)])
    trained = maps.heat_maps(net, images, [0, 1, 2], method)
    with_random = maps.heat_maps(sanity.randomised(net, 1), images, [0, 1, 2], method)
    same = sanity.similarity(trained, maps.heat_maps(copy.deepcopy(net), images, [0, 1, 2], method))
    assert np.allclose(same[~np.isnan(same)], 1)
    changed = sanity.similarity(trained, with_random)
    assert np.nanmean(changed) < 0.9


def test_a_map_that_only_shows_the_image_is_caught():
    """The image's own brightness as a heat map: the check gives 1, whatever the weights."""
    image = np.random.default_rng(0).random((2, 16, 16))
    assert np.allclose(sanity.similarity(image, image), 1)
    assert sanity.similarity(image, -image) == pytest.approx([-1, -1])
    assert np.isnan(sanity.similarity(image, np.zeros_like(image))).all()


def test_every_layer_is_random_again_and_the_net_is_not_touched():
    net = classifier()
    before = {name: value.clone() for name, value in net.named_parameters()}
    drawn = sanity.randomised(net, 3)
    weights = {name for name, value in before.items() if value.ndim > 1}
    assert all(not torch.equal(dict(drawn.named_parameters())[name], before[name]) for name in weights)
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())
    again = sanity.randomised(net, 3)
    assert all(torch.equal(a, b) for a, b in zip(drawn.parameters(), again.parameters(), strict=True))
    assert isinstance(sanity.randomised(Bright(), 0).head, nn.Linear)
