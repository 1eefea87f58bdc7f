"""The one training loop: position, sums, the finite check, history, progress, checkpoints.

A training (the classifier's, the GAN's, the ADGM's) offers what is its own: `state`, `load`, `step`, `end_epoch`,
`line` and `stop`. A step depends on (seed, epoch, step) alone, and saves happen between steps or between the batches
of a validation, so an interrupted training continues exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch

from cxr.core.files import Progress
from cxr.training.checkpoints import Checkpoints

CHECK_EVERY = 50  # steps between two looks at whether the terms are finite: a look waits for the GPU


class Training(ABC):
    """What one algorithm gives to `run`.

    names: of the terms that a step returns. cure: what a user changes when a term is no longer finite, as 'lower
    gan.lr (now 0.1)'.
    """

    names: tuple[str, ...]
    cure: str

    @abstractmethod
    def state(self) -> dict:
        """Everything that shapes the steps to come: nets, optimisers, averages, the best epoch so far."""

    @abstractmethod
    def load(self, state: dict) -> None:
        """Take up a state that `state` gave."""

    def start_epoch(self, epoch: int) -> None:  # noqa: B027
        """Called before the first step of an epoch (from 0) that this process makes, also after a resume."""

    @abstractmethod
    def step(self, epoch: int, step: int) -> torch.Tensor:
        """One update; the batch's terms, len(names) float32, detached, on the device. epoch, step: from 0."""

    @abstractmethod
    def end_epoch(self, epoch: int, means: dict[str, float], keep: Callable[[], None]) -> dict:
        """Validate; a history row without its epoch. epoch: from 1. means: of the epoch's terms by name. keep: to be
        called after every batch of a validation.
        """

    @abstractmethod
    def line(self, history: list[dict]) -> str:
        """What is printed of the last row; '' for nothing."""

    def pictures(self) -> dict[int, torch.Tensor]:
        """Pictures by epoch, H x W or H x W x 3 uint8: a generator's grids."""
        return {}

    def stop(self, history: list[dict]) -> str | None:
        """Why the training ends before its last epoch, or None."""
        return None


class Trained(NamedTuple):
    """history: a row an epoch; epochs: that were trained; stopped: why it ended before its last epoch, or None."""

    history: pd.DataFrame
    epochs: int
    stopped: str | None


def run(
    training: Training,
    checkpoints: Checkpoints,
    *,
    label: str,
    epochs: int,
    steps: int,
    batch: int,
    images: int | None = None,
    unit: str = "images",
) -> Trained:
    """Train from the start, or on from the newest checkpoint, to the last of `epochs` epochs of `steps` steps.

    images: that an epoch counts in the progress line, default steps * batch. Raises ValueError, naming the step and
    the term, when a term is no longer finite.
    """
    images = images or steps * batch
    history: list[dict] = []
    recent: list[torch.Tensor] = []  # terms since the last look
    epoch, step, zeros = 0, 0, torch.zeros(len(training.names))
    sums = zeros
    if kept := checkpoints.load(epochs * steps):
        training.load(kept["training"])
        history, (epoch, step), sums = kept["history"], kept["position"], kept["sums"]

    def look() -> None:
        if recent and not bool(torch.isfinite(torch.stack(recent)).all()):
            bad = next(i for i, terms in enumerate(recent) if not bool(torch.isfinite(terms).all()))
            terms = dict(zip(training.names, recent[bad].tolist(), strict=True))
            wrong = ", ".join(f"{name} = {value:g}" for name, value in terms.items() if not math.isfinite(value))
            where = f"epoch {epoch + 1}, step {step - len(recent) + bad + 1} of {steps}"
            raise ValueError(f"{label}: {where}: {wrong}; {training.cure}")
        recent.clear()

    def whole() -> dict:
        look()
        return {"training": training.state(), "history": history, "position": [epoch, step], "sums": sums}

    def keep() -> None:
        checkpoints.step(whole, epoch * steps + step)

    stopped = training.stop(history) if history and epoch < epochs else None
    with checkpoints, Progress(label, epochs * images, unit) as progress:
        progress.skip(epoch * images + min(step * batch, images))
        while epoch < epochs and not stopped:
            training.start_epoch(epoch)
            while step < steps:
                recent.append(training.step(epoch, step))
                sums = sums.to(recent[-1].device) + recent[-1]
                step += 1
                if step % CHECK_EVERY == 0:
                    look()
                progress.update(min(batch, images - (step - 1) * batch))
                keep()
            look()
            means = {name: total / steps for name, total in zip(training.names, sums.tolist(), strict=True)}
            history.append({"epoch": epoch + 1} | training.end_epoch(epoch + 1, means, keep))
            if checkpoints.watch:
                checkpoints.watch(history, training.pictures())
            epoch, step, sums = epoch + 1, 0, zeros
            if text := training.line(history):
                progress.line(text)
            stopped = training.stop(history) if epoch < epochs else None
        if stopped:
            progress.line(f"stopped after epoch {epoch} of {epochs}: {stopped}")
        checkpoints.step(whole, epoch * steps, last=True)
    return Trained(pd.DataFrame(history), epoch, stopped)
