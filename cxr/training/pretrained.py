"""Weights that others trained: torchvision's of ImageNet, and torchxrayvision's DenseNet121 of chest X-rays (Cohen et
al. 2022), with the normalisation that they were trained with.

torchxrayvision's network is torchvision's DenseNet121 with one channel and 18 outputs, of pixels from -1024 to 1024.
Three equal channels with a third of its first layer's weights each, and a normalisation that brings [0, 1] there, give
the same features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torchvision import models

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
XRV = "xrv:"  # before the name of torchxrayvision's weights
XRV_MODEL = "densenet121-res224-"
XRV_MEAN, XRV_STD = (0.5,) * 3, (0.5 / 1024,) * 3  # [0, 1] -> [-1024, 1024]
# End of the name of its weights -> the data sets that they were trained on
TRAINED_ON = {
    "nih": ("nih",), "rsna": ("rsna",), "pc": ("padchest",), "chex": ("chexpert",), "mimic_nb": ("mimic",),
    "mimic_ch": ("mimic",), "all": ("nih", "rsna", "padchest", "chexpert", "mimic"),
}  # fmt: skip


class Released(NamedTuple):
    """state: of a DenseNet121 with one channel, by its names; targets: of its outputs, '' where it has none."""

    state: Mapping[str, torch.Tensor]
    targets: Sequence[str]


def is_file(start: str) -> bool:
    """Whether a start is the path of an earlier training's weights, and no name."""
    return start.endswith(".safetensors")


def trained_on(start: str) -> tuple[str, ...]:
    """The data sets that the weights of this name have seen: none for other names, all for an unknown one of
    torchxrayvision. A file has no name (cxr/classifier/start.py).
    """
    if not start.startswith(XRV):
        return ()
    return TRAINED_ON.get(start.removeprefix(XRV).removeprefix(XRV_MODEL), TRAINED_ON["all"])


def unseen(dataset: str) -> list[str]:
    """The starts whose weights have not seen the data set."""
    return [XRV + XRV_MODEL + name for name, sets in TRAINED_ON.items() if dataset not in sets]


def imagenet(backbone: str, setting: str) -> dict[str, torch.Tensor]:
    """torchvision's weights of a backbone trained on ImageNet.

    setting: that asks for them, as it stands in params.yaml. Raises ValueError where they can't be fetched.
    """
    chosen = models.get_model_weights(backbone).IMAGENET1K_V1
    try:
        # The constructor also renames an old file's keys.
        return models.get_model(backbone, weights=chosen).state_dict()
    except OSError as error:
        name = chosen.url.rsplit("/", 1)[-1]
        raise ValueError(
            f"the ImageNet weights could not be fetched ({error}): put {name} from download.pytorch.org/models into "
            f"{torch.hub.get_dir()}/checkpoints, or train from scratch with -S {setting}=none"
        ) from None


def xrv(start: str, setting: str) -> Released:
    """The weights that `start` names, such as xrv:densenet121-res224-all.

    torchxrayvision fetches them from its release once and keeps them in its own folder. Its files are pickles, which
    run code when they are read. Raises ValueError for an unknown name, and where neither the library nor the file can
    be had.
    """
    name = start.removeprefix(XRV)
    if name.removeprefix(XRV_MODEL) not in TRAINED_ON or not name.startswith(XRV_MODEL):
        raise ValueError(f"{setting} = {start!r}: choose from {', '.join(XRV + XRV_MODEL + n for n in TRAINED_ON)}")
    try:
        from torchxrayvision import models as theirs
    except ImportError:
        raise ValueError(f"{setting} = {start!r} needs torchxrayvision: pip install torchxrayvision") from None
    try:
        net = theirs.DenseNet(weights=name)
    except OSError as error:
        url = theirs.model_urls[name]["weights_url"]
        raise ValueError(
            f"the weights {name} could not be fetched ({error}): put {url.rsplit('/', 1)[-1]} from {url} into "
            "~/.torchxrayvision/models_data"
        ) from None
    return Released(net.state_dict(), net.targets)


def three_channels(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The convolutional part of a DenseNet121 with one channel, for three equal ones."""
    body = {name: value for name, value in state.items() if name.startswith("features.")}
    first = "features.conv0.weight"
    return body | {first: body[first].repeat(1, 3, 1, 1) / 3}
