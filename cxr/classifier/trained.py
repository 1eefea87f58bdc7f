"""A trained classifier, opened again: its network, and the features that its last layer reads.

No training imports this file: an edit here starts none anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import nn

from cxr.classifier.formats import Model
from cxr.classifier.net import Classifier, build
from cxr.training.weights import load_into


def open_trained(folder: Path, meta: Model) -> Classifier:
    """The network that model.json describes (meta), with the folder's weights. Raises ValueError, naming the file."""
    net = build("none", 0, meta.classes, meta.backbone)
    load_into(net, folder / "model.safetensors")
    return net


@contextmanager
def layer_inputs(layer: nn.Linear) -> Iterator[list[np.ndarray]]:
    """What a layer reads in every call inside the block, float32 N x D each."""
    inputs: list[np.ndarray] = []
    hook = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].float().cpu().numpy()))
    try:
        yield inputs
    finally:
        hook.remove()
