"""The diffusion model as a sampler."""

from __future__ import annotations

import numpy as np
from torch import nn

from cxr.diffusion import net
from cxr.diffusion.formats import Generator, settings_of
from cxr.synthesis.samplers import OfAll


class Drawer(OfAll):
    """A diffusion model of all training images, conditioned on labels, sex, age and view."""

    Meta = Generator

    def prepare(self) -> None:
        self.settings = settings_of(self.meta)

    def build(self) -> nn.Module:
        return net.build(self.settings, len(self.meta.conditions))

    def sample(self, n: int, encoded: np.ndarray | None, *key: int) -> np.ndarray:
        assert encoded is not None and len(encoded) == n
        return net.sample(self.net, encoded, self.settings, self.meta.spread, *key, device=self.device)
