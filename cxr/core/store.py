"""The packed image store: each image read once, kept as 8-bit gray at one size, read by memory map.

A store is a folder of shards, index.parquet and manifest.json. A shard is a uint8 npy file, n x S x S, of up to SHARD
rows of the records; a store of no more than that is the one file images.npy. index.parquet holds image_id and the
CRC-32 of the pixels, one row per image in the order of the shards. manifest.json (formats.StoreManifest) holds the
sums of the shards and of the index: it stands for the whole store where a sum of it is asked for. Opening a store
compares the three, in one read of the pixels. Memory holds a few images, whatever N is.
cxr/data/pack.py and cxr/spark/resize.py make the stores of a whole data set.
"""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr.core.files import atomic, read_json, read_table, sha256, usable_cores, write_json, write_table

if TYPE_CHECKING:
    import pandas as pd

SHARD = 4096  # rows of the records in one shard; 200 MB at 224 pixels
INDEX, MANIFEST = "index.parquet", "manifest.json"
CURE = "run the stage that makes it again"


class Shards:
    """Arrays that follow one another along the first axis, as one: len, shape, iteration, and rows by number, slice,
    array of numbers or mask, which are copied. Raises IndexError for a row outside.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = [part.view(np.ndarray) for part in parts]  # indexing a memmap costs ten times as much
        self.starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])
        self.dtype, self.ndim = parts[0].dtype, parts[0].ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in self.parts:
            yield from part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: int | slice | Sequence | np.ndarray) -> np.ndarray:
        n = len(self)
        rows = np.arange(*key.indices(n)) if isinstance(key, slice) else np.asarray(key)
        if rows.dtype == bool:
            if rows.shape != (n,):
                raise IndexError(f"a mask of shape {rows.shape} for {n:,} rows")
            rows = np.flatnonzero(rows)
        if not rows.size:
            rows = rows.astype(np.int64)
        if not np.issubdtype(rows.dtype, np.integer) or isinstance(key, tuple):
            raise IndexError(f"rows by number, slice, array of numbers or mask, not by {key!r}")
        if ((rows < -n) | (rows >= n)).any():
            raise IndexError(f"a row outside {n:,} rows")
        flat = np.where(rows < 0, rows + n, rows).ravel()
        part = np.searchsorted(self.starts, flat, side="right") - 1
        found = np.empty((len(flat), *self.shape[1:]), self.dtype)
        for to, (which, row) in enumerate(zip(part.tolist(), (flat - self.starts[part]).tolist(), strict=True)):
            found[to] = self.parts[which][row]
        return found.reshape(*rows.shape, *self.shape[1:])


@dataclass(frozen=True)
class Store:
    """A store on disk. images: uint8 N x S x S, by memory map; index: N rows with image_id; size: S."""

    folder: Path
    images: np.ndarray | Shards
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
    from cxr.core.formats import StoreManifest

    folder = Path(folder)
    table = folder / INDEX
    manifest = read_json(folder / MANIFEST, None, StoreManifest)
    if not manifest.shards or any(Path(shard.file).name != shard.file for shard in manifest.shards):
        raise ValueError(f"{folder / MANIFEST} names no shard, or one outside the store; {CURE}")
    files = [folder / shard.file for shard in manifest.shards]
    parts = [_open_shard(file, shard.images, manifest.size) for file, shard in zip(files, manifest.shards, strict=True)]
    index = read_table(table, columns=("image_id", "crc32"))
    if (twice := index["image_id"].duplicated()).any():
        raise ValueError(f"{table}: image_id {index['image_id'][twice].iloc[0]!r} stands twice; {CURE}")
    whose = f"{files[0]}" if len(files) == 1 else f"{folder}: its {len(files):,} shards"
    images: np.ndarray | Shards = parts[0] if len(parts) == 1 else Shards(parts)
    if len(index) != len(images):
        raise ValueError(f"{table} has {len(index):,} rows but {whose} has {len(images):,} images; {CURE}")
    with ThreadPoolExecutor(min(len(parts), usable_cores())) as pool:
        sums = pool.map(checksums, files, map(len, parts), [manifest.size] * len(parts))
        wrong = np.concatenate(list(sums)) != index["crc32"].to_numpy()
    if wrong.any():
        raise ValueError(
            f"{table} is not the index of {whose}: {wrong.sum():,} of {len(index):,} images are others, the first "
            f"in row {wrong.argmax()}; {CURE}"
        )
    if sha256(table) != manifest.index:
        raise ValueError(f"{table} is not the one that {folder / MANIFEST} names; {CURE}")
    return Store(folder, images, index)


def _open_shard(file: Path, n: int, size: int) -> np.memmap:
    try:
        images = np.lib.format.open_memmap(file, mode="r")
    except FileNotFoundError as error:
        raise ValueError(f"{file}: no such file; {CURE}") from error
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file} is cut short or no npy file ({error}); {CURE}") from error
    if images.dtype != np.uint8 or images.shape[1:] != images.shape[1:2] * 2 or not images.flags.c_contiguous:
        raise ValueError(f"{file} holds {images.dtype} {images.shape}, not uint8 N x S x S in rows; {CURE}")
    if images.shape != (n, size, size):
        raise ValueError(f"{file} holds {images.shape}, but the manifest names {(n, size, size)}; {CURE}")
    return images


def content(path: str | os.PathLike) -> str:
    """SHA-256 of what a file or folder holds, hexadecimal. A store in it counts by its manifest, so that its pixels are
    not read: open_store compares them.
    """
    path = Path(path)
    if not path.is_dir():
        return sha256(path)
    if (path / MANIFEST).is_file() and (path / INDEX).is_file():
        return sha256(path / MANIFEST)
    whole = "".join(f"{member.name} {content(member)}\n" for member in sorted(path.iterdir()))
    return hashlib.sha256(whole.encode()).hexdigest()


# Making one -----------------------------------------------------------------------------------------------------------


def shard_file(number: int) -> str:
    """The name of a shard. The first is that of a store of one, which any reader of npy files knows."""
    return f"images-{number}.npy" if number else "images.npy"


def header(n: int, size: int) -> bytes:
    """The npy header of a uint8 n x size x size array. numpy pads it, so that its length does not depend on n."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (n, size, size)})
    return stream.getvalue()


