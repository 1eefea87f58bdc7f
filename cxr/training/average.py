"""A running average of a net's weights over its training steps.

It is smoother than the last step's weights, and it needs no schedule that depends on the training's length, so a longer
training can continue a shorter one.

    average <- d average + (1 - d) weights after each step t = 0, 1, ..., with d = min(decay, (1 + t) / (10 + t))

The ramp soon forgets the first steps (Polyak & Juditsky 1992; the ramp is TensorFlow's ExponentialMovingAverage).
Floating-point buffers (batch norm's statistics) are averaged too; counters are copied. decay 0 gives the last weights.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def copy_of(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode that gets no gradients."""
    return copy.deepcopy(net).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `net` after step number `step`, counted from 0. decay: in [0, 1).

    torch's AveragedModel would copy the first weights in place of the ramp, and read its counter from the device at
    every step.
    """
    pairs = list(zip(average.state_dict().values(), net.state_dict().values(), strict=True))
    averaged, current = zip(*[pair for pair in pairs if pair[0].is_floating_point()], strict=True)
    get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))(averaged, current, step)
    for counter, newest in pairs:
        if not counter.is_floating_point():
            counter.copy_(newest)
