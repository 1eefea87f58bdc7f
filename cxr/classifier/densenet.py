"""DenseNet121 (Huang et al. 2017, Densely Connected Convolutional Networks, table 1, growth rate 32), the classifier of
paper 1.

Modules carry torchvision's names, so that its ImageNet weights load as they are; a test compares the two nets output
for output.
Shapes: N batch, C channels, K findings.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

GROWTH = 32
BLOCKS = (6, 12, 24, 16)
STEM = 64
BOTTLENECK = 4


class DenseLayer(nn.Module):
    """BN-ReLU-Conv1x1-BN-ReLU-Conv3x3 (the bottleneck form, DenseNet-B): C -> GROWTH new channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, BOTTLENECK * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * GROWTH)
        self.conv2 = nn.Conv2d(BOTTLENECK * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(F.relu(self.norm1(x), inplace=True))
        return self.conv2(F.relu(self.norm2(x), inplace=True))


class DenseBlock(nn.ModuleDict):
    """Each layer sees the concatenation of everything before it."""

    def __init__(self, layers: int, channels: int) -> None:
        super().__init__({f"denselayer{i + 1}": DenseLayer(channels + i * GROWTH) for i in range(layers)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Sequential):
    """Halves the channels (DenseNet-C) and the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)


class DenseNet121(nn.Module):
    """N x 3 x H x W (H, W at least 32) -> N x K logits; the paper's sigmoid layer is in the loss and in the
    prediction.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, STEM, 7, stride=2, padding=3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(STEM))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        self.features.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        channels = STEM
        for i, layers in enumerate(BLOCKS):
            self.features.add_module(f"denseblock{i + 1}", DenseBlock(layers, channels))
            channels += layers * GROWTH
            if i + 1 < len(BLOCKS):
                self.features.add_module(f"transition{i + 1}", Transition(channels))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """The penultimate features, N x 1024."""
        return F.relu(self.features(x), inplace=True).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.embed(x))
