"""The plain way to feed a training: a Dataset that opens, converts and augments files, and a DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

WORKERS = 2


class Files(Dataset):
    """(transformed image, its number) of image files, decoded at each access."""

    def __init__(self, paths: Sequence[Path], transform: Callable, mode: str = "RGB") -> None:
        self.paths, self.transform, self.mode = list(paths), transform, mode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.open(self.paths[number]).convert(self.mode)), number


class Again(Sampler):
    """n places of a data set, in its order, from the start again when it ends: an epoch of any length."""

    def __init__(self, files: int, n: int) -> None:
        self.files, self.n = files, n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        return (place % self.files for place in range(self.n))


def loader(files: Files, n: int, batch: int, workers: int = WORKERS) -> DataLoader:
    """Batches of n images in all, by worker processes that stay."""
    return DataLoader(
        files, batch, sampler=Again(len(files), n), num_workers=workers, persistent_workers=workers > 0, drop_last=True
    )


def endless(batches: DataLoader) -> Iterator:
    while True:
        yield from batches
