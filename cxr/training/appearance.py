"""Random appearance of a batch's images: brightness, contrast and a cutout, beside the geometry of batches.affine.

The numbers are drawn on the CPU from a stream and applied on the device, so that no step waits for one.

Shapes: N images, S pixels a side.
"""

from __future__ import annotations

import torch

GREY = 0.5  # of a cutout


def appearance(n: int, stream: torch.Generator, *, jitter: float) -> torch.Tensor:
    """n x 4, float32: brightness in +-jitter, contrast in 1 +- jitter, centre x, y of the cutout in [0, 1].

    jitter: in [0, 1). Every call draws the same numbers, whatever the jitter.
    """
    bright, contrast, x, y = torch.rand(4, n, generator=stream)
    return torch.stack([jitter * (2 * bright - 1), 1 + jitter * (2 * contrast - 1), x, y], dim=1)


def altered(x: torch.Tensor, drawn: torch.Tensor, cutout: float) -> torch.Tensor:
    """x with the appearance that `appearance` drew: N x 1 x S x S in [0, 1] each.

    drawn: N x 4, on x's device. cutout: side of the square that becomes GREY, as a share of the image's; 0: none
    (DeVries & Taylor 2017, Improved regularization of convolutional neural networks with cutout).
    """
    bright, contrast, across, down = drawn[:, :, None, None, None].unbind(1)  # N x 1 x 1 x 1 each
    mean = x.mean((1, 2, 3), keepdim=True)
    x = ((x - mean) * contrast + mean + bright).clamp(0, 1)
    place = (torch.arange(x.shape[-1], device=x.device) + 0.5) / x.shape[-1]  # centres of the pixels
    hole = ((place[:, None] - down).abs() < cutout / 2) & ((place - across).abs() < cutout / 2)  # N x 1 x S x S
    return x.masked_fill(hole, GREY)
