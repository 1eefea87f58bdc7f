"""The DCGAN's training, and which of its generators is kept.

A step is one of the discriminator D and one of the generator G on the same batch. cxr/gan/losses.py has what they
descend. With DiffAugment (cxr/gan/diffaugment.py) every image that D sees is augmented. The paper keeps the last step's
generator. Here it may be a running average of the weights (cxr/training/average.py), and the one with the least KID
among the epochs looked at (cxr/gan/selection.py).

Shapes: N batch, C channels, S size, Z latent, K labels of a conditional GAN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxr.core.picture import grid
from cxr.gan import diffaugment, losses, selection
from cxr.gan.formats import GRID
from cxr.gan.nets import beside_image, beside_noise, build, generate
from cxr.gan.settings import Shared, augmentations
from cxr.training import loop
from cxr.training.average import copy_of, update_average
from cxr.training.batches import Images, affine, order, warp
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import generator, restore

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Trained(NamedTuple):
    """g: the generator kept, of `epoch`. d: the last discriminator. grids: sample grids by epoch. epochs: trained.
    stopped: why the training ended before its last epoch, or None.

    history, one row an epoch: epoch; the means of loss_d, with its penalty, and loss_g; d_real and d_fake, the means of
    sigmoid(D(x)) and sigmoid(D(G(z))), under the minimax loss the probabilities of being real; kid and diversity where
    the generator was looked at, else NaN.
    """

    g: nn.Module
    d: nn.Module
    history: pd.DataFrame
    grids: dict[int, np.ndarray]
    epoch: int
    epochs: int
    stopped: str | None


def sampled_as(n: int, seed: int) -> np.ndarray:
    """The places among n training images whose labels the images of a look are given: selection.LARGEST."""
    return order(n, seed, 9).numpy()[np.arange(selection.LARGEST) % n]


def initial_nets(settings: Shared, size: int, labels: int, projection: bool) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator before the first step. labels: K of a conditional GAN; projection: as in
    nets.build.
    """
    s = settings
    net = (size, s.z_dim, s.width, s.channels, s.seed)
    options = {"bounded": s.spectral_norm, "batch_norm": s.batch_norm, "gain": s.gain}
    return build(*net, labels=labels, projection=projection, **options)


