"""A trained classifier, opened again: its network, and the features that its last layer reads.

No training imports this file: an edit here starts none anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxr.classifier.formats import Model
from cxr.classifier.net import Classifier, build, predict
from cxr.core.files import read_json
from cxr.core.resize import resize
from cxr.core.store import open_store
from cxr.training.batches import Images
from cxr.training.machine import fabric
from cxr.training.weights import load_into


def open_trained(folder: Path, meta: Model) -> Classifier:
    """The network that model.json describes (meta), with the folder's weights. Raises ValueError, naming the file."""
    net = build("none", 0, meta.classes, meta.backbone)
    load_into(net, folder / "model.safetensors")
    return net


def read_model(folder: Path, stage: str, split_sha256: str) -> Model:
    """model.json of a trained classifier. stage: the one that trained it. Raises ValueError, with the cure, where its
    split is another one.
    """
    meta = read_json(folder / "model.json", stage, Model)
    if meta.split_sha256 != split_sha256:
        raise ValueError(f"{folder}: was trained on another split; `dvc repro -f {stage}` makes it again")
    return meta


def scores(folder: Path, meta: Model, stores: Path, image_ids: pd.Series) -> np.ndarray:
    """The probabilities, float32 N x 14, that a trained classifier gives to real images. stores: folder of the stores,
    one for each size.
    """
    machine = fabric("32-true")
    net = open_trained(folder, meta).to(machine.device)
    return predict(machine, net, Images([open_store(stores / str(meta.size))], image_ids, machine.device))


def inputs(images: np.ndarray, size: int, device: torch.device) -> torch.Tensor:
    """uint8 N x S x S, resized as `balance` does -> what a network of this size reads, float32 N x 1 x size x size in
    [0, 1].
    """
    block = np.stack([resize(image, size) for image in images])
    return torch.from_numpy(block).to(device)[:, None].float() / 255


@contextmanager
def layer_inputs(layer: nn.Linear) -> Iterator[list[np.ndarray]]:
    """What a layer reads in every call inside the block, float32 N x D each."""
    read: list[np.ndarray] = []
    hook = layer.register_forward_pre_hook(lambda _, given: read.append(given[0].float().cpu().numpy()))
    try:
        yield read
    finally:
        hook.remove()
