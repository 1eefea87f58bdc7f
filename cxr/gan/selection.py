"""Looks at a GAN's generator while it trains: its KID and its diversity, and when to stop.

The features are those of a fixed net with random weights, so a GAN depends on no other training. (Naeem et al. 2020: on
images unlike Inception's photographs, random embeddings judge generators better.) KID compares with X-rays of training
patients that were kept back from the GAN. Diversity is the mean distance between two generated X-rays, as a share of
that between two real ones: 1 is as varied as real, 0 is one X-ray over and over. Each feature is scaled by its mean and
standard deviation over the real training X-rays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cxr.gan.kid import kid
from cxr.training.batches import Images
from cxr.training.machine import seeded

LARGEST = 256  # images of a look, generated and real
WIDTH, FEATURES = 32, 64
COLLAPSED = 0.1  # share of the real diversity below which a generator is called collapsed where no limit is set


class Embedding(nn.Module):
    """Gray images N x 1 x S x S in [-1, 1] -> N x FEATURES: strided convolutions down to 4 x 4, then a projection, with
    weights drawn once (He et al. 2015) and never trained.
    """

    def __init__(self, size: int, seed: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width, side = 1, size
        while side > 4:
            layers += [nn.Conv2d(width, WIDTH, 4, 2, 1), nn.ReLU()]
            width, side = WIDTH, side // 2
        layers += [nn.Flatten(), nn.Linear(WIDTH * side**2, FEATURES)]
        self.net = nn.Sequential(*layers)
        with seeded(seed, 8):
            for module in self.net:
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight)
                    nn.init.zeros_(module.bias)
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def diversity(x: np.ndarray) -> float:
    """Mean Euclidean distance between two of the rows of N x D, N at least 2."""
    x = torch.from_numpy(np.asarray(x, float))
    return float(F.pdist(x).mean())


class Watch:
    """Looks at a generator. images: what the GAN trains on. kept_back: other real images that judge it, or None."""

    def __init__(self, images: Images, kept_back: Images | None, seed: int) -> None:
        self.device = images.device
        self.net = Embedding(images.size, seed).to(self.device)
        self.mean, self.scale = 0.0, 1.0
        real = self._features(_all(images))
        self.mean, self.scale = real.mean(0), np.maximum(real.std(0), 1e-6)
        self.varied = diversity((real - self.mean) / self.scale)
        self.reference = None if kept_back is None else self._features(_all(kept_back))

    @torch.no_grad()
    def _features(self, images: np.ndarray) -> np.ndarray:
        """uint8 N x S x S -> float64 N x FEATURES, scaled."""
        blocks = torch.from_numpy(images)[:, None].split(32)
        features = [self.net(block.to(self.device).float() / 127.5 - 1).cpu().double().numpy() for block in blocks]
        return (np.concatenate(features) - self.mean) / self.scale

    def look(self, generated: np.ndarray) -> dict[str, float]:
        """kid (NaN where nothing was kept back) and diversity of generated images, uint8 N x S x S."""
        features = self._features(generated)
        distance = math.nan if self.reference is None else kid(self.reference, features)
        return {"kid": distance, "diversity": diversity(features) / max(self.varied, 1e-12)}


def _all(images: Images) -> np.ndarray:
    """At most LARGEST of the images, evenly spaced: uint8 N x S x S."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), LARGEST)).round().astype(int))
    return images.gather(torch.from_numpy(chosen))[:, 0].cpu().numpy()


def looks(history: Sequence[dict]) -> list[dict]:
    """The epochs that were looked at."""
    return [row for row in history if not math.isnan(row["diversity"])]


def collapse(history: Sequence[dict], limit: float) -> str | None:
    """What is wrong when the last look's diversity, a share of the real X-rays', is below the limit (0: COLLAPSED).

    The first epoch's look does not count: every generator starts with nearly equal images.
    """
    counted = [row for row in looks(history) if row["epoch"] > 1]
    limit = limit or COLLAPSED
    if not counted or counted[-1]["diversity"] >= limit:
        return None
    return (
        f"the generated X-rays of epoch {counted[-1]['epoch']} have {counted[-1]['diversity']:.1%} of the real ones' "
        f"diversity, less than {limit:.1%}: the generator has collapsed, or has not begun to learn"
    )


def stop(history: Sequence[dict], patience: int, limit: float) -> str | None:
    """Why the training stops after the last look, or None.

    It stops when the diversity is below the limit at two looks in a row (0: never), or after `patience` looks without a
    better KID (0: never).
    """
    looked = looks(history)
    if limit and collapse(looked, limit) and collapse(looked[:-1], limit):
        return f"diversity below {limit:.1%} of the real X-rays' at two looks in a row"
    kids = [row["kid"] for row in looked]
    if patience and kids and len(kids) - 1 - int(np.argmin(kids)) >= patience:
        return f"no better KID in {patience} looks"
    return None


def line(history: Sequence[dict], limit: float) -> str:
    """What is printed of the last epoch, '' unless it was looked at. It warns of a collapse once each time."""
    row, looked = history[-1], looks(history)
    if not looked or looked[-1] is not row:
        return ""
    distance = "" if math.isnan(row["kid"]) else f", KID {row['kid']:.3g}"
    collapsed = collapse(looked, limit)
    warning = f"; warning: {collapsed}" if collapsed and not collapse(looked[:-1], limit) else ""
    return (
        f"epoch {row['epoch']}: D {row['loss_d']:.3f}, G {row['loss_g']:.3f}, D(x) {row['d_real']:.2f}, "
        f"D(G(z)) {row['d_fake']:.2f}{distance}, diversity {row['diversity']:.2f}{warning}"
    )
