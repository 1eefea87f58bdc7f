"""The trainings on a GPU at the papers' sizes, with the store resident on it: images/s, share of the bf16 peak, how
busy the GPU is, what CUDA graphs bring against single kernels and against torch.compile; and from these rates how long
the whole paper preset takes on this card. The diffusion model, which no paper has, needs diffusers and SciPy as well.

Needs only what a bare GPU box has: NEEDS, by the names under which they are imported.

python -m benchmarks.gpu
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import os
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
from cxr.adgm.validate import validate
from cxr.classifier import net as classifier
from cxr.core.conditions import CONDITIONS
from cxr.training.machine import fabric

ROOT = Path(__file__).resolve().parents[1]
NEEDS = [
    "torch", "torchvision", "PIL", "lightning_fabric", "numpy", "pandas", "pyarrow", "pydantic", "safetensors", "tqdm",
    "yaml", "cv2", "filelock", "fsspec",
]  # fmt: skip
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
# How a step is made: $CXR_GRAPHS, and the mode of torch.compile. The first is how a stage trains.
VARIANTS: dict[str, tuple[str, str | None]] = {
    "CUDA graph": ("1", None),
    "single kernels": ("0", None),
    "compiled": ("0", "default"),
}
WARM, STEPS = 15, 40  # a graph is made and compared within the first

Train = Callable[[object, Turns], object]


class Window(Turns):
    """Times `repeats` steps of a loop as a whole, after `warm` others, without waiting for the GPU in between."""

    def step(self, state: Callable[[], dict], position: int, *, last: bool = False) -> None:
        self.turns.append((0.0, 0.0))
        if len(self.turns) == self.warm:
            synchronise()
            self.started = time.perf_counter()
        if len(self.turns) == self.warm + self.repeats:
            synchronise()
            self.seconds = (time.perf_counter() - self.started) / self.repeats
            raise Enough
        if last:
            raise ValueError(
                f"the loop has {len(self.turns)} steps, not {self.warm + self.repeats}: give more pictures"
            )


class Training(NamedTuple):
    """name; images of one step; the loop, given a Fabric and Checkpoints; the paper preset's steps.

    judge: judges so many images, given a Fabric; None where that takes no time that counts. judged: images that the
    preset judges.
    """

    name: str
    batch: int
    train: Train
    steps: int
    judge: Callable[[object], int] | None = None
    judged: int = 0


def run(training: Training, machine, warm: int, steps: int) -> float:
    """Seconds of one step. Raises ValueError where the loop has fewer."""
    window = Window(steps, None, warm)
    with contextlib.suppress(Enough), contextlib.redirect_stderr(io.StringIO()):
        training.train(machine, window)
    return window.seconds


def judging(training: Training, machine) -> float:
    """Seconds of one image that is judged, the second time: the first one allocates."""
    if training.judge is None:
        return 0.0
    training.judge(machine)
    synchronise()
    started = time.perf_counter()
    images = training.judge(machine)
    synchronise()
    return (time.perf_counter() - started) / images


@contextlib.contextmanager
def graphs(on: str) -> Iterator[None]:
    """With $CXR_GRAPHS set, and as it was afterwards."""
    before = os.environ.get("CXR_GRAPHS")
    os.environ["CXR_GRAPHS"] = on
    try:
        yield
    finally:
        del os.environ["CXR_GRAPHS"]
        if before is not None:
            os.environ["CXR_GRAPHS"] = before


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


def busy(training: Training, machine, warm: int, steps: int) -> float:
    """Share of the time in which a kernel or a copy runs, over some steps, as the profiler sees it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        run(training, machine, warm, steps)
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


def trainings(preset: dict, folder: Path, device, steps: int) -> list[Training]:
    """Each at the preset's size, with pictures for so many steps."""
    kinds = [_classifier, _gan, _adgm]
    if importlib.util.find_spec("diffusers") and importlib.util.find_spec("scipy"):
        kinds.append(_diffusion)
    return [kind(preset, folder, device, steps) for kind in kinds]


