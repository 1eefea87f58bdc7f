"""How long a training waits for its store: from the start to the first batch, and how often the pixels are read.

Not among `python -m benchmarks`: the store takes gigabytes. --plain: as it was when the fingerprint hashed every file.

python -m benchmarks.store --gigabytes 3
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.files import sha256
from cxr.core.store import content, open_store, write_store

SIZE = 224


def images(n: int) -> Iterator[np.ndarray]:
    """Different images at the cost of one."""
    one = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8)
    for number in range(n):
        one[0, :8] = np.frombuffer(number.to_bytes(8, "little"), np.uint8)
        yield one


def first_batch(folder: Path, plain: bool) -> tuple[float, float, float]:
    """Seconds for the fingerprint, for opening, and for the first batch of 16."""
    from cxr.training.batches import Images, order

    started = time.perf_counter()
    (sha256 if plain else content)(folder)
    marked = time.perf_counter()
    store = open_store(folder)
    opened = time.perf_counter()
    Images([store], store.index["image_id"]).gather(order(len(store), 0)[:16])
    return marked - started, opened - marked, time.perf_counter() - opened


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=3)
    n = int(parser.parse_args().gigabytes * 1e9 / SIZE**2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / str(SIZE)
        write_store(folder, images(n), pd.DataFrame({"image_id": [f"image{k:08}" for k in range(n)]}))
        for plain in (True, False, True, False):
            took = first_batch(folder, plain)
            words = "fingerprint of every byte" if plain else "fingerprint of the manifest"
            parts = ", ".join(
                f"{part} {t:.2f} s" for part, t in zip((words, "opening", "first batch"), took, strict=True)
            )
            print(f"{n:,} images, {n * SIZE**2 / 1e9:.1f} GB: {sum(took):.2f} s ({parts})", flush=True)


if __name__ == "__main__":
    main()
