"""The losses of discriminator D and generator G, and the penalties on D's slope.

D(x) is a logit here, the last layer's number; the paper's probability is its sigmoid. Every loss is descended, and a
mean over N images. cxr/gan/train.py takes one step of D and one of G at a time, whatever the loss.

Shapes: N batch, C channels, S size; logits N x 1 x 1 x 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

SLOPE_WEIGHT = 10.0  # of WGAN-GP's penalty; Gulrajani et al.'s lambda
EVERY = 16  # steps between two R1 penalties (Karras et al. 2020)


class Loss(ABC):
    """What D and G descend, of D's logits on real images and on generated ones."""

    @abstractmethod
    def d(self, on_real: torch.Tensor, on_generated: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def g(self, on_generated: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Minimax(Loss):
    """The game of Goodfellow et al. 2014, with p = sigmoid(D),
        min_G max_D  E_x[log p(x)] + E_z[log(1 - p(G(z)))].
    G climbs log p(G(z)) instead, the non-saturating form that paper 1's code trains; with `saturating` it descends
    log(1 - p(G(z))) as paper 1 prints it (E22). With one-sided label smoothing s (Salimans et al. 2016) D climbs
    (1 - s) log p(x) + s log(1 - p(x)) on real images.
    """

    smoothing: float = 0.0
    saturating: bool = False

    def d(self, on_real: torch.Tensor, on_generated: torch.Tensor) -> torch.Tensor:
        return self.on_real(on_real) - F.logsigmoid(-on_generated).mean()

    def on_real(self, logits: torch.Tensor) -> torch.Tensor:
        s = self.smoothing
        if not s:
            return -F.logsigmoid(logits).mean()
        return -((1 - s) * F.logsigmoid(logits) + s * F.logsigmoid(-logits)).mean()

    def g(self, on_generated: torch.Tensor) -> torch.Tensor:
        return F.logsigmoid(-on_generated).mean() if self.saturating else -F.logsigmoid(on_generated).mean()


class Hinge(Loss):
    """E_x[max(0, 1 - D(x))] + E_z[max(0, 1 + D(G(z)))] for D, -E_z[D(G(z))] for G (Lim and Ye 2017; Miyato et al.
    2018).
    """

    def d(self, on_real: torch.Tensor, on_generated: torch.Tensor) -> torch.Tensor:
        return F.relu(1 - on_real).mean() + F.relu(1 + on_generated).mean()

    def g(self, on_generated: torch.Tensor) -> torch.Tensor:
        return -on_generated.mean()


class LeastSquares(Loss):
    """E_x[(D(x) - 1)^2] / 2 + E_z[D(G(z))^2] / 2 for D, E_z[(D(G(z)) - 1)^2] / 2 for G (Mao et al. 2017, with a = 0,
    b = c = 1).
    """

    def d(self, on_real: torch.Tensor, on_generated: torch.Tensor) -> torch.Tensor:
        return ((on_real - 1).square().mean() + on_generated.square().mean()) / 2

    def g(self, on_generated: torch.Tensor) -> torch.Tensor:
        return (on_generated - 1).square().mean() / 2


class Wasserstein(Loss):
    """E_z[D(G(z))] - E_x[D(x)] for D, -E_z[D(G(z))] for G. WGAN-GP adds 10 x `slope_from_one` to D's (Gulrajani et al.
    2017, equation 3). They take five steps of D for one of G.
    """

    def d(self, on_real: torch.Tensor, on_generated: torch.Tensor) -> torch.Tensor:
        return on_generated.mean() - on_real.mean()

    def g(self, on_generated: torch.Tensor) -> torch.Tensor:
        return -on_generated.mean()


def choose(name: str, smoothing: float, saturating: bool) -> Loss:
    """The loss of a name in settings.Loss. smoothing, saturating: of minimax."""
    others = {"hinge": Hinge, "least_squares": LeastSquares, "wgan_gp": Wasserstein}
    return Minimax(smoothing, saturating) if name == "minimax" else others[name]()


def slopes(d: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The gradient of D by each image, N x C S S, in float32 whatever the precision of the training. Gradients flow
    through it to D's weights.
    """
    x = x.detach().float().requires_grad_(True)
    with torch.autocast(x.device.type, enabled=False):
        (slope,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
    return slope.flatten(1)


def squared_slope(d: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """E_x || grad D(x) ||^2 at real images: R1 is r1 / 2 times this (Mescheder et al. 2018)."""
    return slopes(d, x).square().sum(1).mean()


def shares(n: int, stream: torch.Generator) -> torch.Tensor:
    """`share` of n pairs of images: N x 1 x 1 x 1, uniform in [0, 1]."""
    return torch.rand(n, 1, 1, 1, generator=stream)


def slope_from_one(
    d: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, generated: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """E (|| grad D(v) || - 1)^2 at v = e x + (1 - e) G(z), with e = share, of `shares`."""
    between = share * x + (1 - share) * generated.detach()
    return (torch.linalg.vector_norm(slopes(d, between), dim=1) - 1).square().mean()