def checksums(file: str | os.PathLike, n: int, size: int) -> np.ndarray:
    """CRC-32 of each image of an npy file, uint32. Not through the memory map, whose pages would count as memory."""
    with open(file, "rb") as stream:
        stream.seek(len(header(n, size)))
        return np.fromiter((zlib.crc32(stream.read(size * size)) for _ in range(n)), np.uint32, n)


class Shard(NamedTuple):
    """A shard that is written. crc32: uint32, one per image; sha256: of the file, hexadecimal."""

    file: str
    crc32: np.ndarray
    sha256: str


def summed(file: Path, n: int, size: int) -> Shard:
    """A written shard with its sums, in one read."""
    whole, crc32 = hashlib.sha256(), np.empty(n, np.uint32)
    with open(file, "rb") as stream:
        whole.update(stream.read(len(header(n, size))))
        for row in range(n):
            image = stream.read(size * size)
            whole.update(image)
            crc32[row] = zlib.crc32(image)
    return Shard(file.name, crc32, whole.hexdigest())


def seal(folder: Path, index: pd.DataFrame, size: int, shards: Sequence[Shard]) -> None:
    """Write the index and the manifest of shards that are written. index: a row per image, in the shards' order."""
    from cxr.core.formats import StoreManifest, StoreShard

    assert len(index) == sum(len(shard.crc32) for shard in shards)
    write_table(folder / INDEX, index.assign(crc32=np.concatenate([shard.crc32 for shard in shards])))
    listed = [StoreShard(file=shard.file, images=len(shard.crc32), sha256=shard.sha256) for shard in shards]
    write_json(folder / MANIFEST, StoreManifest(size=size, index=sha256(folder / INDEX), shards=listed))


def write_store(
    folder: str | os.PathLike, images: Iterable[np.ndarray], index: pd.DataFrame, shard: int = SHARD
) -> None:
    """Write a store. images: any iterable of S x S uint8 (an N x S x S array too); index: N rows holding image_id.

    shard: the most images of one.
    """
    assert "image_id" in index and index["image_id"].is_unique
    waiting, size = iter(images), 0
    shards: list[Shard] = []
    with atomic(folder) as temporary:
        temporary.mkdir()
        for number, start in enumerate(range(0, len(index), shard)):
            file, n = temporary / shard_file(number), min(shard, len(index) - start)
            size = _write_shard(file, islice(waiting, n), n, size)
            shards.append(summed(file, n, size))
        assert shards and next(waiting, None) is None, "more images than rows of the index, or none"
        seal(temporary, index, size, shards)


def _write_shard(file: Path, images: Iterable[np.ndarray], n: int, size: int) -> int:
    """Write n images. Returns their size. size: that of the shards before, 0 for the first."""
    written = 0
    with open(file, "wb") as stream:
        for image in images:
            size = size or len(image)
            if not written:
                stream.write(header(n, size))
            assert image.dtype == np.uint8 and image.shape == (size, size), (image.dtype, image.shape)
            stream.write(np.ascontiguousarray(image).data)
            written += 1
    assert written == n, (written, n)
    return size
