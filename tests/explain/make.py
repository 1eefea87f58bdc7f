"""Networks whose heat maps are known by hand."""

import torch
from torch import nn


class Bright(nn.Module):
    """Two feature maps of S/4 x S/4 cells, the image's brightness and darkness, pooled into three findings:

        finding 0   brightness
        finding 1   darkness
        finding 2   darkness less three times the brightness

    cells: bright and dark of an image are 4 x 4 means, so its values are those of hand-made images of blocks.
    """

    WEIGHTS = ((1.0, 0.0), (0.0, 1.0), (-3.0, 1.0))

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(1, 2, 1)
        conv.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        conv.bias.data = torch.tensor([0.0, 1.0])
        self.features = nn.Sequential(conv, nn.AvgPool2d(4), nn.ReLU(inplace=True))
        self.head = nn.Linear(2, 3, bias=False)
        self.head.weight.data = torch.tensor(self.WEIGHTS)

    def forward(self, x):
        return self.head(self.features(x).mean(dim=(2, 3)))


class Linear(nn.Module):
    """Logits that are linear in the pixels: finding k has the weights k S x S images."""

    def __init__(self, weights) -> None:
        super().__init__()
        self.head = nn.Linear(weights[0].size, len(weights))
        self.head.weight.data = torch.tensor(weights).float().flatten(1)

    def forward(self, x):
        return self.head(x.flatten(1))
