"""How cost grows: resize, a training epoch and predict, at 1, 4 and 16 times the images, each in a process of its own.

Memory is the process's own (RssAnon, sampled): pages of a memory-mapped store belong to the system, which drops them
when it wants.

python -m benchmarks.growth
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import inputs
from benchmarks.timing import Line, main, seconds

FACTORS = (1, 4, 16)
LINEAR, FLAT = 1.25, 1.15  # time per image, and peak memory, at the most images against fewer


def own_memory() -> int:
    """Bytes of this process that no file backs (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def watched(run: Callable[[], object]) -> tuple[float, int]:
    """(seconds, peak of own_memory while it ran)."""
    peak, done = [own_memory()], threading.Event()

    def sample() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], own_memory())

    thread = threading.Thread(target=sample)
    thread.start()
    started = time.perf_counter()
    try:
        run()
        took = time.perf_counter() - started
    finally:
        done.set()
        thread.join()
    return took, peak[0]


def resize(folder: Path, n: int, size: int) -> None:
    from cxr.data.pack import pack
    from cxr.data.sources.archive import Folder

    paths = sorted((folder / "files").glob("*.jpg"))
    table = inputs.records(paths, -(-n // len(paths))).head(n)
    assert pack(Folder(folder / "files"), table, [size], folder / f"store{n}", 1, 0).empty


def epoch(folder: Path, n: int, size: int) -> None:
    """One epoch of a narrow DCGAN on the store of n images."""
    from benchmarks.dcgan_step import ours
    from benchmarks.steps import Silent
    from cxr.core.store import open_store
    from cxr.training.batches import Images
    from cxr.training.machine import fabric

    store = open_store(folder / f"store{n}" / str(size))
    machine = fabric("32-true")
    ours(machine, Images([store], store.index["image_id"], machine.device), Silent(), batch=16, width=8)


def predict(folder: Path, n: int, size: int) -> None:
    """Tables, a page with a card for sixteen images, and a FHIR report for each of n images, by a small network."""
    from benchmarks.predict import write_predictor
    from cxr.data.sources.archive import Folder
    from cxr.predict.model import Predictor
    from cxr.predict.run import predict
    from cxr.predict.source import Source
    from cxr.training.machine import fabric

    if not (folder / "predictor").exists():
        write_predictor(folder / "predictor", size, "densenet_small")
    model = Predictor(folder / "predictor", fabric("32-true"), "predictor")
    names = sorted(path.name for path in (folder / "files").glob("*.jpg"))
    source = Source(Folder(folder / "files"), (names * -(-n // len(names)))[:n], 0)
    counts = predict(
        [model], source, folder / "out", pseudonyms=False, cards=16, processes=1, heat_maps="grad_cam", fhir=True
    )
    assert counts.accepted == counts.fhir == n


WORK = {"resize": resize, "one training epoch": epoch, "predict": predict}


def measured(what: str, folder: Path, n: int, size: int) -> tuple[float, int]:
    """(seconds, peak bytes) in a fresh process, after a run on the fewest images that warms it up."""
    words = [sys.executable, "-m", "benchmarks.growth", "--one", what, str(folder), str(n), str(size)]
    done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{what} of {n} images failed: {done.stderr[-1000:]}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def judged(what: str, numbers: list[int], found: list[tuple[float, int]]) -> Line:
    """Linear: an image at the most images takes at most LINEAR times what it takes at a quarter of them (at the fewest
    the constant part counts). Flat: the peak at the most is at most FLAT times that at the fewest.
    """
    took, peaks = (np.array(column) for column in zip(*found, strict=True))
    per_image = took / numbers
    linear, flat = per_image[-1] / per_image[-2], peaks[-1] / peaks[0]
    return Line(
        f"{what} at {', '.join(f'{n:,}' for n in numbers)} images",
        "image",
        float(per_image[-1]),
        float("nan"),
        f"{', '.join(seconds(t) for t in took)}; {', '.join(f'{p / 2**20:.0f}' for p in peaks)} MiB",
        "time linear, memory flat",
        bool(linear <= LINEAR and flat <= FLAT),
        f"an image takes {linear:.2f} times what it takes at a quarter (at most {LINEAR}), peak {flat:.2f} times "
        f"(at most {FLAT})",
    )


def lines(quick: bool) -> Iterator[Line]:
    base, size = (16, 32) if quick else (192, 128)
    numbers = [base * factor for factor in FACTORS[: 2 if quick else None]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        inputs.files(folder / "files", 4 if quick else 16, inputs.SMALL)
        for what in WORK:
            yield judged(f"{what}, {size} px", numbers, [measured(what, folder, n, size) for n in numbers])


def one(what: str, folder: str, n: str, size: str) -> None:
    work = WORK[what]
    least = min([int(n), *(int(p.name.removeprefix("store")) for p in Path(folder).glob("store*"))])
    work(Path(folder), least, int(size))
    print(json.dumps(watched(lambda: work(Path(folder), int(n), int(size)))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
    else:
        main(lines)
