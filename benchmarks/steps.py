"""Training steps in turns: this project's own loop, as it is, is stopped after each step to let the plain one make one.

The loops call Checkpoints.step after every step; `Turns` stands in for it, so that nothing is timed but what a stage
runs: batches, augmentation, forward, backward, optimiser.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from cxr.checkpoints import Checkpoints


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
