"""A running average of a net's weights over its training steps: smoother than the last step's, and no schedule that
depends on how long the training will be, so that a longer training can go on from a shorter one.

average <- d average + (1 - d) weights after each step, with d = min(decay, (1 + t) / (10 + t)) at step t = 0, 1, ...,
so that the first steps are soon forgotten (Polyak & Juditsky 1992; the ramp is TensorFlow's
ExponentialMovingAverage). Floating-point buffers (batch norm's statistics) are averaged alike; counters are copied.
decay 0 is the last step's weights.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


def copy_of(net: nn.Module) -> nn.Module:
    """A copy that learns nothing, in evaluation mode."""
    return copy.deepcopy(net).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `net` after step number `step`, counted from 0. decay: in [0, 1)."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    pairs = list(zip(average.state_dict().values(), net.state_dict().values(), strict=True))
    torch._foreach_lerp_(*zip(*[pair for pair in pairs if pair[0].is_floating_point()], strict=True), share)
    for mine, its in pairs:
        if not mine.is_floating_point():
            mine.copy_(its)
