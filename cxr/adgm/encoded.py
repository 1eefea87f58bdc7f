"""The features of a frozen encoder, as the encoder stage wrote them, in place of pixels.

A training sees them as z-scores of its training images, as images of D channels and one pixel.

Shapes: N images, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from cxr.core.files import read_json, read_table
from cxr.core.formats import Format

STAGE = "encoder"
LEAST = 1e-6  # of a feature's standard deviation: a feature that never differs stays 0


class EncoderId(Format, extra="ignore"):
    """What a training over features reads of encoder.json. cxr/encoder/formats.py has the whole."""

    features: int = Field(description="features of an image")
    split_sha256: str = Field(description="SHA-256 of the split's table")


class Encoded:
    """The features of all images, as the encoder stage wrote them into `folder`.

    Raises ValueError, naming the file and the cure, when a file is missing or damaged, or when the encoder was trained
    under another split than the one with this sum: it may have seen images that are held out now.
    """

    def __init__(self, folder: Path, split_sha256: str) -> None:
        info = read_json(folder / "encoder.json", STAGE, EncoderId)
        if info.split_sha256 != split_sha256:
            raise ValueError(f"{folder}: the encoder was trained under another split; `dvc repro` trains it again")
        names = [f"feature.{k}" for k in range(info.features)]
        table = read_table(folder / "features.parquet", STAGE, ("image_id", *names))
        self.values = pd.DataFrame(table[names].to_numpy(np.float32), index=table["image_id"])

    def of(self, image_ids: Sequence[str], like: Sequence[str]) -> np.ndarray:
        """The z-scores of images, float32 N x D: less the mean of the images `like`, over their standard deviation.

        Raises ValueError for an image without features.
        """
        missing = pd.Index(image_ids).difference(self.values.index)
        if len(missing):
            raise ValueError(
                f"{len(missing)} images have no features, the first is {missing[0]!r}; `dvc repro` encodes them"
            )
        own = self.values.loc[list(like)].to_numpy(np.float64)
        scores = (self.values.loc[list(image_ids)].to_numpy(np.float64) - own.mean(0)) / np.maximum(own.std(0), LEAST)
        return scores.astype(np.float32)


class Vectors:
    """The feature vectors of images, in place of `Images`: each an image of D channels and one pixel, on the device."""

    def __init__(self, values: np.ndarray, device: torch.device | str = "cpu") -> None:
        """values: float32 N x D."""
        self.device = torch.device(device)
        self.resident = torch.from_numpy(values).to(self.device)[:, :, None, None]
        self.size = values.shape[1]

    def __len__(self) -> int:
        return len(self.resident)

    def drawn(self, chosen: Tensor) -> Tensor:
        """What a step's batch holds of images by their place, int64 N: the places."""
        return chosen

    def pixels(self, drawn: Tensor) -> Tensor:
        """What `drawn` gave -> float32 N x D x 1 x 1 on the device."""
        return self.resident[drawn.to(self.device)]

    def values(self, chosen: Tensor) -> Tensor:
        """The same, of places on the CPU."""
        return self.pixels(chosen)
