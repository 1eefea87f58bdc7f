"""The diffusion model as a sampler."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import nn

from cxr.core import conditions
from cxr.core.findings import SLUGS
from cxr.diffusion import net
from cxr.diffusion.formats import Generator
from cxr.diffusion.settings import Settings
from cxr.synthesis.samplers import Sampler


class Drawer(Sampler):
    """A diffusion model of all training images, conditioned on labels, sex, age and view."""

    Meta = Generator
    conditional = whole = True

    def prepare(self) -> None:
        self.findings = list(SLUGS)
        self.settings = Settings(**self.meta.model_dump(include=set(Settings.model_fields)))

    def build(self) -> nn.Module:
        return net.build(self.settings, len(self.meta.conditions), self.meta.spread)

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        return conditions.encode(rows)

    def sample(self, n: int, encoded: np.ndarray | None, *key: int) -> np.ndarray:
        assert encoded is not None and len(encoded) == n
        return net.sample(self.net, encoded, self.settings, self.meta.spread, *key, device=self.device)
