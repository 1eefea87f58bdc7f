"""The DCGAN's training, and which of its generators is kept.

A step is one of the discriminator D and one of the generator G on the same batch. cxr/gan/losses.py has what they
descend. With DiffAugment (cxr/gan/diffaugment.py) every image that D sees is augmented. The paper keeps the last step's
generator. Here it may be a running average of the weights (cxr/training/average.py), and the one with the least KID
among the epochs looked at (cxr/gan/selection.py).

Shapes: N batch, C channels, S size, Z latent, K labels of a conditional GAN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
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
from cxr.training.average import Average
from cxr.training.batches import Images, affine, order, warp
from cxr.training.checkpoints import Checkpoints
from cxr.training.feed import Batch
from cxr.training.machine import adam, generator, restore

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
        options = {"lr": s.lr, "betas": (s.beta1, 0.999)}
        self.model_g, self.optimiser_g = fabric.setup(self.g, adam(self.g, fabric, **options))
        self.model_d, self.optimiser_d = fabric.setup(self.d, adam(self.d, fabric, **options))
        self.average = Average(self.g, s.average)
        self.sampler = self.average.net  # the generator that is looked at and kept
        self.y = None if vectors is None else torch.from_numpy(vectors).float()
        self.sample_labels = None if vectors is None else vectors[sampled_as(len(images), s.seed)]
        self.watch = selection.Watch(images, kept_back, s.seed)
        self.grids: dict[int, torch.Tensor] = {}
        self.best: dict = {"epoch": 0, "kid": math.inf, "weights": {}}

    def state(self) -> dict:
        return {
            "g": self.g.state_dict(),
            "d": self.d.state_dict(),
            "average": self.average.state(),
            "optimiser_g": self.optimiser_g.state_dict(),
            "optimiser_d": self.optimiser_d.state_dict(),
            "grids": self.grids,
            "best": self.best,
        }

    def load(self, state: dict) -> None:
        self.g.load_state_dict(state["g"])
        self.d.load_state_dict(state["d"])
        self.average.load(state["average"])
        restore(self.optimiser_g, state["optimiser_g"])
        restore(self.optimiser_d, state["optimiser_d"])
        self.grids, self.best = state["grids"], state["best"]

    def start_epoch(self, epoch: int) -> None:
        self.model_g.train()
        self.model_d.train()

    def draw(self, epoch: int, step: int) -> Batch:
        """images; geometry where images are mirrored; z; y of a conditional GAN; for each of the three times that D is
        asked the numbers of its augmentation, as brightness0; share, of WGAN-GP.
        """
        s = self.settings
        size = min(s.batch, len(self.images))
        rows = order(len(self.images), s.seed, 1, epoch)[step * size : (step + 1) * size]
        stream = generator(s.seed, 2, epoch, step)
        geometry = affine(len(rows), stream, flip=s.flip)
        batch = {"images": self.images.drawn(rows), "z": torch.randn(len(rows), s.z_dim, 1, 1, generator=stream)}
        if s.flip:
            batch["geometry"] = geometry
        if self.y is not None:
            batch["y"] = self.y[rows]
        if self.policy:
            stream = generator(s.seed, 7, epoch, step)
            for time in range(3):
                drawn = diffaugment.draw(len(rows), self.images.size, stream)
                batch |= {f"{name}{time}": values for name, values in drawn.items()}
        if s.loss == "wgan_gp":
            batch["share"] = losses.shares(len(rows), generator(s.seed, 10, epoch, step, 0))
        return batch

    def form(self, epoch: int, step: int) -> Hashable:
        """Whether D's loss has R1's penalty: at each EVERY-th step."""
        return bool(self.settings.r1) and (epoch * self.steps + step) % losses.EVERY == 0

    def update(self, batch: Batch, form: bool) -> torch.Tensor:
        s, y = self.settings, batch.get("y")
        x = warp(self.images.pixels(batch["images"]), batch.get("geometry"), self.images.size) * 2 - 1
        x = x.expand(-1, s.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        fake = self.model_g(beside_noise(batch["z"], y))

        # D tells real from generated images
        real_seen, fake_seen = self.seen(x, batch, 0), self.seen(fake.detach(), batch, 1)
        on_real, on_fake = self.logits(real_seen, y), self.logits(fake_seen, y)
        loss_d = self.loss.d(on_real, on_fake) + self.penalty(real_seen, fake_seen, batch, form)
        self.descend(loss_d, self.optimiser_d)

        # G makes images that D takes for real
        self.d.requires_grad_(False)  # its gradients are not needed here: a quarter of the step
        try:
            loss_g = self.loss.g(self.logits(self.seen(fake, batch, 2), y))
            self.descend(loss_g, self.optimiser_g)
        finally:
            self.d.requires_grad_(True)
        d_real, d_fake = (logits.detach().sigmoid().mean() for logits in (on_real, on_fake))
        return torch.stack([loss_d.detach(), loss_g.detach(), d_real, d_fake])

    def after(self, epoch: int, step: int) -> None:
        self.average.update(epoch * self.steps + step)

    def seen(self, x: torch.Tensor, batch: Batch, time: int) -> torch.Tensor:
        """Images as D sees them, augmented as drawn for that time."""
        if not self.policy:
            return x
        return diffaugment.apply(x, {name: batch[f"{name}{time}"] for name in diffaugment.DRAWN}, self.policy)

    def logits(self, x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        """D's logits, N x 1 x 1 x 1 float32."""
        return self.ask(self.model_d, x, y).float()

    def ask(self, d: nn.Module, x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        return d(beside_image(x, y))

    def penalty(self, x: torch.Tensor, fake: torch.Tensor, batch: Batch, form: bool) -> torch.Tensor | float:
        """What D's loss has on top for its slope: WGAN-GP's penalty at every step, R1 times EVERY at each EVERY-th."""
        s = self.settings

        def d(v: torch.Tensor) -> torch.Tensor:
            return self.ask(self.d, v, batch.get("y"))

        if s.loss == "wgan_gp":
            return losses.SLOPE_WEIGHT * losses.slope_from_one(d, x, fake, batch["share"])
        return losses.EVERY * s.r1 / 2 * losses.squared_slope(d, x) if form else 0.0

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
        measures = self.watch.look(self.sample(selection.LARGEST, 6))
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
