"""The packed image store: each image decoded once, kept as 8-bit gray at one size, read by memory map.

A store is a folder with images.npy (uint8, N x S x S) and index.parquet (image_id and the CRC-32 of the pixels, one
row per image in the same order). Opening a store compares the two. Memory holds a few images, whatever N is.
cxr/data/pack.py makes the stores of a whole data set.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr.core.files import atomic, read_table, write_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Store:
    """A store on disk. images: uint8 memory map, N x S x S; index: N rows with image_id; size: S."""

    folder: Path
    images: np.ndarray
    index: pd.DataFrame

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        return self.images.shape[1]

    def rows(self, image_ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The row of each image, int64. Raises ValueError for an image that the store lacks."""
        import pandas as pd

        rows = pd.Index(self.index["image_id"]).get_indexer(pd.Index(image_ids))
        if (rows < 0).any():
            lacking = np.asarray(image_ids, object)[rows < 0]
            names = ", ".join(lacking[:3])
            raise ValueError(
                f"{self.folder} lacks {len(lacking):,} images, such as {names}: run the resize stage again"
            )
        return rows.astype(np.int64)


def open_store(folder: str | os.PathLike) -> Store:
    """Open a store by memory map. Raises ValueError, naming the file, when it is missing, torn or of another store."""
    folder = Path(folder)
    array, table = folder / "images.npy", folder / "index.parquet"
    cure = "run the stage that makes it again"
    try:
        images = np.lib.format.open_memmap(array, mode="r")
    except FileNotFoundError as error:
        raise ValueError(f"{array}: no such file; {cure}") from error
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{array} is cut short or no npy file ({error}); {cure}") from error
    if images.dtype != np.uint8 or images.shape[1:] != images.shape[1:2] * 2 or not images.flags.c_contiguous:
        raise ValueError(f"{array} holds {images.dtype} {images.shape}, not uint8 N x S x S in rows; {cure}")
    index = read_table(table, columns=("image_id", "crc32"))
    if (twice := index["image_id"].duplicated()).any():
        raise ValueError(f"{table}: image_id {index['image_id'][twice].iloc[0]!r} stands twice; {cure}")
    if len(index) != len(images):
        raise ValueError(f"{table} has {len(index):,} rows but {array} has {len(images):,} images; {cure}")
    if (wrong := checksums(array, *images.shape[:2]) != index["crc32"].to_numpy()).any():
        raise ValueError(
            f"{table} is not the index of {array}: {wrong.sum():,} of {len(index):,} images are others, the first "
            f"in row {wrong.argmax()}; {cure}"
        )
    return Store(folder, images, index)


def checksums(file: str | os.PathLike, n: int, size: int) -> np.ndarray:
    """CRC-32 of each image of an npy file, uint32. Not through the memory map, whose pages would count as memory."""
    with open(file, "rb") as stream:
        stream.seek(len(header(n, size)))
        return np.fromiter((zlib.crc32(stream.read(size * size)) for _ in range(n)), np.uint32, n)


def header(n: int, size: int) -> bytes:
    """The npy header of a uint8 n x size x size array. numpy pads it, so that its length does not depend on n."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (n, size, size)})
    return stream.getvalue()


def write_store(folder: str | os.PathLike, images: Iterable[np.ndarray], index: pd.DataFrame) -> None:
    """Write a store. images: any iterable of S x S uint8 (an N x S x S array too); index: N rows holding image_id."""
    assert "image_id" in index and index["image_id"].is_unique
    with atomic(folder) as temporary:
        temporary.mkdir()
        n = size = 0
        with open(temporary / "images.npy", "wb") as file:
            for image in images:
                if not n:
                    size = len(image)
                    file.write(header(len(index), size))
                assert image.dtype == np.uint8 and image.shape == (size, size), (image.dtype, image.shape)
                file.write(np.ascontiguousarray(image).data)
                n += 1
        assert n and n == len(index), (n, len(index))
        write_table(temporary / "index.parquet", index.assign(crc32=checksums(temporary / "images.npy", n, size)))
