"""The projection GAN as a sampler."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import nn

from cxr.core import conditions
from cxr.core.findings import SLUGS
from cxr.gan import nets, projection
from cxr.gan.formats import ProjectionGenerator
from cxr.synthesis.samplers import Sampler


class Drawer(Sampler):
    """A projection GAN of all training images, conditioned on labels, sex, age and view."""

    Meta = ProjectionGenerator
    conditional = whole = True

    def prepare(self) -> None:
        self.findings = list(SLUGS)

    def build(self) -> nn.Module:
        return projection.rebuild(self.meta)

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        return conditions.encode(rows)

    def sample(self, n: int, encoded: np.ndarray | None, *key: int) -> np.ndarray:
        return nets.generate(self.net, n, self.meta.z_dim, *key, device=self.device, labels=encoded)
