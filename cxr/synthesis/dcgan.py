"""A DCGAN as a sampler."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import nn

from cxr.gan import generators, nets
from cxr.gan.formats import Generator
from cxr.synthesis.samplers import Sampler


class Drawer(Sampler):
    """A DCGAN of one finding, or of several: pooled, or conditioned on which of them an X-ray shows."""

    Meta = Generator

    def prepare(self) -> None:
        self.findings = generators.members(self.folder.name)
        self.conditional, self.certain = self.meta.mode == "conditional", self.meta.mode != "pooled"

    def build(self) -> nn.Module:
        meta = self.meta
        labels = len(self.findings) if self.conditional else 0
        g, _ = nets.build(meta.size, meta.z_dim, meta.width, meta.channels, meta.seed, labels=labels, gain=meta.gain)
        return g

    def encode(self, rows: pd.DataFrame) -> np.ndarray | None:
        return generators.vectors(rows, self.findings) if self.conditional else None

    def sample(self, n: int, encoded: np.ndarray | None, *key: int) -> np.ndarray:
        return nets.generate(self.net, n, self.meta.z_dim, *key, device=self.device, labels=encoded)
