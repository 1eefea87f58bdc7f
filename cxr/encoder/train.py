"""The encoder's training: SimCLR (Chen et al. 2020, A simple framework for contrastive learning of visual
representations), on images without labels.

A step draws `batch` images and two views of each: a crop, a mirror image, a rotation and a shift, then brightness,
contrast and a cutout. It descends nt_xent of the views' projections. Nothing is validated: no label, no image of a
held-out patient takes part. The random numbers of a step depend on (seed, epoch, step) alone.

Shapes: N images of a step, 2N views, D features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from cxr.encoder.net import Backbone, Frozen, build, nt_xent
from cxr.encoder.settings import Settings
from cxr.training import loop
from cxr.training.appearance import altered, appearance
from cxr.training.average import Average
from cxr.training.averaged import AveragedTraining
from cxr.training.batches import Images, affine, in_order, order, warp
from cxr.training.checkpoints import Checkpoints
from cxr.training.feed import Batch
from cxr.training.machine import adam, generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

JUDGED_AT = 256  # images of a batch that is encoded


class Trained(NamedTuple):
    """net: with the average of the weights. history: a row an epoch, its mean loss and share of matched views; none
    with others' weights.
    """

    net: Backbone | Frozen
    history: pd.DataFrame


class EncoderTraining(AveragedTraining):
    """Contrasting views of `images`."""

    names = ("loss", "matched")

    def __init__(self, fabric: Fabric, images: Images, settings: Settings, steps: int) -> None:
        s = self.settings = settings
        self.cure = f"lower encoder.lr (now {s.lr:g})"
        self.fabric, self.images, self.steps = fabric, images, steps
        self.net = build(s.size, s.width, s.projected, s.seed)
        optimiser = adam(self.net, fabric, lr=s.lr, weight_decay=s.weight_decay)
        self.model, self.optimiser = fabric.setup(self.net, optimiser)
        self.average = Average(self.net, s.average)

    def draw(self, epoch: int, step: int) -> Batch:
        """images; geometry 2N x 2 x 3 and appearance 2N x 4, of the first views, then of the second ones."""
        s = self.settings
        size = min(s.batch, len(self.images))
        rows = order(len(self.images), s.seed, 1, epoch)[step * size : (step + 1) * size]
        stream = generator(s.seed, 2, epoch, step)
        geometry = affine(2 * len(rows), stream, **s.geometry)
        shades = appearance(2 * len(rows), stream, jitter=s.jitter)
        return {"images": self.images.drawn(rows), "geometry": geometry, "appearance": shades}

    def update(self, batch: Batch, form: tuple) -> Tensor:
        pixels = self.images.pixels(batch["images"])
        moved = warp(torch.cat([pixels, pixels]), batch["geometry"], self.images.size)
        x = altered(moved, batch["appearance"], self.settings.cutout)
        projected = self.model(x.contiguous(memory_format=torch.channels_last))
        loss, matched = nt_xent(projected.float(), self.settings.temperature)
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        return torch.stack([loss.detach(), matched])


def fit(fabric: Fabric, images: Images, checkpoints: Checkpoints, settings: Settings, *, label: str) -> Trained:
    """Train on all of `images`.

    Raises ValueError when the loss is no longer finite, and for fewer than two images.
    """
    n = len(images)
    if n < 2:
        raise ValueError(f"{label}: {n} training images are too few for an encoder")
    batch = min(settings.batch, n)
    training = EncoderTraining(fabric, images, settings, n // batch)
    history, _, _ = loop.run(
        training, checkpoints, label=label, epochs=settings.epochs, steps=training.steps, batch=batch
    )
    return Trained(training.average.net.backbone, history)


@torch.no_grad()
def encode(fabric: Fabric, net: Backbone | Frozen, images: Images) -> Tensor:
    """The features of images without augmentation: float32 N x D on the CPU."""
    net.eval()
    parts = []
    for _, x in in_order(images, JUDGED_AT):
        with fabric.autocast():
            parts.append(net(x.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(parts)
