"""Training steps in turns: this project's own loop, as it is, is stopped after each step to let the plain one make one.

The loops call Checkpoints.step after every step; `Turns` stands in for it, so that nothing is timed but what a stage
runs: batches, augmentation, forward, backward, optimiser. The plain step is made in a process of its own (`Elsewhere`):
what our loop asks of its process, memory that is kept and deterministic kernels, is no part of the plain way.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.timing import Line, compared, median_seconds
from cxr.training.checkpoints import Checkpoints


class Enough(Exception):
    """Ends a training loop that has made the steps that were to be timed."""


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Turns(Checkpoints):
    """A Checkpoints that saves nothing, makes a plain step after each of the loop's own, and ends the loop in time.

    turns: seconds of (ours, plain), without the first `warm`, in which memory is allocated and workers start.
    """

    def __init__(self, repeats: int, plain: Callable[[], None] | None, warm: int = 1) -> None:
        super().__init__(Path("."), {})
        self.repeats, self.warm, self.plain = repeats, warm, plain
        self.turns: list[tuple[float, float]] = []
        self.started = time.perf_counter()

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_) -> None:
        pass

    def load(self, at_most: int) -> None:
        return None

    def save(self, state: dict, position: int) -> None:
        pass

    def step(self, state: Callable[[], dict], position: int, *, last: bool = False) -> None:
        synchronise()
        between = time.perf_counter()
        if self.plain:
            self.plain()
        synchronise()
        self.turns.append((between - self.started, time.perf_counter() - between))
        if len(self.turns) == self.warm + self.repeats:
            self.turns = self.turns[self.warm :]
            raise Enough
        self.started = time.perf_counter()


class Elsewhere:
    """A step in a new process. made(*arguments), which must be importable, is called there and returns the step; each
    call of this object makes one and waits for it. Raises EOFError when that process has failed; it prints why.
    """

    def __init__(self, made: Callable[..., Callable[[], object]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.asks, asked = context.Pipe()
        self.process = context.Process(target=_serve, args=(asked, torch.get_num_threads(), made, arguments))
        self.process.start()
        asked.close()

    def __call__(self) -> None:
        self.asks.send(None)
        self.asks.recv()

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_) -> None:
        self.asks.close()
        self.process.join()


def _serve(asked, threads: int, made: Callable[..., Callable[[], object]], arguments: tuple) -> None:
    torch.set_num_threads(threads)
    step = made(*arguments)
    while True:
        try:
            asked.recv()
        except EOFError:
            return
        step()
        asked.send(None)


class Silent(Turns):
    """A Checkpoints that saves nothing and lets the loop run to its end."""

    def __init__(self) -> None:
        super().__init__(0, None)

    def step(self, state: Callable[[], dict], position: int, *, last: bool = False) -> None:
        pass


def timed(
    train: Callable[[Turns], object], plain: Callable[[], None] | None, repeats: int
) -> list[tuple[float, float]]:
    """Seconds of (our step, the plain step), `repeats` times, in turns. train: runs a loop with these checkpoints."""
    turns = Turns(repeats, plain)
    try:
        train(turns)
    except Enough:
        return turns.turns
    raise AssertionError(f"the loop ended before its {repeats + 1} steps")


def flops(train: Callable[[Turns], object]) -> int:
    """Floating-point operations of one step: matrix products and convolutions, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, contextlib.redirect_stderr(io.StringIO()):
        timed(train, None, 1)
    return counter.get_total_flops() // 2


def at_best(machine, train: Callable[[Turns], object], turns: list[tuple[float, float]]) -> str:
    """In words, the ratio that our step would reach if it did all its work at the rate of one large matrix product,
    about the fastest that fp32 gets; nothing on a machine that trains in bf16.
    """
    if machine._precision.precision != "32-true":
        return ""
    n = 2048
    a = torch.rand(n, n)
    rate = 2 * n**3 / median_seconds(lambda: a @ a)
    work, plain = flops(train), statistics.median(theirs for _, theirs in turns)
    return (
        f"; {plain / (work / rate):.1f} x would be the whole step, {work / 1e9:.0f} GFLOP, "
        f"at a matrix product's {rate / 1e9:.0f} GFLOP/s"
    )


def step_line(
    what: str,
    machine,
    train: Callable[[Turns], object],
    plainly: Callable[..., Callable[[], object]],
    *arguments: object,
    repeats: int,
    checked: str,
    bar: float,
) -> Line:
    """Our step, of `train`, in turns with the plain one, which plainly(*arguments) returns in a process of its own."""
    with Elsewhere(plainly, *arguments) as plain:
        turns = timed(train, plain, repeats)
    what = f"{what}, end to end ({machine._precision.precision})"
    return compared(what, turns, checked, unit="step", bar=bar, note=at_best(machine, train, turns))
