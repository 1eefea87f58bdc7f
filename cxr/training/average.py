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


class Average:
    """net: the running average of `source`; with decay 0 it is `source` itself, and nothing is copied.

    decay: in [0, 1). source: on its device already. apart: whether `net` is a copy even so. The tensors are listed
    once: to list them takes a tenth of a step of DenseNet121. Whoever loads weights into either net copies them in
    place, as load_state_dict does.
    """

    def __init__(self, source: nn.Module, decay: float, *, apart: bool = False) -> None:
        self.decay, self.apart = decay, apart or bool(decay)
        self.net = copy_of(source) if self.apart else source
        pairs = list(zip(self.net.state_dict().values(), source.state_dict().values(), strict=True))
        pairs = pairs if self.apart else []
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._averaged, self._current = [a for a, _ in floating], [b for _, b in floating]
        self._copied, self._counters = [a for a, _ in counters], [b for _, b in counters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move `net` towards `source` after step number `step`, counted from 0.

        torch's AveragedModel would copy the first weights in place of the ramp, and read its counter from the device at
        every step.
        """
        if not self._averaged:
            return
        get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))(self._averaged, self._current, step)
        for counter, newest in zip(self._copied, self._counters, strict=True):
            counter.copy_(newest)

    def state(self) -> dict:
        return self.net.state_dict() if self.apart else {}

    def load(self, state: dict) -> None:
        if self.apart:
            self.net.load_state_dict(state)
