"""Variant paper_code: the ADGM as the paper's published code has it (docs/papers.md, E47 to E49, E64, E65).

It differs from cxr/adgm/nets.py in this:

- log sigma^2 = softplus(net) >= 0 in every net: no sigma below 1, neither of a posterior nor of a pixel in [0, 1];
- log p(x|z,y) is divided by the number of pixels, the divergences are not;
- both divergences are log q - log p at one sample;
- the bound, the weights of the unlabelled sum, and the classification loss each draw an a of their own, and the K
  labels of an unlabelled image each their own a and z, in four passes with their own batch norm and dropout;
- log(q + 1e-8) in the entropy and in the classification loss;
- the warm-up counts calls of the bound, two per step, to WARMUP_CALLS;
- the encoders see grey levels in [0, 1]; PyTorch's own initialisation and batch norm.

Not reproduced: its labelled batches in one fixed order within an epoch, and validation that advances the warm-up. Both
matter only where an epoch has fewer than 50 steps or the labels are few.

Shapes: N images, H W pixels, K classes, Z latent, A auxiliary, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.adgm.nets import ADGM, Gaussian, Terms
from cxr.adgm.settings import Settings
from cxr.adgm.train import Data, Paper

WARMUP_CALLS = 100
TINY = 1e-8


def softplus(mu: Tensor, raw: Tensor) -> Gaussian:
    """A distribution from a net's two outputs: log sigma^2 = softplus(raw)."""
    wide = torch.promote_types(mu.dtype, torch.float32)
    return Gaussian(mu.to(wide), F.softplus(raw.to(wide)))


class Published(ADGM):
    """The five networks of cxr/adgm/nets.py under the published code's bound.

    Takes ADGM's arguments without likelihood_weight, free_bits and use_z.
    """

    def __init__(self, *, size: int, classes: int, z_dim: int = 128, a_dim: int = 128, dropout: float = 0.2) -> None:
        super().__init__(
            size=size, classes=classes, z_dim=z_dim, a_dim=a_dim, dropout=dropout, likelihood_weight=1 / size**2
        )
        self.p_x.mu_log_var.reset_parameters()
        for net in (self.p_x, self.q_a, self.q_z, self.p_a):
            net.gaussian = softplus
        for net in (self.q_a, self.q_y, self.q_z, self.p_a):
            net.trunk.mean, net.trunk.spread = 0.0, 1.0
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eps = 1e-5

    @property
    def noise(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of an image's noise. Of a: a draw for each label's bound, the last for the classifier; of z: a draw
        for each label.
        """
        return (self.classes + 1, self.a_dim), (self.classes, self.z_dim)

    def elbo(
        self, x: Tensor, y: Tensor, noise_a: Tensor, noise_z: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """L, KL_z, KL_a (R each) and the means of q(z|a,y,x) and q(a|x). x, y (one-hot): R rows each."""
        q_a = self.q_a(self.q_a.trunk(x))
        a = q_a.sample(noise_a)
        q_z = self.q_z(self.q_z.trunk(x), a, y)
        z = q_z.sample(noise_z)
        p_a = self.p_a(self.p_a.trunk(x), z, y)
        prior = Gaussian(torch.zeros_like(z), torch.zeros_like(z))
        KL_z = q_z.log_prob(z) - prior.log_prob(z)
        KL_a = q_a.log_prob(a) - p_a.log_prob(a)
        log_p_x = self.likelihood_weight * self.p_x(z, y).log_prob(x)
        L = -log_p_x + math.log(self.classes) + temperature * (KL_z + KL_a)
        return L, KL_z, KL_a, q_z.mu, q_a.mu

    def q(self, x: Tensor, noise_a: Tensor) -> Tensor:
        """q(y|a,x), N x K, with an a of its own."""
        a = self.q_a(self.q_a.trunk(x)).sample(noise_a)
        return self.q_y(self.q_y.trunk(x), a).exp()

    def forward(
        self, x: Tensor, y: Tensor, noise_a: Tensor, noise_z: Tensor, temperature: tuple[float, float] = (1.0, 1.0)
    ) -> Terms:
        """As ADGM's; noise_a: N x (K + 1) x A, noise_z: N x K x Z; temperature: of the labelled, of the unlabelled."""
        n_l, K = len(y), self.classes
        x_l, x_u = x[:n_l], x[n_l:]
        one_hot = F.one_hot(y, K).to(x.dtype)
        L, KL_z, KL_a, mu_z, mu_a = self.elbo(x_l, one_hot, noise_a[:n_l, 0], noise_z[:n_l, 0], temperature[0])
        n_u = len(x_u)
        U = x.new_zeros(0)
        if n_u:
            label = torch.eye(K, dtype=x.dtype, device=x.device).repeat(n_u, 1)  # R = N_u K; an image's K in a row
            noise = noise_a[n_l:, :K].flatten(0, 1), noise_z[n_l:].flatten(0, 1)
            each = self.elbo(x_u.repeat_interleave(K, dim=0), label, *noise, temperature[1])[0].view(n_u, K)
            q = self.q(x_u, noise_a[n_l:, K])
            U = (q * (each + torch.log(q + TINY))).sum(1)
        log_q = torch.log(self.q(x_l, noise_a[:n_l, K]) + TINY)
        ce = F.nll_loss(log_q, y, reduction="none")
        return Terms(L, U, ce, KL_z, KL_a, mu_z, mu_a, log_q)


class PaperCode(Paper):
    """The training of `Published`: one draw of a in a prediction, a warm-up of its own."""

    @classmethod
    def fixed(cls, settings: Settings) -> dict:
        return super().fixed(settings) | {
            "likelihood_weight": 1 / settings.size**2,
            "predict_samples": 1,
            "weighting": "mean",
        }

    @staticmethod
    def build(settings: Settings, data: Data) -> Published:
        return Published(**settings.sizes)

    def steps_per_epoch(self) -> int:
        """Without a last batch of one unlabelled image: here the unlabelled images have a batch norm of their own."""
        steps = super().steps_per_epoch() - (self.n_u % self.settings.batch == 1)
        if not steps:
            raise ValueError("variant paper_code needs two unlabelled images or more; lower adgm_runs.labels")
        return steps

    def temperature(self, epoch: int, step: int) -> tuple[float, float]:
        """Of the labelled and of the unlabelled bound: their calls so far over WARMUP_CALLS, at most 1."""
        calls = 2 * (epoch * self.steps + step)
        return min(1.0, (calls + 1) / WARMUP_CALLS), min(1.0, (calls + 2) / WARMUP_CALLS)

    def end_epoch(self, epoch: int, means: dict[str, float], keep: Callable[[], None]) -> dict:
        row = super().end_epoch(epoch, means, keep)
        return row | {"temperature": row["temperature"][0]}  # of the labelled bound