class GanTraining(loop.Training):
    """The game on `images`, and looks at the generator.

    vectors: label vectors of the images, N x K, which make the GAN conditional. kept_back: real images of other
    training patients; with them `best` is the generator with the least KID, and the training may stop early.
    """

    names = ("loss_d", "loss_g", "d_real", "d_fake")
    projection = False  # whether D takes the labels into its last layer

    def __init__(
        self,
        fabric: Fabric,
        images: Images,
        settings: Shared,
        steps: int,
        vectors: np.ndarray | None,
        kept_back: Images | None,
    ) -> None:
        s = self.settings = settings
        self.cure = f"lower {s.section}.lr (now {s.lr:g}), or train fewer epochs ({s.section}.epochs)"
        self.fabric, self.images, self.steps, self.select = fabric, images, steps, kept_back is not None
        self.policy = augmentations(s.diffaugment)
        self.loss = losses.choose(s.loss, s.label_smoothing, s.saturating)
        labels = 0 if vectors is None else vectors.shape[1]
        self.g, self.d = initial_nets(s, images.size, labels, self.projection)
        adam = {"lr": s.lr, "betas": (s.beta1, 0.999), "fused": True}
        self.model_g, self.optimiser_g = fabric.setup(self.g, torch.optim.Adam(self.g.parameters(), **adam))
        self.model_d, self.optimiser_d = fabric.setup(self.d, torch.optim.Adam(self.d.parameters(), **adam))
        self.sampler = copy_of(self.g) if s.average else self.g  # the generator that is looked at and kept
        self.y = None if vectors is None else torch.from_numpy(vectors).float()
        self.sample_labels = None if vectors is None else vectors[sampled_as(len(images), s.seed)]
        self.watch = selection.Watch(images, kept_back, s.seed)
        self.grids: dict[int, torch.Tensor] = {}
        self.best: dict = {"epoch": 0, "kid": math.inf, "weights": {}}

    def state(self) -> dict:
        return {
            "g": self.g.state_dict(),
            "d": self.d.state_dict(),
            "average": self.sampler.state_dict() if self.settings.average else {},
            "optimiser_g": self.optimiser_g.state_dict(),
            "optimiser_d": self.optimiser_d.state_dict(),
            "grids": self.grids,
            "best": self.best,
        }

    def load(self, state: dict) -> None:
        self.g.load_state_dict(state["g"])
        self.d.load_state_dict(state["d"])
        if self.settings.average:
            self.sampler.load_state_dict(state["average"])
        restore(self.optimiser_g, state["optimiser_g"])
        restore(self.optimiser_d, state["optimiser_d"])
        self.grids, self.best = state["grids"], state["best"]

    def start_epoch(self, epoch: int) -> None:
        self.permutation = order(len(self.images), self.settings.seed, 1, epoch)
        self.model_g.train()
        self.model_d.train()

    def step(self, epoch: int, step: int) -> torch.Tensor:
        s = self.settings
        x, z, y, drawn = self.batch(epoch, step)
        fake = self.model_g(beside_noise(z, y))

        # D tells real from generated images
        real_seen, fake_seen = self.seen(x, drawn[0]), self.seen(fake.detach(), drawn[1])
        on_real, on_fake = self.logits(real_seen, y), self.logits(fake_seen, y)
        loss_d = self.loss.d(on_real, on_fake) + self.penalty(real_seen, fake_seen, y, epoch, step)
        self.descend(loss_d, self.optimiser_d)

        # G makes images that D takes for real
        self.d.requires_grad_(False)  # its gradients are not needed here: a quarter of the step
        loss_g = self.loss.g(self.logits(self.seen(fake, drawn[2]), y))
        self.descend(loss_g, self.optimiser_g)
        self.d.requires_grad_(True)

        if s.average:
            update_average(self.sampler, self.g, s.average, epoch * self.steps + step)
        d_real, d_fake = (logits.detach().sigmoid().mean() for logits in (on_real, on_fake))
        return torch.stack([loss_d.detach(), loss_g.detach(), d_real, d_fake])

    def batch(self, epoch: int, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, list[dict]]:
        """(x N x C x S x S in [-1, 1], z, y N x K or None, the augmentations' draws for each time that D is asked)."""
        s, device = self.settings, self.fabric.device
        share = slice(self.fabric.global_rank, None, self.fabric.world_size)  # several devices share one batch
        size = min(s.batch, len(self.images))
        rows = self.permutation[step * size : (step + 1) * size]
        stream = generator(s.seed, 2, epoch, step)
        geometry = affine(len(rows), stream, flip=s.flip)
        z = torch.randn(len(rows), s.z_dim, 1, 1, generator=stream)
        drawn: list[dict] = [{}] * 3
        if self.policy:
            stream = generator(s.seed, 7, epoch, step)
            drawn = [diffaugment.draw(len(rows), self.images.size, stream) for _ in drawn]
            drawn = [{name: values[share] for name, values in one.items()} for one in drawn]
        x = warp(self.images.gather(rows[share]), geometry[share], self.images.size) * 2 - 1
        x = x.expand(-1, s.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        y = None if self.y is None else self.y[rows[share]].to(device)
        return x, z[share].to(device), y, drawn

    def seen(self, x: torch.Tensor, drawn: dict) -> torch.Tensor:
        """Images as D sees them, augmented as drawn."""
        return diffaugment.apply(x, drawn, self.policy) if self.policy else x

    def logits(self, x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        """D's logits, N x 1 x 1 x 1 float32."""
        return self.ask(self.model_d, x, y).float()

    def ask(self, d: nn.Module, x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        return d(beside_image(x, y))

    def penalty(
        self, x: torch.Tensor, fake: torch.Tensor, y: torch.Tensor | None, epoch: int, step: int
    ) -> torch.Tensor | float:
        """What D's loss has on top for its slope: WGAN-GP's penalty at every step, R1 times EVERY at each EVERY-th."""
        s = self.settings
        if s.loss == "wgan_gp":
            stream = generator(s.seed, 10, epoch, step, self.fabric.global_rank)
            return losses.SLOPE_WEIGHT * losses.slope_from_one(lambda v: self.ask(self.d, v, y), x, fake, stream)
        if s.r1 and (epoch * self.steps + step) % losses.EVERY == 0:
            return losses.EVERY * s.r1 / 2 * losses.squared_slope(lambda v: self.ask(self.d, v, y), x)
        return 0.0

    def descend(self, loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        optimiser.step()

    def sample(self, n: int, key: int) -> np.ndarray:
        y = None if self.sample_labels is None else self.sample_labels[:n]
        return generate(
            self.sampler, n, self.settings.z_dim, self.settings.seed, key, device=self.fabric.device, labels=y
        )

    def look(self, epoch: int) -> dict[str, float]:
        """Measure the generator, draw its grid, and keep it when its KID is the least."""
        # One process decides for all: their batch norms differ, and so might their stops.
        measures = self.fabric.broadcast(self.watch.look(self.sample(selection.LARGEST, 6)))
        self.grids[epoch] = torch.from_numpy(grid(self.sample(GRID * GRID, 3)))
        if self.select and measures["kid"] < self.best["kid"]:
            weights = {name: value.clone() for name, value in self.sampler.state_dict().items()}
            self.best = {"epoch": epoch, "kid": measures["kid"], "weights": weights}
        return measures

    def end_epoch(self, epoch: int, means: dict[str, float], keep: Callable[[], None]) -> dict:
        looked = epoch == 1 or epoch % self.settings.sample_every == 0
        return means | (self.look(epoch) if looked else {"kid": math.nan, "diversity": math.nan})

    def pictures(self) -> dict[int, torch.Tensor]:
        return self.grids

    def line(self, history: list[dict]) -> str:
        return selection.line(history, self.settings.stop_diversity)

    def stop(self, history: list[dict]) -> str | None:
        s = self.settings
        regular = self.select and len(history) % s.sample_every == 0  # the first epoch's look stops nothing
        return selection.stop(history, s.patience, s.stop_diversity) if regular else None


def fit(
    fabric: Fabric,
    images: Images,
    checkpoints: Checkpoints,
    settings: Shared,
    *,
    label: str,
    vectors: np.ndarray | None = None,
    kept_back: Images | None = None,
    kind: type[GanTraining] = GanTraining,
) -> Trained:
    """Train on all of `images`; vectors, kept_back: as in GanTraining. kind: of training. Without images kept back the
    generator is the last one, and a collapse is only reported. The generator is looked at after the first epoch, every
    `settings.sample_every` ones and the last.

    Raises ValueError when a loss is no longer finite, and for fewer than two images.
    """
    n = len(images)
    if n < 2:
        raise ValueError(f"{label}: {n} training images are too few for a GAN; choose another finding")
    batch = min(settings.batch, n)
    training = kind(fabric, images, settings, n // batch, vectors, kept_back)
    history, trained, stopped = loop.run(
        training, checkpoints, label=label, epochs=settings.epochs, steps=n // batch, batch=batch
    )
    if trained not in training.grids:  # the last look is no part of the state: a longer training has none there
        measures = training.look(trained)
        history.loc[history.index[-1], list(measures)] = list(measures.values())
    if training.select:
        training.sampler.load_state_dict(training.best["weights"])
    kept = training.best["epoch"] if training.select else trained
    grids = {epoch: picture.numpy() for epoch, picture in sorted(training.grids.items())}
    return Trained(training.sampler, training.model_d, history, grids, kept, trained, stopped)
