"""The best linear denoiser of the training images, which the net corrects.

For images x_0 ~ N(mu(y), C) with noise of standard deviation sigma, the best denoiser is Wiener's filter,
    D(x; sigma, y) = mu(y) + C (C + sigma^2 I)^-1 (x - mu(y)).
It is most of what a diffusion model learns at high noise (Wang and Vastola 2024), and it needs no training. Karras et
al. 2022 take C = s^2 I and mu = 0, where s is the standard deviation of all pixels: D is then their c_skip x, and the
root mean square of its error their c_out. Here
    mu(y) = m + B' (y - mean of y), by ridge regression on the conditions,
    C = V diag(l) V' on the first components of a principal component analysis, and what is left is stationary: its
    covariance is diagonal in the discrete cosine transform.
So a training starts from images with the training images' means, shapes and power at every frequency, and the net has
only to learn what is not Gaussian: edges, ribs, lesions. With `prior: scalar` it starts as Karras et al. do.

Shapes: N batch, S size, D = S^2, K condition, R components.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct
from torch import nn

from cxr.diffusion.settings import Settings
from cxr.training.batches import Images

MOST = 2000  # training images, at most, that the covariance is estimated from
RIDGE = 20.0  # added to the conditions' sums of squares


class Prior(nn.Module):
    """Noisy images N x 1 x S x S -> the best linear denoiser's images and the root mean square of its error.

    Its numbers are buffers, so that they lie among the net's weights. They are 0 until `estimate` or a weights file
    sets them.
    """

    def __init__(self, settings: Settings, conditions: int) -> None:
        super().__init__()
        size, components = settings.size, settings.components if settings.prior == "gaussian" else 0
        for name, shape in {
            "mean": (size**2,),
            "effect": (conditions, size**2),
            "condition": (conditions,),
            "basis": (components, size**2),
            "variance": (components,),
            "rest": (size, size),
        }.items():
            self.register_buffer(name, torch.zeros(shape))
        transform = torch.from_numpy(dct(np.eye(size), axis=0, norm="ortho")).float()
        self.register_buffer("transform", transform, persistent=False)

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor, y: torch.Tensor, given: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(D N x 1 x S x S, the error's root mean square N x 1 x 1 x 1). sigma: N; y: N x K; given: bool N, whether
        the condition is known.
        """
        noise = (sigma.float() ** 2)[:, None]
        mean = self.mean + ((y - self.condition) * given.to(y.dtype)[:, None]) @ self.effect
        gain, of_rest = self.variance / (self.variance + noise), self.rest / (self.rest + noise[:, :, None])
        denoised = self._scaled(x.float().flatten(1) - mean, gain, of_rest, mean)
        error = noise[:, 0] * (gain.sum(1) + of_rest.sum((1, 2))) / self.mean.numel()
        return denoised.view_as(x), error.sqrt().view(-1, 1, 1, 1)

    def draw(self, noise: torch.Tensor, sigma: float, y: torch.Tensor) -> torch.Tensor:
        """Images of the prior's own distribution with noise of sigma, N(mu(y), C + sigma^2 I), N x 1 x S x S, from
        standard normal noise of the same shape. Sampling arrives there at sigma if L is the best denoiser above it.
        """
        mean = self.mean + (y - self.condition) @ self.effect
        deviations = ((part + sigma**2).sqrt() for part in (self.variance, self.rest))
        return self._scaled(noise.flatten(1), *deviations, mean).view_as(noise)

    def _scaled(
        self, flat: torch.Tensor, along: torch.Tensor, of_rest: torch.Tensor, mean: torch.Tensor
    ) -> torch.Tensor:
        """mean, N x D, plus flat, N x D, with each component times `along`, R, and each frequency of what is left times
        `of_rest`, S x S; both may differ by image, with N before.
        """
        scores = flat @ self.basis.T
        left = (flat - scores @ self.basis).view(-1, *self.rest.shape)
        left = self.transform.T @ ((self.transform @ left @ self.transform.T) * of_rest) @ self.transform
        return mean + (scores * along) @ self.basis + left.flatten(1)

    @torch.no_grad()
    def estimate(self, images: Images, conditions: np.ndarray, spread: float) -> None:
        """Set the numbers from training images of standard deviation `spread` and their conditions, float32 N x K."""
        if not len(self.basis):
            self.rest.fill_(spread**2)
            return
        rows = np.sort(np.random.default_rng(0).permutation(len(images))[:MOST])
        parts = [images.gather(part).cpu().double() for part in torch.from_numpy(rows).split(256)]
        x = torch.cat(parts).flatten(1) / 127.5 - 1
        y = torch.from_numpy(conditions[rows]).double()
        mean, condition = x.mean(0), y.mean(0)
        x, y = x - mean, y - condition
        effect = torch.linalg.solve(y.T @ y + RIDGE * torch.eye(y.shape[1], dtype=y.dtype), y.T @ x)
        x = x - y @ effect
        basis, variance = principal(x, len(self.basis))
        left = (x - x @ basis.T @ basis).view(-1, *self.rest.shape)
        transform = self.transform.cpu().double()
        rest = (transform @ left @ transform.T).square().mean(0)
        for name, value in {
            "mean": mean, "effect": effect, "condition": condition, "basis": basis, "variance": variance, "rest": rest,
        }.items():  # fmt: skip
            getattr(self, name).copy_(value)


def principal(x: torch.Tensor, components: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(R principal components R x D of unit length, their variances R) of centred images x, N x D.

    Of fewer images than R + 1, the last components are 0. A component's largest entry is positive.
    """
    values, vectors = torch.linalg.eigh(x @ x.T / len(x))
    most = min(components, len(x) - 1)
    variance = values.flip(0)[:most].clamp(min=0)
    basis = vectors.flip(1)[:, :most].T @ x
    basis = basis / basis.norm(dim=1, keepdim=True).clamp(min=1e-12)
    basis = basis * basis.gather(1, basis.abs().argmax(1, keepdim=True)).sign()
    padded = x.new_zeros(components, x.shape[1]), x.new_zeros(components)
    padded[0][:most], padded[1][:most] = basis, variance
    return padded
