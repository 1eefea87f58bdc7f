"""Images as a trained net sees them: what goes into its last layer, of the classifier (DenseNet121, 1,024 features) or
of Inception v3 (2,048 pooled features; Szegedy et al. 2016), which ImageNet's photographs taught.

FID as published (Heusel et al. 2017) takes TensorFlow's Inception; these are torchvision's weights, so that values
compare with their floor alone, as in the classifier's features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cxr.classifier.net import IMAGENET_MEAN, IMAGENET_STD, Classifier
from cxr.core.resize import resize

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
    """uint8 N x S x S, brought to the net's `size` as `balance` does -> float32 N x D, `batch` images at a time."""
    net.eval()
    head = net.net.classifier if isinstance(net, Classifier) else net.net.fc
    found = [np.zeros((0, head.in_features), np.float32)]
    # What goes into the last layer, so that the net's own normalisation stands before it.
    hook = head.register_forward_pre_hook(lambda _, given: found.append(given[0].float().cpu().numpy()))
    try:
        for start in range(0, len(images), batch):
            block = np.stack([resize(image, size) for image in images[start : start + batch]])
            net(torch.from_numpy(block).to(net.mean.device)[:, None].float() / 255)
    finally:
        hook.remove()
    return np.concatenate(found)
