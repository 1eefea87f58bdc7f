"""Brightness, contrast and cutout of a batch."""

import pytest
import torch

from cxr.training.appearance import GREY, altered, appearance
from cxr.training.machine import generator

STILL = [0.0, 1.0, 0.5, 0.5]


def test_an_appearance_depends_on_its_stream_alone_and_stays_in_its_ranges():
    one, again, none = (appearance(500, generator(3, 1), jitter=jitter) for jitter in (0.4, 0.4, 0.0))
    assert one.shape == (500, 4) and torch.equal(one, again)
    assert -0.4 <= one[:, 0].min() < -0.3 and 0.3 < one[:, 0].max() <= 0.4
    assert 0.6 <= one[:, 1].min() < 0.7 and 1.3 < one[:, 1].max() <= 1.4
    assert torch.equal(none[:, :2], torch.tensor([0.0, 1.0]).expand(500, 2)) and torch.equal(none[:, 2:], one[:, 2:])


def test_brightness_is_added_and_contrast_is_about_the_mean():
    x = torch.tensor([0.2, 0.4, 0.6, 0.8]).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    drawn = torch.tensor([STILL, [0.1, 1.0, 0.5, 0.5], [0.0, 2.0, 0.5, 0.5]])
    same, bright, strong = altered(x, drawn, 0.0).flatten(1)
    assert same.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert bright.tolist() == pytest.approx([0.3, 0.5, 0.7, 0.9])
    assert strong.tolist() == pytest.approx([0.0, 0.3, 0.7, 1.0])  # -0.1 and 1.1 are cut off


def test_a_cutout_is_a_grey_square_about_its_centre():
    x = torch.zeros(2, 1, 10, 10)
    out = altered(x, torch.tensor([STILL, [0.0, 1.0, 0.0, 0.95]]), 0.4)
    assert (out[0] == GREY).sum() == 16 and (out[0, 0, 3:7, 3:7] == GREY).all()
    assert (out[1] == GREY).sum() == 2 * 3 and (out[1, 0, 7:, :2] == GREY).all()  # the last rows, the first columns
