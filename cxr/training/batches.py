"""From packed stores to augmented batches on the training device.

Images stay uint8 until they are on the device. All geometry of a batch (crop, flip, rotation, scale, shift, resize) is
one affine matrix per image and one resample. What a batch holds depends only on the key it is asked with, such as
(seed, epoch, step): never on the number of workers, and never on the batches before it.

Shapes: N batch, H x W stored size, S the network's size.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from cxr.core.store import Store
from cxr.training.machine import generator


class Values(Protocol):
    """What `in_order` reads: images, or what stands for them."""

    def __len__(self) -> int: ...

    def values(self, chosen: torch.Tensor) -> torch.Tensor: ...


class Images:
    """The chosen images of one or more stores of the same size, in the order of `image_ids`.

    On a CPU they are gathered from the memory map, so that memory does not grow with the cohort; on a GPU with room for
    them they are copied there once, as uint8.
    Raises ValueError for an image that no store holds, or for stores of different sizes.
    """

    def __init__(self, stores: Sequence[Store], image_ids: Sequence[str], device: torch.device | str = "cpu") -> None:
        sizes = {store.size for store in stores}
        if len(sizes) != 1:
            raise ValueError(f"the image stores differ in size: {sorted(sizes)}; make them again with one size")
        self.device = torch.device(device)
        self.stores = list(stores)
        self.size = sizes.pop()
        ids = np.asarray(image_ids, dtype=object)
        where = np.full(len(ids), -1)
        rows = np.zeros(len(ids), np.int64)
        for number, store in enumerate(self.stores):
            # By hash: np.isin compares every pair of objects, a quarter of an hour for CheXpert.
            places = pd.Index(store.index["image_id"]).get_indexer(pd.Index(ids))
            in_store = (places >= 0) & (where < 0)
            where[in_store] = number
            rows[in_store] = places[in_store]
        if (where < 0).any():
            raise ValueError(
                f"{(where < 0).sum()} images are in no store, the first is {ids[where < 0][0]!r}; run resize again"
            )
        self.where, self.rows = where, rows
        self.resident: torch.Tensor | None = None
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if len(rows) * self.size**2 < free // 2:
                self.resident = self._fill_device()

    def __len__(self) -> int:
        return len(self.rows)

    def _fill_device(self) -> torch.Tensor:
        whole = torch.empty((len(self), 1, self.size, self.size), dtype=torch.uint8, device=self.device)
        for start in range(0, len(self), 4096):
            chosen = np.arange(start, min(start + 4096, len(self)))
            whole[start : start + len(chosen)] = torch.from_numpy(self._read(chosen))
        return whole

    def _read(self, chosen: np.ndarray) -> np.ndarray:
        images = np.empty((len(chosen), 1, self.size, self.size), np.uint8)
        for number, store in enumerate(self.stores):
            places = np.flatnonzero(self.where[chosen] == number)
            images[places, 0] = store.images[self.rows[chosen[places]]]
        return images

    def drawn(self, chosen: torch.Tensor) -> torch.Tensor:
        """What a step's batch holds of images by their place in `image_ids`, int64 N, on the CPU: the places where the
        images are on the device, else the images. `pixels` takes it.
        """
        return chosen if self.resident is not None else torch.from_numpy(self._read(chosen.cpu().numpy()))

    def pixels(self, drawn: torch.Tensor) -> torch.Tensor:
        """What `drawn` gave -> uint8 N x 1 x H x W on the device."""
        if self.resident is not None:
            return self.resident[drawn.to(self.device)]
        return drawn.to(self.device)

    def gather(self, chosen: torch.Tensor) -> torch.Tensor:
        """Images by their place in `image_ids`: int64 N -> uint8 N x 1 x H x W on the device."""
        drawn = self.drawn(chosen)
        if self.resident is None and self.device.type == "cuda":
            return drawn.pin_memory().to(self.device, non_blocking=True)
        return self.pixels(drawn)

    def values(self, chosen: torch.Tensor) -> torch.Tensor:
        """Images by their place, int64 N, without augmentation -> float32 N x 1 x H x W in [0, 1] on the device."""
        return self.gather(chosen).to(torch.float32) / 255


@functools.lru_cache(maxsize=8)
def order(n: int, *key: int) -> torch.Tensor:
    """A permutation of range(n), int64, that depends on the key alone; not to be written to. The last few are kept: a
    step that asks for its part of one does not pay for all of it.
    """
    return torch.randperm(n, generator=generator(*key))


def cycled(n: int, batch: int, step: int, *key: int) -> torch.Tensor:
    """Batch number `step`, over all epochs, of n things cycled endlessly, in a new order at each pass: int64."""
    first, last = step * batch // n, ((step + 1) * batch - 1) // n
    passes = torch.cat([order(n, *key, number) for number in range(first, last + 1)])
    return passes[step * batch - first * n :][:batch]


def affine(
    n: int,
    stream: torch.Generator,
    *,
    flip: float = 0.0,
    rotate: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    shift: float = 0.0,
    crop: tuple[float, float] = (1.0, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> torch.Tensor:
    """Random geometry as n matrices (n x 2 x 3, float32) from output to input coordinates, both in [-1, 1] (as in
    affine_grid).

    flip: probability of a horizontal flip. rotate: up to +- this many degrees. scale: the chest's magnification,
    uniform in the range.
    shift: up to +- this share of the size, both ways. crop: share of the area kept, then stretched to the whole, with
    an aspect ratio log-uniform in `ratio`, placed at random inside (torchvision's RandomResizedCrop); (1, 1) keeps the
    whole image.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=stream)

    # Every call draws the same numbers, whatever is switched on: turning one augmentation off leaves the others as they
    # were.
    mirrored = torch.where(torch.rand(n, generator=stream) < flip, -1.0, 1.0)
    angle = torch.deg2rad(uniform(-rotate, rotate))
    magnify = uniform(*scale)
    dx, dy = uniform(-2 * shift, 2 * shift), uniform(-2 * shift, 2 * shift)
    area = uniform(*crop)
    aspect = torch.exp(uniform(float(np.log(ratio[0])), float(np.log(ratio[1]))))
    if crop == (1.0, 1.0):
        aspect = torch.ones(n)
    width, height = (area * aspect).sqrt().clamp(max=1.0), (area / aspect).sqrt().clamp(max=1.0)
    x0, y0 = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)

    cos, sin = torch.cos(angle) / magnify, torch.sin(angle) / magnify
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * width * mirrored, -sin * height
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * width * mirrored, cos * height
    matrix[:, 0, 2] = cos * x0 - sin * y0 + dx
    matrix[:, 1, 2] = sin * x0 + cos * y0 + dy
    return matrix


