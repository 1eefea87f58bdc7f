"""torchxrayvision's DenseNet121 as the start of the classifier. Of its outputs the head keeps those of findings that
CheXpert has; the others start at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from cxr.core.findings import SLUGS
from cxr.training import pretrained

if TYPE_CHECKING:
    from cxr.classifier.net import Classifier

RENAMED = {"effusion": "pleural_effusion"}


def adopt(net: Classifier, theirs: Mapping[str, torch.Tensor], targets: Sequence[str]) -> None:
    """Copy the weights of their DenseNet121. targets: the names of its outputs, '' where it has none.

    Raises ValueError for a net of another shape.
    """
    own, body = net.net.state_dict(), pretrained.three_channels(theirs)
    if any(name not in own or own[name].shape != value.shape for name, value in body.items()):
        raise ValueError("torchxrayvision's weights are of DenseNet121: set classifier.backbone to densenet121")
    net.net.load_state_dict(own | body)
    net.mean.copy_(torch.tensor(pretrained.XRV_MEAN).view(1, 3, 1, 1))
    net.std.copy_(torch.tensor(pretrained.XRV_STD).view(1, 3, 1, 1))
    if net.head.out_features != len(SLUGS):  # three outputs a finding, which it does not have
        return
    with torch.no_grad():
        for row, target in enumerate(targets):
            slug = target.lower().replace(" ", "_")
            slug = RENAMED.get(slug, slug)
            if slug in SLUGS:
                net.head.weight[SLUGS.index(slug)] = theirs["classifier.weight"][row]
                net.head.bias[SLUGS.index(slug)] = theirs["classifier.bias"][row]
