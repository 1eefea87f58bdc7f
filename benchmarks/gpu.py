"""The three trainings on a GPU at the papers' sizes, with the store resident on it: images/s, share of the bf16 peak,
how busy the GPU is, what torch.compile and CUDA graphs bring, and how long the paper preset would take on all the data.

Needs only what a bare GPU box has: torch, torchvision, lightning, pandas, pyarrow, typer, scikit-learn.

python -m benchmarks.gpu
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import adgm_step, dcgan_step, densenet_step, made_up, precision
from benchmarks.steps import Enough, Turns, flops, synchronise
from benchmarks.timing import table as as_table
from cxr.classifier import net as classifier
from cxr.training.machine import fabric

ROOT = Path(__file__).resolve().parents[1]
# Dense bf16 tensor cores, FLOP/s, from the makers' data sheets; the first name that fits counts.
PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
}
# Images that the paper preset trains on: CheXpert's training table, its positives of the three rare findings
# (Irvin et al. 2019, table 1), and what the enriched table adds (docs/papers.md); RSNA 2018, stage 2.
CHEXPERT, RARE, ADDED, RSNA = 223_414, (6_039, 9_186, 14_783), 128_233, 26_684
VARIANTS = {"eager": None, "compiled": "default", "compiled, CUDA graphs": "reduce-overhead"}

Train = Callable[[object, Turns], object]


class Window(Turns):
    """Times `repeats` steps of a loop as a whole, after `warm` others, without waiting for the GPU in between."""

    def step(self, state: Callable[[], dict], position: int) -> None:
        self.turns.append((0.0, 0.0))
        if len(self.turns) == self.warm:
            synchronise()
            self.started = time.perf_counter()
        if len(self.turns) == self.warm + self.repeats:
            synchronise()
            self.seconds = (time.perf_counter() - self.started) / self.repeats
            raise Enough


class Training(NamedTuple):
    """name; images of one step; the loop, given a Fabric and Checkpoints; images that the paper preset passes."""

    name: str
    batch: int
    train: Train
    passes: int


def run(training: Training, machine, warm: int, steps: int) -> float:
    """Seconds of one step."""
    window = Window(steps, None, warm)
    with contextlib.suppress(Enough), contextlib.redirect_stderr(io.StringIO()):
        training.train(machine, window)
    return window.seconds


def compiled(machine, mode: str | None):
    """The machine, which from now on compiles every net that a loop sets up; as it is for None."""
    if mode is None:
        return machine
    setup = machine.setup
    machine.setup = lambda net, *rest: setup(torch.compile(net, mode=mode), *rest)
    return machine


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Length of what (start, end) spans cover, overlaps once."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def busy(training: Training, machine, steps: int) -> float:
    """Share of the time in which a kernel or a copy runs, over some steps, as the profiler sees it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        run(training, machine, 3, steps)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in watched.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    # The first steps choose algorithms; the second half of the time is the steps as they go on.
    last = max(end for _, end in spans)
    middle = (min(start for start, _ in spans) + last) / 2
    return union((max(start, middle), end) for start, end in spans if end > middle) / (last - middle)


def peak(name: str) -> float | None:
    """bf16 FLOP/s of a GPU by its name; None for one that is not listed."""
    return next((value for part, value in PEAKS.items() if part in name), None)


def trainings(preset: dict, folder: Path, device, n: int) -> list[Training]:
    """The three at the preset's sizes; n: pictures in each store."""
    c, g, a = preset["classifier"], preset["gan"], preset["adgm"]
    classes, labels = preset["adgm_runs"]["classes"], preset["adgm_runs"]["labels"]
    shots = {size: made_up.noise(folder / str(size), n, size, device) for size in {c["size"], g["size"], a["size"]}}
    table = densenet_step.labels(n)
    settings = {key: c[key] for key in ("batch", "lr", "crop_min", "flip", "rotate")}
    arms = len(preset["arms"]["policies"])
    y = np.arange(a["batch"]) % max(classes)
    return [
        Training(
            f"DenseNet121 at {c['size']}, batch {c['batch']}", c["batch"],
            lambda machine, checkpoints: densenet_step.ours(
                machine, classifier.build("none", 0), table, shots[c["size"]], checkpoints, **settings
            ),
            c["epochs"] * ((arms + 1) * CHEXPERT + ADDED),
        ),
        Training(
            f"DCGAN {g['size']}, batch {g['batch']}", g["batch"],
            lambda machine, checkpoints: dcgan_step.ours(
                machine, shots[g["size"]], checkpoints, batch=g["batch"], width=g["width"], channels=g["channels"]
            ),
            g["epochs"] * sum(RARE),
        ),
        Training(
            f"ADGM at {a['size']}, {a['batch']} + {a['batch']} images, {max(classes)} classes", 2 * a["batch"],
            lambda machine, checkpoints: adgm_step.ours(
                machine, shots[a["size"]], y, checkpoints, classes=max(classes), batch=a["batch"]
            ),
            # An epoch passes the unlabelled images once, with as many labelled ones beside them.
            2 * a["epochs"] * round(RSNA * (1 - preset["split"]["valid_share"])) * len(classes) * len(labels),
        ),
    ]  # fmt: skip


def duration(passes: int, rate: float) -> str:
    """How long so many images take at so many a second."""
    hours = passes / rate / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def rows(preset: dict, n: int, warm: int, steps: int, variants: dict[str, str | None]) -> Iterator[str]:
    """The Markdown table, a line at a time."""
    on_gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    top = peak(name)
    yield f"| on {name} | images/s | TFLOP/s | of the bf16 peak | GPU busy | paper preset, whole data |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as temporary:
        for training in trainings(preset, Path(temporary), fabric("auto").device, n):
            work = flops(lambda turns, training=training: training.train(fabric("auto"), turns))
            for variant, mode in variants.items():
                torch._dynamo.reset()
                try:
                    took = run(training, compiled(fabric("auto"), mode), warm, steps)
                except Exception as error:  # the compiler raises nearly every type; what it can't do is a result too
                    if mode is None:
                        raise
                    yield f"| {training.name}, {variant} | failed: {' '.join(str(error).split())[:120]} | | | | |"
                    continue
                rate, speed = training.batch / took, work / took
                share = f"{speed / top:.1%}" if top else "-"
                loaded = f"{busy(training, compiled(fabric('auto'), mode), steps):.0%}" if on_gpu else "-"
                yield (
                    f"| {training.name}, {variant} | {rate:,.0f} | {speed / 1e12:.3g} | {share} | {loaded} "
                    f"| {duration(training.passes, rate)} |"
                )


def main() -> None:
    if not torch.cuda.is_available():
        print("no GPU here: this benchmark has nothing to measure")
        return
    import yaml

    preset = yaml.safe_load((ROOT / "presets" / "paper.yaml").read_text(encoding="utf-8"))
    for row in rows(preset, 2048, 10, 40, VARIANTS):
        print(row, flush=True)
    print()
    print(as_table(precision.lines(False)))


if __name__ == "__main__":
    main()
