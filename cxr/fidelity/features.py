"""Features of images: the inputs of the last layer of the classifier (1,024 of a DenseNet121) or of Inception v3
trained on ImageNet's photographs (2,048 pooled features; Szegedy et al. 2016).

FID as published (Heusel et al. 2017) uses TensorFlow's Inception. These are torchvision's weights, so compare values
with their floor only, not with published ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cxr.classifier.formats import Model
from cxr.classifier.net import Classifier
from cxr.classifier.trained import inputs, layer_inputs, open_trained
from cxr.training.pretrained import IMAGENET_MEAN, IMAGENET_STD

SIZE = 299  # pixels a side that Inception v3 was trained at


class Inception(nn.Module):
    """Gray images N x 1 x 299 x 299 in [0, 1], as three equal channels with torchvision's normalisation, -> N x 1000
    logits.

    Raises ValueError, with the cure, where the weights cannot be had.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = _imagenet()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.expand(-1, 3, -1, -1).sub(self.mean).div(self.std))


def _imagenet() -> nn.Module:
    cure = "or set fidelity.features to classifier"
    try:
        from torchvision.models import Inception_V3_Weights, inception_v3
    except ImportError as error:
        raise ValueError(f"fidelity.features = inception needs torchvision ({error}): install it, {cure}") from None
    chosen = Inception_V3_Weights.IMAGENET1K_V1
    try:
        return inception_v3(weights=chosen)
    except Exception as error:  # no network, or whatever a torn file makes of torch.load
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"Inception's ImageNet weights could not be had ({why}): put {chosen.url.rsplit('/', 1)[-1]} from "
            f"download.pytorch.org/models into {torch.hub.get_dir()}/checkpoints, {cure}"
        ) from None


@torch.no_grad()
def penultimate(net: Classifier | Inception, images: np.ndarray, size: int, batch: int) -> np.ndarray:
    """uint8 N x S x S, resized to the net's `size` as `balance` does -> float32 N x D, `batch` images at a time."""
    net.eval()
    head = net.head if isinstance(net, Classifier) else net.net.fc
    with layer_inputs(head) as features:  # so that the net's own normalisation applies
        for start in range(0, len(images), batch):
            net(inputs(images[start : start + batch], size, net.mean.device))
    return np.concatenate([np.zeros((0, head.in_features), np.float32), *features])


def classifier_features(folder: Path, meta: Model, device: torch.device) -> Callable:
    """Images uint8 N x S x S -> N x D: `penultimate` of the classifier in this folder. meta: its model.json."""
    net = open_trained(folder, meta).to(device)
    return lambda images: penultimate(net, images, meta.size, 64)


def inception_features(device: torch.device) -> Callable:
    """Images uint8 N x S x S -> N x 2048: `penultimate` of Inception v3."""
    net = Inception().to(device)
    return lambda images: penultimate(net, images, SIZE, 16)
