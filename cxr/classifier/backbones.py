"""The networks that the classifier can be built on: a small DenseNet, torchvision's image classifiers, and timm's.

Each reads images N x 3 x S x S and ends in one linear layer, the head, whose inputs are the features of an image.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import nn
from torchvision import models

from cxr.training.pretrained import TIMM, timm_library

SMALL = "densenet_small"  # DenseNet121's family, 0.08 million weights, which trains in a minute on a CPU at 64 px
# Without the second output that these train with.
OPTIONS = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


def build(backbone: str, outputs: int) -> nn.Module:
    """A network with this number of outputs and random weights.

    backbone: densenet_small, the name of one of torchvision's image classifiers, or timm:<name>. Raises ValueError for
    another name, where timm is not installed, and for a network of timm without a head of its own.
    """
    if backbone == SMALL:
        return models.DenseNet(12, (2, 4, 6, 4), 16, bn_size=2, num_classes=outputs)
    if backbone.startswith(TIMM):
        return _timm(backbone, outputs)
    names = [name for name in models.list_models(module=models) if not name.startswith("squeezenet")]  # no linear head
    if backbone not in names:
        raise ValueError(
            f"classifier.backbone = {backbone!r}: torchvision has no such model; near it: "
            f"{_near(backbone, [SMALL, *names], [SMALL, 'densenet121', 'resnet50'])}; timm's are called {TIMM}<name>"
        )
    return models.get_model(backbone, num_classes=outputs, **OPTIONS.get(backbone, {}))


def head_name(net: nn.Module) -> str:
    """The name of the head among the modules of a network that `build` made."""
    linear = {module: name for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    of_timm = getattr(net, "get_classifier", None)
    return linear[of_timm()] if of_timm else list(linear.values())[-1]


def _near(name: str, names: Sequence[str], usual: Sequence[str]) -> str:
    return ", ".join(difflib.get_close_matches(name, names, 3) or usual)


def _timm(backbone: str, outputs: int) -> nn.Module:
    timm, name = timm_library(f"classifier.backbone = {backbone!r}"), backbone.removeprefix(TIMM)
    plain, _, tag = name.partition(".")
    if tag:
        raise ValueError(
            f"classifier.backbone = {backbone!r}: write {TIMM}{plain}, and {tag} into classifier.weights, or none there"
        )
    if not timm.is_model(name):
        near = _near(name, timm.list_models(), ["resnet50", "convnext_tiny", "efficientnet_b0"])
        raise ValueError(f"classifier.backbone = {backbone!r}: timm has no such model; near it: {near}")
    net = timm.create_model(name, num_classes=outputs)
    head = net.get_classifier()
    if not isinstance(head, nn.Linear) or head.out_features != outputs:
        raise ValueError(f"classifier.backbone = {backbone!r}: it does not end in one linear layer: choose another")
    for module in net.modules():  # random depth, which this project's trainings don't know of and could not repeat
        if isinstance(module, timm.layers.DropPath):
            module.drop_prob = 0.0
    return net
