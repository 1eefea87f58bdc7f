"""A linear layer that computes in its weights' precision, whatever autocast is on: the last layer of a net.

Under bf16 a logit has eight bits: of 500 scores about 300 are distinct, and the AUC gets ties that no radiologist sees.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class WideLinear(nn.Linear):
    """nn.Linear with its inputs in the weights' precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return F.linear(x, self.weight, self.bias)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.to(self.weight.dtype), self.weight, self.bias)