STILL = {"flip": 0.0, "rotate": 0.0, "scale": (1.0, 1.0), "shift": 0.0, "crop": (1.0, 1.0)}  # affine's defaults


def moves(options: dict[str, Any]) -> bool:
    """Whether `affine` under these options may give another matrix than the identity."""
    return any(options[name] != STILL[name] for name in options)


def warp(images: torch.Tensor, matrix: torch.Tensor | None, size: int) -> torch.Tensor:
    """uint8 N x C x H x W by N x 2 x 3 -> float32 N x C x size x size in [0, 1]; bilinear, black outside the image.

    None leaves images of that size as they are. So does a matrix on the CPU that is the identity; one on a GPU is not
    looked at, for that would wait for the GPU.
    """
    values = images.to(torch.float32) / 255
    still = matrix is None or (matrix.device.type == "cpu" and bool((matrix == torch.eye(2, 3)).all()))
    if images.shape[-2:] == (size, size) and still:
        return values
    if matrix is None:
        matrix = torch.eye(2, 3).expand(len(images), 2, 3)
    # affine_grid's numbers as one broadcast sum: its batched matrix product costs more than the resample.
    m = matrix.to(values.device)[:, None, None]  # N x 1 x 1 x 2 x 3
    place = (2 * torch.arange(size, device=values.device) + 1) / size - 1  # centres of the pixels, in [-1, 1]
    grid = m[..., 0] * place[:, None] + (m[..., 1] * place[:, None, None] + m[..., 2])  # N x S x S x (x, y)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def in_order(images: Values, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """All images without augmentation: (places int64 N, their values, float32 N x 1 x H x W in [0, 1]) per batch."""
    for chosen in torch.arange(len(images)).split(batch):
        yield chosen, images.values(chosen)
