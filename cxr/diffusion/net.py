"""The denoiser of Karras et al. 2022 around the UNet of diffusers, and its deterministic sampler.

The net F sees the noisy image x = x_0 + sigma n, its noise level and the condition y. The denoiser is (their eq. 7)
    D(x; sigma, y) = L(x; sigma, y) + c_out F(c_in x, L; c_noise, y),
    c_in = 1 / sqrt(sigma^2 + s^2), c_noise = ln(sigma) / 4,
with s the standard deviation of the images, L the best linear denoiser (cxr/diffusion/prior.py), and c_out the root
mean square of its error. Theirs is L = c_skip x, c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2).
F works on squares of patch x patch pixels as channels: the finest maps, which cost the most, have S / patch a side.
F is also given by how much a training image was rotated and shifted, and 0 in sampling, so that the augmentation does
not show in what it makes (their appendix F.2).

Shapes: N batch, S size, K condition.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cxr.diffusion.prior import Prior
from cxr.diffusion.settings import Settings
from cxr.training.machine import generator, seeded

GROUPS = 8  # of the group normalisations
ATTENDED = 8  # maps of this many pixels a side, and smaller ones, have attention
MOVED = 10.0  # times which a geometry's difference from the identity is an input of about 1
BLOCK = 64  # images that are sampled at a time: image i is the same however many are asked for


def library() -> ModuleType:
    """The library diffusers, which is an extra. Raises ValueError, with the cure, where it is missing."""
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise ValueError(
            f"the diffusion model needs the library diffusers ({error}): `pip install 'cxr[diffusion]'`"
        ) from None


def layout() -> torch.memory_format:
    """Of weights and maps in memory. A CPU's convolutions are faster with the channels last. On a GPU group norm copies
    such maps, and a step takes 1.4 times as long (docs/benchmarks.md).
    """
    return torch.contiguous_format if torch.cuda.is_available() else torch.channels_last


class Denoiser(nn.Module):
    """Noisy images N x 1 x S x S, sigma N, y N x K -> F's output, N x 1 x S x S."""

    def __init__(self, settings: Settings, conditions: int) -> None:
        super().__init__()
        s = settings
        side = s.size // s.patch
        if side % 2 ** (s.levels - 1):
            raise ValueError(
                f"diffusion.levels = {s.levels}: maps of {side} pixels can't be halved {s.levels - 1} times; "
                "choose fewer levels, or a smaller diffusion.patch"
            )
        self.patch, self.prior, embedded = s.patch, Prior(s, conditions), 4 * s.width
        attended = [side / 2**level <= ATTENDED for level in range(s.levels)]
        self.unet = library().UNet2DModel(
            sample_size=side,
            in_channels=2 * s.patch**2,
            out_channels=s.patch**2,
            layers_per_block=s.blocks,
            block_out_channels=[s.width * min(2, 2**level) for level in range(s.levels)],
            down_block_types=["AttnDownBlock2D" if here else "DownBlock2D" for here in attended],
            up_block_types=["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attended)],
            class_embed_type="identity",
            resnet_time_scale_shift="scale_shift",
            norm_num_groups=GROUPS,
            attention_head_dim=s.width,
        )
        inputs = conditions + 1 + 6
        self.condition = nn.Sequential(nn.Linear(inputs, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
        nn.init.zeros_(self.unet.conv_out.weight)  # F starts at 0, as in Karras et al.
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(
        self,
        x: torch.Tensor,
        linear: torch.Tensor,
        sigma: torch.Tensor,
        y: torch.Tensor,
        given: torch.Tensor,
        geometry: torch.Tensor | None,
    ) -> torch.Tensor:
        """x: N x 1 x S x S, scaled by c_in. linear: L, like x. given: bool N, whether the net sees the condition.
        geometry: the training images' augmentation, N x 2 x 3 as in cxr/training/batches.py; None: none.
        """
        seen = given.to(y.dtype)[:, None]
        moved = y.new_zeros(len(y), 6)
        if geometry is not None:
            moved = MOVED * (geometry - torch.eye(2, 3, device=y.device)).flatten(1)
        label = self.condition(torch.cat([y * seen, seen, moved], 1))
        maps = F.pixel_unshuffle(torch.cat([x, linear], 1), self.patch).contiguous(memory_format=layout())
        (out,) = self.unet(maps, sigma.log() / 4, class_labels=label, return_dict=False)
        return F.pixel_shuffle(out, self.patch)


def build(settings: Settings, conditions: int) -> Denoiser:
    """The denoiser with its initial weights, which depend on the seed alone, and a prior that is not estimated."""
    with seeded(settings.seed, 0):
        net = Denoiser(settings, conditions)
    return net.to(memory_format=layout())


class Output(NamedTuple):
    """F's output, and L and c_out, which make D = L + c_out F of it.

    f and linear: N x 1 x S x S, c_out: N x 1 x 1 x 1.
    """

    f: torch.Tensor
    linear: torch.Tensor
    c_out: torch.Tensor

    @property
    def denoised(self) -> torch.Tensor:
        return self.linear + self.c_out * self.f


def denoise(
    net: nn.Module,
    x: torch.Tensor,
    sigma: torch.Tensor,
    y: torch.Tensor,
    given: torch.Tensor,
    spread: float,
    geometry: torch.Tensor | None = None,
) -> Output:
    """Denoise x, N x 1 x S x S, of noise levels sigma, N. net: the denoiser, perhaps as Fabric wraps it."""
    linear, c_out = net.prior(x, sigma, y, given)
    c_in = (sigma**2 + spread**2).rsqrt().view(-1, 1, 1, 1)
    return Output(net(c_in * x, linear, sigma, y, given, geometry).float(), linear, c_out)


@torch.no_grad()
def sample(
    net: nn.Module, conditions: np.ndarray, settings: Settings, spread: float, *key: int, device: torch.device | str
) -> np.ndarray:
    """An X-ray for each condition, N x K -> uint8 N x S x S; its noise depends on the key and its place alone.

    DPM-Solver++ of second order (Lu et al. 2022) over the noise levels of Karras et al., deterministic. With guidance w
    the net's output is F(no condition) + w (F(condition) - F(no condition)) (Ho and Salimans 2022).
    """
    net.eval()
    made = []
    for start in range(0, len(conditions), BLOCK):
        noise = torch.randn(BLOCK, 1, settings.size, settings.size, generator=generator(*key, start))
        y = torch.as_tensor(conditions[start : start + BLOCK], dtype=torch.float32)
        x = solve(net, noise[: len(y)].to(device), y.to(device), settings, spread)
        made.append(grey_levels(x))
    return np.concatenate(made) if made else np.zeros((0, settings.size, settings.size), np.uint8)


def grey_levels(x: torch.Tensor) -> np.ndarray:
    """Images N x 1 x S x S in about [-1, 1] -> uint8 N x S x S."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)[:, 0].cpu().numpy()


def solve(
    net: nn.Module,
    noise: torch.Tensor,
    y: torch.Tensor,
    settings: Settings,
    spread: float,
    start: torch.Tensor | None = None,
    after: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = lambda x, level: x,
) -> torch.Tensor:
    """Standard normal noise N x 1 x S x S -> images in about [-1, 1].

    The noise levels fall from sigma_max, where the images are drawn from the prior's own distribution: above it the net
    has nothing to correct. From sigma_min, the last level, one step clears them: the net has seen few images with less
    noise, and what it would add there is grain. start: the images to start from, in place of the prior's. after: what
    becomes of the images after each step, from them and their noise level, which ends at 0.
    """
    scheduler = library().EDMDPMSolverMultistepScheduler(
        sigma_data=spread, sigma_max=settings.sigma_max, sigma_min=settings.sigma_min
    )
    scheduler.set_timesteps(settings.sampler_steps)
    yes = torch.ones(len(noise), dtype=torch.bool, device=noise.device)
    x = net.prior.draw(noise, settings.sigma_max, y) if start is None else start
    for t, level, below in zip(scheduler.timesteps, scheduler.sigmas, scheduler.sigmas[1:], strict=False):
        level = level.to(x)
        sigma = level.expand(len(x))
        clean = denoise(net, x, sigma, y, yes, spread).denoised
        if settings.guidance != 1:
            without = denoise(net, x, sigma, y, ~yes, spread).denoised
            clean = without + settings.guidance * (clean - without)
        # The scheduler makes D = c_skip x + c_out F of the F that it is given, with the c_skip and c_out of the paper.
        total = level**2 + spread**2
        f = (clean - spread**2 / total * x) * total.sqrt() / (level * spread)
        x = after(scheduler.step(f, t, x, return_dict=False)[0], below.to(x))
    return x
