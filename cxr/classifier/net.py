"""Paper 1's classifier: DenseNet121 (Huang et al. 2017) with a sigmoid output per finding, from a gray X-ray, or
the same with another backbone.

Under U-MultiClass, where uncertain is a class of its own, it has three outputs per finding. cxr/classifier/train.py
trains it.

Shapes: N batch, S image size, K = 14 findings, O outputs: K, or 3K (per finding: negative, positive, uncertain).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxr.classifier import backbones, xrv
from cxr.core.findings import SLUGS, UNCERTAIN, columns_of
from cxr.training import pretrained, weights
from cxr.training.batches import Images, in_order
from cxr.training.machine import seeded
from cxr.training.wide import WideLinear

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SETTING = "classifier.weights"
UNIT_MEAN, UNIT_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Classifier(nn.Module):
    """Gray images N x 1 x S x S in [0, 1] -> N x O logits: the backbone on three equal, normalised channels.

    S: at least 32. classes: 2 gives one output per finding, 3 gives three. The paper's sigmoid layer is in the loss and
    in the prediction.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], classes: int = 2, backbone: str = "densenet121"
    ) -> None:
        super().__init__()
        self.net = backbones.build(backbone, len(SLUGS) * (3 if classes == 3 else 1))
        self.head_name = backbones.head_name(self.net)
        self.head.__class__ = WideLinear  # the same weights by the same names
        self.frozen = False
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, whose inputs are the features of an image."""
        return cast(nn.Linear, self.net.get_submodule(self.head_name))

    def freeze(self) -> None:
        """Train the head alone: the other weights and the statistics of batch normalisation stay as they are."""
        self.frozen = True
        self.requires_grad_(False)
        self.head.requires_grad_(True)

    def train(self, mode: bool = True) -> Classifier:
        return super().train(mode and not self.frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.expand(-1, 3, -1, -1).sub(self.mean).div_(self.std)  # a second large tensor costs more than the sums
        return self.net(x.contiguous(memory_format=torch.channels_last))


def build(start: str, seed: int, classes: int = 2, backbone: str = "densenet121") -> Classifier:
    """A classifier with the weights that `start` names: none, imagenet or another name of weights that torchvision or
    timm has of this backbone, xrv:<name> of torchxrayvision, or the path of an earlier model.safetensors.

    Others' weights come with their normalisation. Raises ValueError when the weights are missing or do not fit.
    """
    file, of_xrv = pretrained.is_file(start), start.startswith(pretrained.XRV)
    named = None
    if not file and not of_xrv and start != "none":
        named = _named(start, backbone)
    normalisation = (named.mean, named.std) if named else (UNIT_MEAN, UNIT_STD)
    with seeded(seed, 0):
        net = Classifier(*normalisation, classes, backbone)
    if named:
        _adopt(net, named.state, start, backbone)
    elif of_xrv:
        xrv.adopt(net, *pretrained.xrv(start, SETTING))
    elif file:
        if not Path(start).is_file():
            raise ValueError(f"{SETTING} = {start!r}: no such file")
        weights.load_into(net, start)
    return net.to(memory_format=torch.channels_last)


def _named(start: str, backbone: str) -> pretrained.Published:
    if backbone == backbones.SMALL:
        raise ValueError(f"{SETTING} = {start!r}: {backbone} has no such weights; set {SETTING} to none")
    return pretrained.published(backbone, start, SETTING)


def _adopt(net: Classifier, theirs: Mapping[str, torch.Tensor], start: str, backbone: str) -> None:
    """Copy others' weights of the same backbone, except for the head. Raises ValueError where one has another shape."""
    own = net.net.state_dict()
    body = {name: value for name, value in own.items() if not name.startswith(f"{net.head_name}.")}
    if wrong := [name for name, value in body.items() if name not in theirs or theirs[name].shape != value.shape]:
        raise ValueError(
            f"{SETTING} = {start!r}: these weights do not fit {backbone} ({wrong[0]}), most likely because they are "
            f"for images of another size; choose from {', '.join(pretrained.names_of(backbone))}"
        )
    net.net.load_state_dict(own | {name: theirs[name] for name in body})


@torch.no_grad()
def check_size(net: Classifier, size: int) -> None:
    """Raises ValueError where the backbone can't take images of this size: some take one size alone, others need a
    least one.
    """
    net.eval()
    try:
        net(torch.zeros(2, 1, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:100]
        raise ValueError(f"classifier.size = {size} does not fit classifier.backbone ({why}); try 224") from None


def classes_of(table: pd.DataFrame) -> int:
    """Classes per finding of a label table: 3 where it has the columns uncertain.<finding>, else 2.

    Raises ValueError when it has only some of these columns, or a label that is both uncertain and weighted.
    """
    held = [name for name in UNCERTAIN if name in table]
    if not held:
        return 2
    if lacking := [name for name in UNCERTAIN if name not in held]:
        raise ValueError(f"it has {held[0]} but not {lacking[0]}")
    uncertain, weight = columns_of(table, "uncertain"), columns_of(table, "weight")
    if not np.isin(uncertain, (0, 1)).all() or (uncertain * weight).any():
        raise ValueError("an uncertain.<finding> is not 1 or 0, or is 1 beside a weight")
    return 3


def targets_and_weights(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(target, weight) of a label table's rows, N x K float32 each. With three classes an uncertain label has target 2
    and weight 1.
    """
    target, weight = columns_of(table, "target"), columns_of(table, "weight")
    if classes_of(table) == 3:
        uncertain = columns_of(table, "uncertain") == 1
        target[uncertain], weight[uncertain] = 2, 1
    return target, weight


def probability(logits: torch.Tensor) -> torch.Tensor:
    """Logits N x O -> P(positive), N x K. Of three classes only positive and negative count (Irvin et al. 2019)."""
    if logits.shape[1] == 3 * len(SLUGS):
        negative, positive, _ = logits.float().view(-1, len(SLUGS), 3).unbind(2)
        return torch.sigmoid(positive - negative)  # softmax over the two
    return torch.sigmoid(logits.float())


@torch.no_grad()
def predict(
    fabric: Fabric, net: nn.Module, images: Images, batch: int = 64, after: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Scores in [0, 1], N x K float32, without augmentation. after: called after every batch."""
    net.eval()
    scores = np.empty((len(images), len(SLUGS)), np.float32)
    for chosen, x in in_order(images, batch):
        with fabric.autocast():
            logits = net(x)
        scores[chosen.numpy()] = probability(logits).cpu().numpy()
        after()
    return scores
