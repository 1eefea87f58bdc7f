"""Weights that others trained: torchvision's and timm's of ImageNet and other photographs, and torchxrayvision's
DenseNet121 of chest X-rays (Cohen et al. 2022), with the normalisation that they were trained with.

torchxrayvision's network is torchvision's DenseNet121 with one channel and 18 outputs, of pixels from -1024 to 1024.
Three equal channels with a third of its first layer's weights each, and a normalisation that brings [0, 1] there, give
the same features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torchvision import models

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5,) * 3
OF_HALF = ("googlenet", "inception_v3")  # torchvision's own networks bring [0, 1] there (transform_input)
TIMM = "timm:"  # before the name of one of timm's networks
XRV = "xrv:"  # before the name of torchxrayvision's weights
XRV_MODEL = "densenet121-res224-"
XRV_MEAN, XRV_STD = (0.5,) * 3, (0.5 / 1024,) * 3  # [0, 1] -> [-1024, 1024]
# End of the name of its weights -> the data sets that they were trained on
TRAINED_ON = {
    "nih": ("nih",), "rsna": ("rsna",), "pc": ("padchest",), "chex": ("chexpert",), "mimic_nb": ("mimic",),
    "mimic_ch": ("mimic",), "all": ("nih", "rsna", "padchest", "chexpert", "mimic"),
}  # fmt: skip


class Published(NamedTuple):
    """state: of a network of images with three channels, by its own names; mean, std: of its pixels' normalisation."""

    state: Mapping[str, torch.Tensor]
    mean: Sequence[float]
    std: Sequence[float]


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


def names_of(backbone: str) -> list[str]:
    """The names of the weights that torchvision, or timm for timm:<name>, publishes of a backbone."""
    if not backbone.startswith(TIMM):
        return list(models.get_model_weights(backbone).__members__)
    name = backbone.removeprefix(TIMM)
    listed = timm_library(backbone).list_pretrained(f"{name}.*")
    return [tag for one, _, tag in (listed_one.partition(".") for listed_one in listed) if one == name]


def published(backbone: str, name: str, setting: str) -> Published:
    """Weights of a backbone by their name: torchvision's (IMAGENET1K_V2, DEFAULT, ...), for timm:<name> timm's
    (a1_in1k, ...), or imagenet: IMAGENET1K_V1, or what torchvision or timm have in its place.

    setting: that asks for them, as it stands in params.yaml. Raises ValueError, with the choices, for another name, and
    where the weights can't be fetched.
    """
    names = names_of(backbone)
    if name != "imagenet" and name not in names:
        raise ValueError(
            f"{setting} = {name!r}: {backbone} has none of this name; choose from "
            f"{', '.join(['none', 'imagenet', *names])}, {XRV}<name> or a .safetensors path"
        )
    if not names:
        raise ValueError(f"{setting} = {name!r}: nobody has published weights of {backbone}; set {setting} to none")
    return (_of_timm if backbone.startswith(TIMM) else _of_torchvision)(backbone, name, setting)


def _of_torchvision(backbone: str, name: str, setting: str) -> Published:
    known = models.get_model_weights(backbone)
    if name == "imagenet":
        smallest = min(known, key=lambda one: one.transforms.keywords["crop_size"])
        chosen = known.__members__.get("IMAGENET1K_V1", smallest)
    else:
        chosen = known[name]
    try:
        # The constructor also renames an old file's keys.
        state = models.get_model(backbone, weights=chosen).state_dict()
    except OSError as error:
        file = chosen.url.rsplit("/", 1)[-1]
        raise ValueError(
            f"the ImageNet weights could not be fetched ({error}): put {file} from download.pytorch.org/models into "
            f"{torch.hub.get_dir()}/checkpoints, or train from scratch with -S {setting}=none"
        ) from None
    mean, std = (HALF, HALF) if backbone in OF_HALF else (IMAGENET_MEAN, IMAGENET_STD)
    return Published(state, mean, std)


def _of_timm(backbone: str, name: str, setting: str) -> Published:
    timm, plain = timm_library(f"{setting} = {name!r}"), backbone.removeprefix(TIMM)
    whole = plain if name == "imagenet" else f"{plain}.{name}"
    try:
        net = timm.create_model(whole, pretrained=True)
    except Exception as error:  # the hub's library and its HTTP client raise many types
        repository = timm.get_pretrained_cfg(whole).hf_hub_id
        raise ValueError(
            f"the weights {whole} could not be fetched ({type(error).__name__}: {' '.join(str(error).split())[:200]}): "
            f"fetch them where there is a network with `hf download {repository}`, copy the folder "
            f"~/.cache/huggingface here, or train from scratch with -S {setting}=none"
        ) from None
    return Published(net.state_dict(), net.pretrained_cfg["mean"], net.pretrained_cfg["std"])


def timm_library(what: str) -> Any:
    """The module timm. what: asks for it, for the message. Raises ValueError where it is not installed."""
    try:
        import timm
    except ImportError:
        raise ValueError(f"{what} needs timm: pip install 'cxr[timm]'") from None
    return timm


def imagenet(backbone: str, setting: str) -> Mapping[str, torch.Tensor]:
    """torchvision's weights of a backbone trained on ImageNet. Raises ValueError as `published` does."""
    return published(backbone, "imagenet", setting).state


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
