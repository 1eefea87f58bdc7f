"""The projection GAN as a sampler."""

from __future__ import annotations

import numpy as np
from torch import nn

from cxr.gan import nets, projection
from cxr.gan.formats import ProjectionGenerator
from cxr.synthesis.samplers import OfAll


class Drawer(OfAll):
    """A projection GAN of all training images, conditioned on labels, sex, age and view."""

    Meta = ProjectionGenerator

    def build(self) -> nn.Module:
        return projection.rebuild(self.meta)

    def sample(self, n: int, encoded: np.ndarray | None, *key: int) -> np.ndarray:
        return nets.generate(self.net, n, self.meta.z_dim, *key, device=self.device, labels=encoded)
