"""The diffusion model's training (Karras et al. 2022).

A step draws for each image a noise level, ln sigma ~ N(P_mean, P_std^2), and noise n ~ N(0, I), and descends
    E [ w(sigma) || D(x_0 + sigma n; sigma, y) - x_0 ||^2 ],  w = 1 / c_out^2      (their eq. 8),
which is E || F - (x_0 - L) / c_out ||^2 (cxr/diffusion/net.py). A batch's noise levels are stratified: one from each
N-th of the distribution, so that their mean varies less (Kingma et al. 2021). A share `drop` of the images goes without
its condition, for guidance in sampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxr.diffusion.net import build, denoise
from cxr.diffusion.settings import Settings
from cxr.training import loop
from cxr.training.average import Average
from cxr.training.averaged import AveragedTraining
from cxr.training.batches import Images, affine, order, warp
from cxr.training.checkpoints import Checkpoints
from cxr.training.feed import Batch
from cxr.training.machine import adam, generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Trained(NamedTuple):
    """net: with the average of the weights. spread: of the images. history: a row an epoch, its mean loss. epochs:
    trained.
    """

    net: nn.Module
    spread: float
    history: pd.DataFrame
    epochs: int


def noise_levels(n: int, settings: Settings, stream: torch.Generator) -> torch.Tensor:
    """n noise levels sigma, float32 N, stratified, in a random order."""
    u = (torch.randperm(n, generator=stream) + torch.rand(n, generator=stream)) / n
    normal = torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))
    return (settings.p_mean + settings.p_std * normal).exp()


class DiffusionTraining(AveragedTraining):
    """Denoising on `images`. conditions: float32 N x K. spread: the images' standard deviation in [-1, 1]."""

    names = ("loss",)

    def __init__(
        self, fabric: Fabric, images: Images, conditions: np.ndarray, spread: float, settings: Settings, steps: int
    ) -> None:
        s = self.settings = settings
        self.cure = f"lower diffusion.lr (now {s.lr:g})"
        self.fabric, self.images, self.spread, self.steps = fabric, images, spread, steps
        self.y = torch.from_numpy(conditions)
        self.net = build(s, conditions.shape[1])
        self.net.prior.estimate(images, conditions, spread)
        self.model, self.optimiser = fabric.setup(self.net, adam(self.net, fabric, lr=s.lr))
        self.average = Average(self.net, s.average)

    def draw(self, epoch: int, step: int) -> Batch:
        """images; y N x K; given bool N; geometry N x 2 x 3; sigma N; noise N x 1 x S x S."""
        s = self.settings
        size = min(s.batch, len(self.images))
        rows = order(len(self.images), s.seed, 1, epoch)[step * size : (step + 1) * size]
        stream = generator(s.seed, 2, epoch, step)
        geometry = affine(len(rows), stream, flip=s.flip, rotate=s.rotate, shift=s.shift)
        sigma = noise_levels(len(rows), s, stream)
        given = torch.rand(len(rows), generator=stream) >= s.drop
        noise = torch.randn(len(rows), 1, s.size, s.size, generator=stream)
        batch = {"images": self.images.drawn(rows), "y": self.y[rows], "given": given}
        return batch | {"geometry": geometry, "sigma": sigma, "noise": noise}

    def update(self, batch: Batch, form: tuple) -> torch.Tensor:
        x = warp(self.images.pixels(batch["images"]), batch["geometry"], self.images.size) * 2 - 1
        noisy = x + batch["sigma"].view(-1, 1, 1, 1) * batch["noise"]
        given = (batch[name] for name in ("sigma", "y", "given"))
        out = denoise(self.model, noisy, *given, self.spread, batch["geometry"])
        loss = (out.f - (x - out.linear) / out.c_out).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        return loss.detach()[None]


def spread_of(images: Images) -> float:
    """The standard deviation of the images' pixels, scaled to [-1, 1], to 4 digits."""
    total = squares = 0.0
    for rows in torch.arange(len(images)).split(1024):
        x = images.gather(rows).cpu().double() / 127.5 - 1
        total, squares = total + float(x.mean((1, 2, 3)).sum()), squares + float(x.square().mean((1, 2, 3)).sum())
    return round((squares / len(images) - (total / len(images)) ** 2) ** 0.5, 4)


def fit(
    fabric: Fabric, images: Images, conditions: np.ndarray, checkpoints: Checkpoints, settings: Settings, *, label: str
) -> Trained:
    """Train on all of `images`. conditions: float32 N x K, one an image.

    Raises ValueError when the loss is no longer finite, and for fewer than two images.
    """
    n = len(images)
    if n < 2:
        raise ValueError(f"{label}: {n} training images are too few for a generator")
    batch, spread = min(settings.batch, n), spread_of(images)
    training = DiffusionTraining(fabric, images, conditions, spread, settings, n // batch)
    history, epochs, _ = loop.run(
        training, checkpoints, label=label, epochs=settings.epochs, steps=n // batch, batch=batch
    )
    return Trained(training.average.net, spread, history, epochs)
