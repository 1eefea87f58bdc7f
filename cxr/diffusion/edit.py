"""A finding drawn into a real X-ray by a diffusion model, the rest of which stays.

Where: the two denoised images of an X-ray with noise, under its own condition and under the one with the finding,
differ where the model would draw the finding (DiffEdit, Couairon et al. 2022, section 3.2). The mask m is the mean of
|difference| over some noise draws, blurred, as a share of its largest value, through a threshold with a slope.
What: from the X-ray with noise of the same level (SDEdit, Meng et al. 2022) the solver goes down under the new
condition. Where m is 0, each step puts the X-ray back, with the noise of that step's level. At the end the image is
m x + (1 - m) source, so that its background is the real patient's to the grey level.

Shapes: N batch, S size, K condition.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torchvision.transforms.v2.functional import gaussian_blur

from cxr.diffusion.net import BLOCK, denoise, grey_levels, solve
from cxr.diffusion.settings import Edit, Settings
from cxr.training.machine import generator

SLOPE = 0.2  # width of the soft threshold: m rises from 0 to 1 over it


class Conditions(NamedTuple):
    """own: of the X-rays as they are; asked: with the finding, which the mask is of; target: what the edit shows, own
    or asked. Each N x K, float32, as arrays or as tensors.
    """

    own: np.ndarray | torch.Tensor
    asked: np.ndarray | torch.Tensor
    target: np.ndarray | torch.Tensor


def mask(
    net: nn.Module, x: torch.Tensor, own: torch.Tensor, asked: torch.Tensor, noises: torch.Tensor, how: Edit,
    spread: float,
) -> torch.Tensor:  # fmt: skip
    """m, N x 1 x S x S in [0, 1]. x: X-rays N x 1 x S x S in [-1, 1]. noises: standard normal, draws x the shape of x.

    Where the two conditions make no difference at all, m is 0.
    """
    sigma = torch.full((len(x),), how.noise, device=x.device)
    yes = torch.ones(len(x), dtype=torch.bool, device=x.device)
    difference = torch.zeros_like(x)
    for noise in noises:
        one, other = (denoise(net, x + how.noise * noise, sigma, y, yes, spread).denoised for y in (asked, own))
        difference += (one - other).abs()
    width = how.smooth * x.shape[-1]
    smooth = gaussian_blur(difference, [2 * math.ceil(3 * width) + 1] * 2, [width] * 2)
    share = smooth / smooth.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return ((share - how.threshold) / SLOPE + 0.5).clamp(0, 1)


def edit_block(
    net: nn.Module, x: torch.Tensor, y: Conditions, noises: torch.Tensor, settings: Settings, how: Edit, spread: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(edits, their masks), N x 1 x S x S. noises: as of `mask`, and one more, from which the edit starts."""
    m = mask(net, x, y.own, y.asked, noises[1:], how, spread)
    noise, reached = noises[0], settings.model_copy(update={"sigma_max": how.noise})

    def keep(now: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return m * now + (1 - m) * (x + level * noise)

    return solve(net, noise, y.target, reached, spread, x + how.noise * noise, keep), m


@torch.no_grad()
def edit(
    net: nn.Module,
    sources: np.ndarray,
    conditions: Conditions,
    settings: Settings,
    how: Edit,
    spread: float,
    *key: int,
    device: torch.device | str,
) -> tuple[np.ndarray, np.ndarray]:
    """(edits uint8 N x S x S, the share of each that its mask covers N) of sources, uint8 N x S x S.

    The noise depends on the key and an image's place alone.
    """
    net.eval()
    made, shares = [np.zeros((0, settings.size, settings.size), np.uint8)], [np.zeros(0, np.float32)]
    for start in range(0, len(sources), BLOCK):
        x = torch.from_numpy(np.array(sources[start : start + BLOCK]))[:, None].to(device) / 127.5 - 1
        y = Conditions(*(torch.from_numpy(np.array(part[start : start + BLOCK])).to(device) for part in conditions))
        noises = torch.randn(
            how.draws + 1, BLOCK, 1, settings.size, settings.size, generator=generator(*key, start)
        )[:, : len(x)].to(device)  # fmt: skip
        edited, m = edit_block(net, x, y, noises, settings, how, spread)
        made.append(grey_levels(edited))
        shares.append(m.mean((1, 2, 3)).cpu().numpy())
    return np.concatenate(made), np.concatenate(shares)