def _classifier(preset: dict, folder: Path, device, steps: int) -> Training:
    c = preset["classifier"]
    n = c["batch"] * steps
    shots, table = made_up.noise(folder / "classifier", n, c["size"], device), densenet_step.labels(n)
    settings = {key: c[key] for key in ("batch", "lr", "crop_min", "flip", "rotate")}
    each = [CHEXPERT] * len(preset["arms"]["policies"]) + [CHEXPERT + ADDED]

    def train(machine, checkpoints) -> None:
        densenet_step.ours(machine, classifier.build("none", 0), table, shots, checkpoints, **settings)

    def judge(machine) -> int:
        net = classifier.build("none", 0).to(machine.device)
        return len(classifier.predict(machine, net, shots))

    share = preset["split"]["valid_share"]
    return Training(
        f"DenseNet121 at {c['size']}, batch {c['batch']}", c["batch"], train,
        sum(c["epochs"] * (images // c["batch"]) for images in each), judge,
        round(len(each) * (c["epochs"] + 1) * share * CHEXPERT),
    )  # fmt: skip


def _gan(preset: dict, folder: Path, device, steps: int) -> Training:
    g = preset["gan"]
    shots = made_up.noise(folder / "gan", g["batch"] * steps, g["size"], device)

    def train(machine, checkpoints) -> None:
        dcgan_step.ours(machine, shots, checkpoints, batch=g["batch"], width=g["width"], channels=g["channels"])

    every = sum(images // g["batch"] for images in RARE)
    return Training(f"DCGAN {g['size']}, batch {g['batch']}", g["batch"], train, g["epochs"] * every)


def _adgm(preset: dict, folder: Path, device, steps: int) -> Training:
    a, runs = preset["adgm"], preset["adgm_runs"]
    K, share = max(runs["classes"]), preset["split"]["valid_share"]
    y = np.arange(a["batch"]) % K
    shots = made_up.noise(folder / "adgm", a["batch"] * (steps + 1), a["size"], device)
    train_images, valid = round(RSNA * (1 - share)), round(RSNA * share)
    unlabelled = [train_images - k * labels for k in runs["classes"] for labels in runs["labels"]]

    def train(machine, checkpoints) -> None:
        adgm_step.ours(machine, shots, y, checkpoints, classes=K, batch=a["batch"])

    def judge(machine) -> int:
        settings = adgm_step.settings(K, len(y) // K, a["size"], a["batch"], a["predict_samples"])
        net = adgm_step.build(a["size"], K).to(machine.device)
        truth = torch.zeros(len(shots), dtype=torch.int64, device=machine.device)
        validate(
            machine, net, shots, truth, settings, alpha=1.0, shares=(1.0, 1.0), temperature=1.0,
            correction=torch.ones(K),
        )  # fmt: skip
        return len(shots)

    return Training(
        f"ADGM at {a['size']}, {a['batch']} + {a['batch']} images, {K} classes", 2 * a["batch"], train,
        a["epochs"] * sum(math.ceil(n / a["batch"]) for n in unlabelled), judge,
        a["epochs"] * valid * len(unlabelled),
    )  # fmt: skip


def _diffusion(preset: dict, folder: Path, device, steps: int) -> Training:
    from cxr.diffusion import train as diffusion_train  # with SciPy, which a bare GPU box may lack
    from cxr.diffusion.settings import Settings as DiffusionSettings

    d = preset["diffusion"]
    settings = DiffusionSettings(
        **{name: d[name] for name in DiffusionSettings.model_fields if name in d} | {"epochs": 1}
    )
    shots = made_up.noise(folder / "diffusion", d["batch"] * steps, d["size"], device)
    y = np.random.default_rng(0).integers(0, 2, (len(shots), len(CONDITIONS))).astype(np.float32)

    def train(machine, checkpoints) -> None:
        diffusion_train.fit(machine, shots, y, checkpoints, settings, label="benchmark")

    models = len(preset["diffusion_runs"]["diffusion_seeds"])
    return Training(
        f"diffusion {d['size']}, batch {d['batch']}, width {d['width']}", d["batch"], train,
        models * d["epochs"] * (CHEXPERT // d["batch"]),
    )  # fmt: skip


def duration(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def measured(training: Training, variant: tuple[str, str | None], warm: int, steps: int) -> tuple[float, float]:
    """Seconds of one step, and of one image that is judged."""
    on, mode = variant
    torch._dynamo.reset()
    with graphs(on):
        return run(training, compiled(fabric("auto"), mode), warm, steps), judging(training, fabric("auto"))


def rows(preset: dict, warm: int, steps: int, variants: dict[str, tuple[str, str | None]] = VARIANTS) -> Iterator[str]:
    """The Markdown table, a line at a time, and after it the whole preset's time in the first of the variants."""
    on_gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    top, whole = peak(name), 0.0
    yield f"| on {name} | ms a step | images/s | TFLOP/s | of the bf16 peak | GPU busy | paper preset, whole data |"
    yield "|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as temporary:
        for training in trainings(preset, Path(temporary), fabric("auto").device, warm + steps + 1):
            work = flops(lambda turns, training=training: training.train(fabric("auto"), turns))
            for number, (variant, how) in enumerate(variants.items()):
                try:
                    took, judged = measured(training, how, warm, steps)
                except Exception as error:  # the compiler raises nearly every type; what it can't do is a result too
                    if how[1] is None:
                        raise
                    yield f"| {training.name}, {variant} | failed: {' '.join(str(error).split())[:120]} | | | | | |"
                    continue
                speed, total = work / took, training.steps * took + training.judged * judged
                whole += 0.0 if number else total
                share, loaded = f"{speed / top:.1%}" if top else "-", "-"
                if on_gpu:
                    with graphs(how[0]):
                        loaded = f"{busy(training, compiled(fabric('auto'), how[1]), warm, steps):.0%}"
                yield (
                    f"| {training.name}, {variant} | {1000 * took:.2f} | {training.batch / took:,.0f} "
                    f"| {speed / 1e12:.3g} | {share} | {loaded} | {duration(total) if total else '-'} |"
                )
    yield f"| the whole preset's trainings, one after the other | | | | | | {duration(whole)} |"


def main() -> None:
    if not torch.cuda.is_available():
        print("no GPU here: this benchmark has nothing to measure")
        return
    import yaml

    preset = yaml.safe_load((ROOT / "presets" / "paper.yaml").read_text(encoding="utf-8"))
    for row in rows(preset, WARM, STEPS):
        print(row, flush=True)
    print()
    print(as_table(precision.lines(False)))


if __name__ == "__main__":
    main()
