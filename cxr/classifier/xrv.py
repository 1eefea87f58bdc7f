"""Initial weights of torchxrayvision (Cohen et al. 2022): its DenseNet121 of gray chest X-rays, trained on public data
sets, as the start of the classifier.

Its network is torchvision's DenseNet121 with one channel and 18 outputs, of pixels from -1024 to 1024. Three equal
channels with a third of its first layer's weights each, and a normalisation that brings [0, 1] there, give the same
features. Of its outputs the head keeps those of findings that CheXpert has; the others start at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from cxr.core.findings import SLUGS

if TYPE_CHECKING:
    from cxr.classifier.net import Classifier

PREFIX = "xrv:"
MODEL = "densenet121-res224-"
SIZE = 224  # pixels a side, of the images it was trained on
# End of the name of its weights -> the data sets that they were trained on
TRAINED_ON = {
    "nih": ("nih",), "rsna": ("rsna",), "pc": ("padchest",), "chex": ("chexpert",), "mimic_nb": ("mimic",),
    "mimic_ch": ("mimic",), "all": ("nih", "rsna", "padchest", "chexpert", "mimic"),
}  # fmt: skip
MEAN, STD = (0.5,) * 3, (0.5 / 1024,) * 3  # [0, 1] -> [-1024, 1024]
RENAMED = {"effusion": "pleural_effusion"}


def trained_on(start: str) -> tuple[str, ...]:
    """The data sets that a start's weights have seen: none for other starts, all for a name that is unknown."""
    if not start.startswith(PREFIX):
        return ()
    return TRAINED_ON.get(start.removeprefix(PREFIX).removeprefix(MODEL), TRAINED_ON["all"])


def load(net: Classifier, start: str) -> None:
    """Give a DenseNet121 the weights that `start` names, such as xrv:densenet121-res224-all.

    torchxrayvision fetches them from its release once and keeps them in its own folder. Its files are pickles, which
    run code when they are read. Raises ValueError for an unknown name, for another backbone, and where neither the
    library nor the file can be had.
    """
    name = start.removeprefix(PREFIX)
    if name.removeprefix(MODEL) not in TRAINED_ON or not name.startswith(MODEL):
        raise ValueError(
            f"classifier.weights = {start!r}: choose from {', '.join(PREFIX + MODEL + n for n in TRAINED_ON)}"
        )
    try:
        from torchxrayvision import models
    except ImportError:
        raise ValueError(f"classifier.weights = {start!r} needs torchxrayvision: pip install torchxrayvision") from None
    try:
        theirs = models.DenseNet(weights=name)
    except OSError as error:
        url = models.model_urls[name]["weights_url"]
        raise ValueError(
            f"the weights {name} could not be fetched ({error}): put {url.rsplit('/', 1)[-1]} from {url} into "
            "~/.torchxrayvision/models_data"
        ) from None
    adopt(net, theirs.state_dict(), theirs.targets)


def adopt(net: Classifier, theirs: Mapping[str, torch.Tensor], targets: Sequence[str]) -> None:
    """Copy the weights of their DenseNet121. targets: the names of its outputs, '' where it has none.

    Raises ValueError for a net of another shape.
    """
    own = net.net.state_dict()
    body = {name: value for name, value in theirs.items() if name.startswith("features.")}
    first = "features.conv0.weight"
    body[first] = body[first].repeat(1, 3, 1, 1) / 3
    if any(name not in own or own[name].shape != value.shape for name, value in body.items()):
        raise ValueError("torchxrayvision's weights are of DenseNet121: set classifier.backbone to densenet121")
    net.net.load_state_dict(own | body)
    net.mean.copy_(torch.tensor(MEAN).view(1, 3, 1, 1))
    net.std.copy_(torch.tensor(STD).view(1, 3, 1, 1))
    if net.head.out_features != len(SLUGS):  # three outputs a finding, which it does not have
        return
    with torch.no_grad():
        for row, target in enumerate(targets):
            slug = target.lower().replace(" ", "_")
            slug = RENAMED.get(slug, slug)
            if slug in SLUGS:
                net.head.weight[SLUGS.index(slug)] = theirs["classifier.weight"][row]
                net.head.bias[SLUGS.index(slug)] = theirs["classifier.bias"][row]


def check(start: str, dataset: str, official: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError where the start's weights have seen validation or test images of the data set.

    official: part of the split -> the data set's own parts that its images are of. torchxrayvision trained on parts of
    CheXpert's train.csv, and on neither of its official parts.
    """
    if dataset not in trained_on(start):
        return
    seen = [part for part in ("valid", "test") if "train" in official.get(part, ())]
    if seen:
        others = [PREFIX + MODEL + name for name, sets in TRAINED_ON.items() if dataset not in sets]
        raise ValueError(
            f"classifier.weights = {start}: these weights were trained on images of {dataset}'s train.csv, from which "
            f"this split draws its {' and '.join(seen)} images: choose {others[0]}, or set "
            + " and ".join(f"split.{part}" for part in seen)
            + " to official"
        )
