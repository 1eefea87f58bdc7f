"""The classifier's input, augmented batches at the net's size: from the store, beside a Dataset that decodes files.

python -m benchmarks.classifier_input
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import inputs
from benchmarks.plain_data import Files, loader
from benchmarks.resize import packed
from benchmarks.timing import Line, agree, main, side_by_side
from cxr.core.store import open_store
from cxr.training.batches import Images, affine, order, warp
from cxr.training.machine import generator
from cxr.training.pretrained import IMAGENET_MEAN, IMAGENET_STD

BATCH = 16
AUGMENTATION = {"flip": 0.5, "crop": (0.08, 1.0)}  # the paper's: RandomResizedCrop and a mirror image
TOLERANCE = 2 / 255  # of gray values in [0, 1]: the same two gray levels as for the stores

Feed = Callable[[], torch.Tensor]


def from_store(images: Images, n: int, shuffle: bool, **augmentation) -> torch.Tensor:
    """n images in normalised batches, one after the other; returns the last, N x 3 x S x S."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    permutation = order(len(images), 0, 1) if shuffle else torch.arange(len(images))
    permutation = permutation.repeat(-(-n // len(images)))[:n]
    for step, chosen in enumerate(permutation.split(BATCH)):
        x = warp(images.gather(chosen), affine(len(chosen), generator(0, 2, step), **augmentation), images.size)
        x = x.expand(-1, 3, -1, -1).sub(mean).div_(std)
    return x


def transforms(size: int, augmented: bool, mirrored: float = 0.0) -> Callable:
    from torchvision import transforms as t

    geometry = [t.RandomResizedCrop(size, scale=AUGMENTATION["crop"]), t.RandomHorizontalFlip(AUGMENTATION["flip"])]
    if not augmented:
        geometry = [t.Resize((size, size)), t.RandomHorizontalFlip(mirrored)]
    return t.Compose([*geometry, t.ToTensor(), t.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def close(ours: torch.Tensor, plain: torch.Tensor) -> float:
    """Mean absolute difference of two normalised batches, in gray values of [0, 1]."""
    return float(((ours - plain).abs() * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)).mean())


def agreement(images: Images, paths: list[Path]) -> str:
    """Without chance the two ways must give the same batch, as it is and mirrored. Raises Difference."""
    n, apart = min(BATCH, len(images)), []
    for flip in (0.0, 1.0):
        theirs = torch.stack([Files(paths, transforms(images.size, False, flip))[i][0] for i in range(n)])
        apart.append(close(from_store(images, n, False, flip=flip), theirs))
    return agree(float(np.max(apart)), TOLERANCE, "mean difference of a batch without chance, and of its mirror image")


def store(folder: Path, paths: list[Path], size: int) -> Images:
    packed(paths[0].parent, inputs.records(paths), [size], folder)
    made = open_store(folder / str(size))
    return Images([made], made.index["image_id"])


def lines(quick: bool) -> Iterator[Line]:
    size, kinds = (64, [(inputs.SMALL, 4, 16, 16, 3)]) if quick else (
        224,
        [(inputs.SMALL, 32, 4096, 1024, 3), (inputs.FULL, 8, 1024, 64, 20)],
    )  # fmt: skip
    for kind, n, ours_n, plain_n, bar in kinds:
        with tempfile.TemporaryDirectory() as temporary:
            paths = inputs.files(Path(temporary) / "files", n, kind)
            images = store(Path(temporary) / "store", paths, size)
            batches = loader(Files(paths, transforms(size, True)), plain_n, BATCH)
            sentence = agreement(images, paths)
            yield side_by_side(
                f"classifier input at {size}, augmented, against {kind[1]} x {kind[0]} JPEGs ({inputs.size_of(paths)})",
                lambda images=images, n=ours_n: from_store(images, n, True, **AUGMENTATION),
                lambda batches=batches: [None for _ in batches],
                lambda *_, sentence=sentence: sentence,
                unit="image",
                per=ours_n,
                plain_per=plain_n,
                repeats=1 if quick else 5,
                bar=bar,
            )


if __name__ == "__main__":
    main(lines)
