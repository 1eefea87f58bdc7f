"""SimCLR's two nets: an encoder of X-rays, whose outputs are the features, and a projection head for its training. In
the encoder's place a network that others trained.

A small residual net (He et al. 2016). Its stem has a stride of 2. Each further stage halves the maps, until their side
is at most SMALLEST.

Shapes: N images, S pixels a side, D features, P projected values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import densenet121
from torchvision.models.resnet import BasicBlock

from cxr.training import pretrained
from cxr.training.machine import seeded
from cxr.training.wide import WideLinear

SETTING = "encoder.weights"
SMALLEST = 5
MEAN, SPREAD = 0.5, 0.25  # roughly those of a radiograph's grey levels
GROWTH = 4  # most channels of a stage, as a multiple of the width


def stages_of(size: int) -> int:
    """The number of stages after the stem: 33 -> 3 (maps 17, 9, 5), 225 -> 6 (113, 57, 29, 15, 8, 4)."""
    side, stages = (size + 1) // 2, 1
    while side > SMALLEST:
        side, stages = (side + 1) // 2, stages + 1
    return stages


def _block(below: int, above: int, stride: int) -> BasicBlock:
    skip = nn.Sequential(nn.Conv2d(below, above, 1, stride, bias=False), nn.BatchNorm2d(above))
    return BasicBlock(below, above, stride, None if (below, stride) == (above, 1) else skip)


class Frozen(nn.Module):
    """N x 1 x S x S in [0, 1] -> N x 1,024: the pooled maps of a DenseNet121 that others trained, as it is.

    weights: imagenet, or xrv:<name> of torchxrayvision. Raises ValueError where they can't be had.
    """

    def __init__(self, weights: str) -> None:
        super().__init__()
        net = densenet121()
        if weights == "imagenet":
            state = pretrained.imagenet("densenet121", SETTING)
            mean, std = pretrained.IMAGENET_MEAN, pretrained.IMAGENET_STD
        else:
            state = pretrained.three_channels(pretrained.xrv(weights, SETTING).state)
            mean, std = pretrained.XRV_MEAN, pretrained.XRV_STD
        net.load_state_dict({name: state.get(name, value) for name, value in net.state_dict().items()})
        self.maps, self.features = net.features, net.classifier.in_features
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1).sub(self.mean).div_(self.std)
        return F.relu(self.maps(x.contiguous(memory_format=torch.channels_last))).mean((2, 3))


class Backbone(nn.Sequential):
    """N x 1 x S x S in [0, 1] -> N x D. width: channels of the finest maps."""

    def __init__(self, size: int, width: int) -> None:
        channels = [width * min(2**stage, GROWTH) for stage in range(stages_of(size) - 1)] + [GROWTH * width]
        stem = [nn.Conv2d(1, channels[0], 3, 2, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)]
        blocks = [_block(channels[0], channels[0], 1)]
        blocks += [_block(below, above, 2) for below, above in zip(channels, channels[1:], strict=False)]
        super().__init__(*stem, *blocks)
        self.features = channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - MEAN) / SPREAD).mean((2, 3))


class Contrastive(nn.Module):
    """The encoder f and the projection head g of Chen et al. 2020, section 2.1: g has one hidden layer."""

    def __init__(self, size: int, width: int, projected: int) -> None:
        super().__init__()
        self.backbone = Backbone(size, width)
        features = self.backbone.features
        hidden = nn.Linear(features, features), nn.BatchNorm1d(features), nn.ReLU(inplace=True)
        self.head = nn.Sequential(*hidden, WideLinear(features, projected))

    def forward(self, x: Tensor) -> Tensor:
        """N x 1 x S x S -> N x P, in the weights' precision."""
        return self.head(self.backbone(x))


def build(size: int, width: int, projected: int, seed: int) -> Contrastive:
    """Both nets, newly initialised."""
    with seeded(seed, 0):
        return Contrastive(size, width, projected).to(memory_format=torch.channels_last)


def nt_xent(projected: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The normalised temperature-scaled cross-entropy (Chen et al. 2020, eq. 1), in nats; the share of matched views.

    projected: 2N x P, of the first views of N images, then of their second views. Each view has to tell the other view
    of its image from the 2N - 2 views of other images by the cosine of what is projected. A view is matched where its
    own image's other view is the nearest. The loss of a net that tells nothing is ln(2N - 1).
    """
    z = F.normalize(projected, dim=1)
    n = len(z) // 2
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    similar = (z @ z.T / temperature).masked_fill(itself, -torch.inf)  # 2N x 2N
    other = (z[:n] * z[n:]).sum(1).repeat(2) / temperature  # of a view and its image's other view
    place = torch.arange(2 * n, device=z.device).roll(n)
    return (similar.logsumexp(1) - other).mean(), (similar.argmax(1) == place).float().mean()
