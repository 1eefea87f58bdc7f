"""The running average against numbers by hand."""

import pytest
import torch
from torch import nn

from cxr.training.average import copy_of, update_average


def net(weight: float) -> nn.Sequential:
    result = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    with torch.no_grad():
        result[0].weight.fill_(weight)
        result[1].running_mean.fill_(weight)
        result[1].num_batches_tracked.fill_(int(weight))
    return result


@pytest.mark.parametrize(
    ("decay", "step", "expected"),
    [
        (0.5, 1000, 0.5 * 2 + 0.5 * 6),
        (0.9, 1000, 0.9 * 2 + 0.1 * 6),
        (0.9, 0, 0.1 * 2 + 0.9 * 6),  # the ramp: (1 + 0) / (10 + 0)
        (0.9, 2, 0.25 * 2 + 0.75 * 6),  # 3 / 12
        (0.0, 1000, 6),
    ],
)
def test_weights_and_statistics_move_alike_and_counters_are_copied(decay, step, expected):
    average, current = copy_of(net(2)), net(6)
    update_average(average, current, decay, step)
    assert average[0].weight.item() == pytest.approx(expected)
    assert average[1].running_mean.item() == pytest.approx(expected)
    assert average[1].num_batches_tracked.item() == 6
    assert current[0].weight.item() == 6


def test_the_copy_learns_nothing_and_normalises_by_its_statistics():
    average = copy_of(net(2))
    assert not average.training and not any(p.requires_grad for p in average.parameters())
