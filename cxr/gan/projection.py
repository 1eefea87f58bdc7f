"""The projection GAN: trained on all training X-rays of a view, with and without findings, each with its condition.

The condition is the vector of cxr/core/conditions.py: 14 labels, sex, age and view. The generator is the DCGAN's and
gets it beside the noise, so that each of its numbers has a 4 x 4 map of its own to begin with: X-rays lie alike, and a
finding has its place. (A conditional batch norm scales a map alike at every place.) The discriminator is
nets.ProjectionDiscriminator.

Both nets are given w y in place of the condition y. w rises from 0 to 1 over the first `phase_in` epochs: on few images
a GAN that is conditioned from its first step collapses more often (Shahbazi et al. 2022). A share `drop` of the images
has no condition, w = 0, so that both nets also learn what all X-rays have in common. They are drawn image by image: a
whole batch without conditions would have other statistics of batch norm than the rest, which generation would mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from cxr.core.conditions import CONDITIONS, encode
from cxr.core.everybody import Everybody
from cxr.core.findings import SLUGS, finding, slug
from cxr.core.picture import grid
from cxr.core.store import open_store
from cxr.gan import nets
from cxr.gan.formats import GRID, Kept, ProjectionGenerator
from cxr.gan.settings import Projection
from cxr.gan.train import GanTraining, Trained, fit, initial_nets, sampled_as
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints
from cxr.training.feed import Batch
from cxr.training.machine import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def weight(settings: Projection, epochs: float) -> float:
    """The condition's weight w after so many epochs, 0 to 1."""
    return min(1.0, epochs / settings.phase_in) if settings.phase_in else 1.0


class ProjectionTraining(GanTraining):
    """The game on images with conditions: `vectors` are theirs, N x K."""

    settings: Projection
    projection = True

    def ask(self, d: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return d(x, y)

    def draw(self, epoch: int, step: int) -> Batch:
        """As GanTraining's, with w y in place of y, and 0 where y is dropped."""
        s = self.settings
        batch = super().draw(epoch, step)
        y = batch["y"]
        given = torch.rand(len(y), generator=generator(s.seed, 11, epoch, step, 0)) >= s.drop
        return batch | {"y": y * (given[:, None] * weight(s, epoch + step / self.steps)).to(y)}

    def sample(self, n: int, key: int) -> np.ndarray:
        """n images of conditions of the training images, as far as these are phased in."""
        s, y = self.settings, self.sample_labels[:n] * self.phase
        return nets.generate(self.sampler, n, s.z_dim, s.seed, key, device=self.fabric.device, labels=y)

    def look(self, epoch: int) -> dict[str, float]:
        self.phase = np.float32(weight(self.settings, epoch))
        return super().look(epoch)


def run(
    fabric: Fabric,
    data: Everybody,
    store: Path,
    checkpoints: Checkpoints,
    settings: Projection,
    findings: Sequence[str],
    label: str,
) -> tuple[Trained, dict[str, np.ndarray]]:
    """Train on a store's images. Returns the training's result and pictures: `real`, a grid of real images, each with
    the condition of the generated one at its place in the training's grids; `rows`, of `rows`.
    """
    columns = [CONDITIONS.index(slug(finding(name))) for name in ("No Finding", *findings)]
    opened = open_store(store)
    images = Images([opened], data.training["image_id"], fabric.device)
    y = encode(data.training)
    trained = fit(fabric, images, checkpoints, settings, label=label, vectors=y, kind=ProjectionTraining)
    shown = sampled_as(len(images), settings.seed)
    real = opened.images[opened.rows(data.training["image_id"].iloc[shown[: GRID**2]])]
    return trained, {"real": grid(real), "rows": grid(rows(fabric, trained, settings, y[shown[:GRID]], columns))}


def rows(
    fabric: Fabric, trained: Trained, settings: Projection, patients: np.ndarray, columns: Sequence[int]
) -> np.ndarray:
    """X-rays of the same noise under other conditions, uint8 N x S x S: for each of `columns`, which are places of
    findings in the condition, those of `patients`, conditions P x K, with that finding alone.
    """
    made = []
    for column in columns:
        y = patients.copy()
        y[:, : len(SLUGS)] = 0
        y[:, column] = 1
        made.append(nets.generate(trained.g, len(y), settings.z_dim, settings.seed, 8, device=fabric.device, labels=y))
    return np.concatenate(made)


def reports(data: Everybody, trained: Trained, settings: Projection, name: str) -> tuple[ProjectionGenerator, Kept]:
    """generator.json and kept.json."""
    about = ProjectionGenerator(
        **settings.model_dump(),
        kind="projection",
        generator=name,
        conditions=list(CONDITIONS),
        images=len(data.training),
        patients=int(data.training["patient_id"].nunique()),
        split_sha256=data.split_sha256,
        epoch=trained.epoch,
    )
    return about, Kept(
        mode="projection",
        select="last",
        average=settings.average,
        epoch=trained.epoch,
        epochs=settings.epochs,
        stopped_at=None,
        why=None,
        kept_back=0,
    )


def rebuild(meta: ProjectionGenerator) -> nets.Generator:
    """The generator of a generator.json as it was before its first step. nets.generate makes its X-rays."""
    settings = Projection(**{name: getattr(meta, name) for name in Projection.model_fields})
    return initial_nets(settings, meta.size, len(meta.conditions), projection=True)[0]
