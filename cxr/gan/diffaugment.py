"""Differentiable augmentation of what the discriminator sees, real and generated alike (DiffAugment, Zhao et al. 2020),
so that it cannot learn a small data set by heart.

color: brightness, up to 0.5 more or less in the range [-1, 1], then contrast about the image's mean, by a factor of 0.5
to 1.5 (the paper's saturation does nothing to gray images). translation: whole pixels, up to an eighth of the size,
both ways. cutout: a square of half the size. What is uncovered or cut is 0, mid-gray, as in the authors' code.

Shapes: N batch, C channels, S size.
"""

from __future__ import annotations

import torch

DRAWN = ("brightness", "contrast", "shift", "corner")  # what `draw` gives


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


class Translated(torch.autograd.Function):
    """Images moved by whole pixels, shift N x 2, with 0 where nothing was.

    The gradient is moved back. A gather's own would be a sort of all pixels on a GPU, for it to be the same twice; a
    resample's is not the same twice.
    """

    @staticmethod
    def forward(ctx, images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(shift)
        n, channels, size, _ = images.shape
        place = torch.arange(size, device=images.device)
        rows, columns = (place - shift[:, k, None] for k in (0, 1))  # N x S: where each pixel comes from
        inside = ((rows >= 0) & (rows < size))[:, None, :, None] & ((columns >= 0) & (columns < size))[:, None, None, :]
        rows, columns = (at.clamp(0, size - 1) for at in (rows, columns))
        images = images.gather(2, rows[:, None, :, None].expand(n, channels, size, size))
        return images.gather(3, columns[:, None, None, :].expand(n, channels, size, size)) * inside

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (shift,) = ctx.saved_tensors
        return Translated.apply(gradient, -shift), None


def apply(images: torch.Tensor, drawn: dict[str, torch.Tensor], policy: tuple[str, ...]) -> torch.Tensor:
    """Images N x C x S x S in [-1, 1] -> the same, augmented as drawn; gradients flow through."""
    n, channels, size, _ = images.shape
    drawn = {name: values.to(images.device) for name, values in drawn.items()}  # in a training they are there already
    place = torch.arange(size, device=images.device)
    if "color" in policy:
        images = images + drawn["brightness"].view(n, 1, 1, 1)
        mean = images.mean((1, 2, 3), keepdim=True)
        images = (images - mean) * drawn["contrast"].view(n, 1, 1, 1) + mean
    if "translation" in policy:
        images = Translated.apply(images, drawn["shift"])
    if "cutout" in policy:
        far = drawn["corner"][:, :, None] + size // 2
        hit = (place >= drawn["corner"][:, :, None]) & (place < far)  # N x 2 x S
        images = images * ~(hit[:, 0, None, :, None] & hit[:, 1, None, None, :])
    return images
