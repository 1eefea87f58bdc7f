"""Differentiable augmentation of what the discriminator sees, real and generated alike (DiffAugment, Zhao et al. 2020),
so that it cannot learn a small data set by heart.

color: brightness, up to 0.5 more or less in the range [-1, 1], then contrast about the image's mean, by a factor of 0.5
to 1.5 (the paper's saturation does nothing to gray images). translation: whole pixels, up to an eighth of the size,
both ways. cutout: a square of half the size. What is uncovered or cut is 0, mid-gray, as in the authors' code.

Shapes: N batch, C channels, S size.
"""

from __future__ import annotations

import torch


def draw(n: int, size: int, stream: torch.Generator) -> dict[str, torch.Tensor]:
    """The random numbers of n images, N each (shift and corner N x 2, in pixels). The same numbers are drawn whatever
    is switched on.
    """
    reach, side = size // 8, size // 2
    return {
        "brightness": torch.rand(n, generator=stream) - 0.5,
        "contrast": torch.rand(n, generator=stream) + 0.5,
        "shift": torch.randint(-reach, reach + 1, (n, 2), generator=stream),
        "corner": torch.randint(-(side // 2), size - side // 2 + 1, (n, 2), generator=stream),
    }


def apply(images: torch.Tensor, drawn: dict[str, torch.Tensor], policy: tuple[str, ...]) -> torch.Tensor:
    """Images N x C x S x S in [-1, 1] -> the same, augmented as drawn; gradients flow through."""
    n, channels, size, _ = images.shape
    drawn = {name: values.to(images.device) for name, values in drawn.items()}
    place = torch.arange(size, device=images.device)
    if "color" in policy:
        images = images + drawn["brightness"].view(n, 1, 1, 1)
        mean = images.mean((1, 2, 3), keepdim=True)
        images = (images - mean) * drawn["contrast"].view(n, 1, 1, 1) + mean
    if "translation" in policy:
        # By gather, whose gradient is deterministic on a GPU; a resample's is not.
        rows, columns = (place - drawn["shift"][:, k, None] for k in (0, 1))  # N x S: where each pixel comes from
        inside = ((rows >= 0) & (rows < size))[:, None, :, None] & ((columns >= 0) & (columns < size))[:, None, None, :]
        rows, columns = (at.clamp(0, size - 1) for at in (rows, columns))
        images = images.gather(2, rows[:, None, :, None].expand(n, channels, size, size))
        images = images.gather(3, columns[:, None, None, :].expand(n, channels, size, size)) * inside
    if "cutout" in policy:
        far = drawn["corner"][:, :, None] + size // 2
        hit = (place >= drawn["corner"][:, :, None]) & (place < far)  # N x 2 x S
        images = images * ~(hit[:, 0, None, :, None] & hit[:, 1, None, None, :])
    return images
