"""Images as a trained classifier sees them: DenseNet121's penultimate features."""

from __future__ import annotations

import numpy as np
import torch

from cxr.classifier import Classifier
from cxr.images import resize


@torch.no_grad()
def features(net: Classifier, images: np.ndarray, size: int, batch: int = 64) -> np.ndarray:
    """uint8 N x S x S, brought to the classifier's `size` as `balance` does -> float32 N x 1024."""
    net.eval()
    head = net.net.classifier
    found = [np.zeros((0, head.in_features), np.float32)]
    # What goes into the last layer, so that the classifier's own normalisation stands before it.
    hook = head.register_forward_pre_hook(lambda _, given: found.append(given[0].float().cpu().numpy()))
    try:
        for start in range(0, len(images), batch):
            block = np.stack([resize(image, size) for image in images[start : start + batch]])
            net(torch.from_numpy(block).to(net.mean.device)[:, None].float() / 255)
    finally:
        hook.remove()
    return np.concatenate(found)
