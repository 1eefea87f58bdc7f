"""The DCGAN's nets (Radford et al. 2016; PyTorch's DCGAN example, which paper 1 adapted), at any power-of-two size from
16, and what they generate. cxr/gan/train.py trains them.

Generator: z ~ N(0, I), strided transposed convolutions 4 x 4, batch norm, ReLU, tanh. Discriminator: strided
convolutions 4 x 4, batch norm, LeakyReLU 0.2, one logit (the paper's sigmoid is inside the loss). Channels double from
`width` as the map halves; at 128 x 128, width 64, Z = 100, 3 channels, these are the paper's nets (12,786,560 and
11,164,416 weights; docs/papers.md).

Conditional nets (Mirza and Osindero 2014) get a label vector y of K numbers: the generator beside z, the discriminator
as K constant maps beside the image.
A projection discriminator (Miyato and Koyama 2018) takes the vector into its last layer instead.
Spectral normalisation (Miyato et al. 2018) divides each of the discriminator's weights, as a matrix of outputs x rest,
by its largest singular value. Batch norm, whose gains would undo that bound, then goes, and biases come in its place.
It also goes beside a penalty on the slope (R1, WGAN-GP): the slope is by one image, and batch norm makes a logit depend
on all images of the batch.
Initialisation: convolutions ~ N(0, 0.02), batch-norm gains ~ N(`gain`, 0.02), biases 0; the cited code's gain is 1, the
paper says N(0, 0.02) for all weights (E23).

Shapes: N batch, C channels, S size, Z latent, K labels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from cxr.training.machine import generator, seeded


def levels(size: int) -> int:
    """How many times the map doubles from 4 x 4 to size x size, less one. Raises ValueError unless size is 16, 32, 64,
    128, 256 or 512.
    """
    if size not in (16, 32, 64, 128, 256, 512):
        raise ValueError(f"gan.size = {size}: a DCGAN doubles 4 x 4 maps, so choose 16, 32, 64, 128, 256 or 512")
    return int(math.log2(size)) - 3


class Generator(nn.Sequential):
    """z, N x Z x 1 x 1 -> images N x C x S x S in (-1, 1)."""

    def __init__(self, size: int, z_dim: int, width: int, channels: int) -> None:
        wide = [width * 2**i for i in reversed(range(levels(size) + 1))]  # 128: 1024, 512, 256, 128, 64 for width 64
        layers: list[nn.Module] = [nn.ConvTranspose2d(z_dim, wide[0], 4, 1, 0, bias=False)]
        for before, after in zip(wide, wide[1:], strict=False):
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
            ]
        layers += [
            nn.BatchNorm2d(wide[-1]),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(wide[-1], channels, 4, 2, 1, bias=False),
            nn.Tanh(),
        ]
        super().__init__(*layers)


class Discriminator(nn.Sequential):
    """Images N x C x S x S in [-1, 1] -> logits N x 1 x 1 x 1; positive says real. No batch norm on the first layer
    (Radford et al.), none at all without `batch_norm`, where biases come in its place.
    """

    def __init__(self, size: int, width: int, channels: int, batch_norm: bool = True) -> None:
        wide = [width * 2**i for i in range(levels(size) + 1)]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, wide[0], 4, 2, 1, bias=not batch_norm),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for before, after in zip(wide, wide[1:], strict=False):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.Conv2d(wide[-1], 1, 4, 1, 0, bias=not batch_norm)]
        super().__init__(*layers)


class ProjectionDiscriminator(nn.Module):
    """Images N x C x S x S and conditions y, N x K -> logits N x 1 x 1 x 1,
        D(x, y) = psi(phi(x)) + <V y, phi(x)>        (Miyato and Koyama 2018).
    phi is the DCGAN's discriminator up to its last 4 x 4 maps, psi its last layer. phi(x) holds the maps whole, not
    their sum as in the authors' net: X-rays lie alike, and a finding has its place. V y is linear in y: with y = 0 the
    logit is of x alone.
    """

    def __init__(self, size: int, width: int, channels: int, conditions: int, batch_norm: bool = True) -> None:
        super().__init__()
        *phi, self.psi = Discriminator(size, width, channels, batch_norm)
        self.phi = nn.Sequential(*phi)
        self.v = nn.Conv2d(self.psi.in_channels, conditions, 4, bias=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        features = self.phi(x)
        return self.psi(features) + (self.v(features) * y[:, :, None, None]).sum(1, keepdim=True)


def initialise(net: nn.Module, gain: float) -> None:
    """Convolutions ~ N(0, 0.02), batch-norm gains ~ N(gain, 0.02) and biases 0, drawn from torch's global stream (see
    runtime.seeded).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, gain, 0.02)
            nn.init.zeros_(module.bias)


def build(
    size: int,
    z_dim: int,
    width: int,
    channels: int,
    seed: int,
    *,
    labels: int = 0,
    projection: bool = False,
    bounded: bool = False,
    batch_norm: bool = True,
    gain: float = 1.0,
) -> tuple[Generator, Discriminator | ProjectionDiscriminator]:
    """Generator and discriminator. labels: K of conditional nets; projection: the discriminator takes them into its
    last layer. bounded: spectral normalisation of the discriminator; batch_norm: its, where not bounded. gain: mean of
    the batch-norm gains.
    """
    batch_norm = batch_norm and not bounded
    with seeded(seed, 0):
        g = Generator(size, z_dim + labels, width, channels)
        if projection:
            d = ProjectionDiscriminator(size, width, channels, labels, batch_norm)
        else:
            d = Discriminator(size, width, channels + labels, batch_norm)
        initialise(g, gain)
        initialise(d, gain)
        g, d = (net.to(memory_format=torch.channels_last) for net in (g, d))
        if bounded:
            for module in list(d.modules()):
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)
    return g, d


def beside_noise(z: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
    """What a generator is given: z, N x Z x 1 x 1, and after it y, N x K, if there is one."""
    return z if y is None else torch.cat([z, y[:, :, None, None]], 1)


def beside_image(x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
    """What a discriminator is given: images N x C x S x S, and after them K constant maps of y, N x K, if there is
    one.
    """
    return x if y is None else torch.cat([x, y[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)


def to_gray(images: torch.Tensor) -> np.ndarray:
    """Generated N x C x S x S in (-1, 1) -> uint8 N x S x S; three channels are averaged (a generated X-ray may carry
    a tint).
    """
    gray = images.float().mean(1).add(1).mul(127.5).round().clamp(0, 255)
    return gray.to(torch.uint8).cpu().numpy()


@torch.no_grad()
def generate(
    net: nn.Module,
    n: int,
    z_dim: int,
    *key: int,
    device: torch.device | str,
    batch: int = 64,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """n images, uint8 n x S x S, from noise that depends on the key alone; of a conditional generator from `labels`, n
    x K, as well. Batch norm uses its running statistics.
    """
    net.eval()
    made = []
    for start in range(0, n, batch):
        # Each block has its own key: image i is the same however many are asked for.
        z = torch.randn(batch, z_dim, 1, 1, generator=generator(*key, start))[: n - start]
        y = None if labels is None else torch.tensor(labels[start : start + batch]).float()
        made.append(to_gray(net(beside_noise(z, y).to(device))))
    return np.concatenate(made) if made else np.zeros((0, 1, 1), np.uint8)
