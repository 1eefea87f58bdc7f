"""The ADGM's networks and bound over D features of an encoder in place of pixels.

Shapes: N images, D features, K classes, Z latent, A auxiliary, R rows: (image, label) pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from cxr.adgm.nets import ADGM, Discriminative, Gaussian, dense, log_shares
from cxr.training.wide import WideLinear


class DenseTrunk(nn.Sequential):
    """x: N x D x 1 x 1, z-scored features -> N x `features`, by one dense layer."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__(nn.Flatten(), *dense([size, 256], dropout))
        self.features = 256


class LinearClassifier(nn.Module):
    """q(y|a,x), eq. 6, of D features: logistic regression on x and a, with dropout of both."""

    def __init__(self, size: int, a_dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.trunk = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.out = WideLinear(size + a_dim, classes)

    def forward(self, features: Tensor, a: Tensor) -> Tensor:
        """features: N x D, a: N x A -> log q(y|a,x), N x K in float32 at least."""
        return log_shares(self.out(self.dropout(torch.cat([features, a], dim=1))))


class DenseDecoder(nn.Module):
    """p(x|z,y), eq. 4, of D features: dense layers. It starts near N(0, 1), as z-scores are spread."""

    def __init__(self, size: int, z_dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dense = dense([z_dim + classes, 256, 256], dropout)
        self.mu_log_var = WideLinear(256, 2 * size)
        self.mu_log_var.weight.data *= 0.1
        self.mu_log_var.bias.data.zero_()

    gaussian = staticmethod(Gaussian.from_outputs)

    def forward(self, z: Tensor, y: Tensor) -> Gaussian:
        """z: R x Z, y: R x K one-hot -> a distribution over R x D x 1 x 1."""
        h = self.mu_log_var(self.dense(torch.cat([z, y], dim=1)))
        return self.gaussian(*h[:, :, None, None].chunk(2, dim=1))


class OfFeatures:
    """The kinds of nets for x of D z-scored features, N x D x 1 x 1; size: D."""

    trunk_kind: ClassVar[type] = DenseTrunk
    decoder_kind: ClassVar[type] = DenseDecoder
    size: int

    def classifier(self, trunk: Callable, a_dim: int, classes: int, dropout: float) -> nn.Module:
        """Linear: with 25 labels a class, dense layers fit the labels and little else (docs/log.md)."""
        return LinearClassifier(self.size, a_dim, classes, dropout)


class FeatureADGM(OfFeatures, ADGM):
    """The five networks and the bound, of features."""


class FeatureDiscriminative(OfFeatures, Discriminative):
    """The two networks that classify, of features."""
