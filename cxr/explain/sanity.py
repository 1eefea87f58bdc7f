"""The sanity check of Adebayo et al. 2018 (model parameter randomisation): a heat map that stays the same when the
network's weights are random shows the image, and nothing that the network learnt.

Shapes: N images, S image size.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from cxr.training.machine import seeded


def randomised(net: nn.Module, seed: int) -> nn.Module:
    """A copy of the network with random weights in every layer, as the layers themselves begin."""
    result = copy.deepcopy(net)
    with seeded(seed, 0), torch.no_grad():
        for module in result.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return result.eval()


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation over the pixels of N pairs of maps, each N x S x S: 1 where they order the pixels alike.

    NaN for a map that is the same everywhere.
    """
    result = np.full(len(first), np.nan)
    for k, (one, other) in enumerate(zip(first, second, strict=True)):
        if np.ptp(one) and np.ptp(other):
            result[k] = spearmanr(one.ravel(), other.ravel()).statistic
    return result
