"""The running average against numbers by hand."""

import pytest
import torch
from torch import nn

from cxr.training.average import Average, copy_of


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
    current = net(2)
    following = Average(current, decay, apart=True)
    current.load_state_dict(net(6).state_dict())
    following.update(step)
    average = following.net
    assert average[0].weight.item() == pytest.approx(expected)
    assert average[1].running_mean.item() == pytest.approx(expected)
    assert average[1].num_batches_tracked.item() == 6
    assert current[0].weight.item() == 6


def test_the_copy_learns_nothing_and_normalises_by_its_statistics():
    average = copy_of(net(2))
    assert not average.training and not any(p.requires_grad for p in average.parameters())


def test_without_a_decay_it_is_the_net_itself():
    current = net(2)
    following = Average(current, 0.0)
    following.update(3)
    assert following.net is current and following.state() == {} and current[0].weight.item() == 2


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_no_step_lists_the_tensors_of_a_net(decay, monkeypatch):
    following = Average(net(2), decay)
    monkeypatch.setattr(nn.Module, "state_dict", None)
    for step in range(5):
        following.update(step)
