"""The one training loop: position, sums, the finite check, history, progress, checkpoints.

A training (the classifier's, the GAN's, the ADGM's) offers what is its own: `state`, `load`, `draw`, `update`,
`end_epoch`, `line` and `stop`. A step depends on (seed, epoch, step) alone, and saves happen between steps or between
the batches of a validation, so an interrupted training continues exactly.

A step has two parts, so that a GPU never waits for the host: `draw` gives all that comes from the host, and `update`
works on the device alone. cxr/training/feed.py brings the one to the other, cxr/training/graphs.py makes the update.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch

from cxr.core.files import Progress
from cxr.training import graphs
from cxr.training.checkpoints import Checkpoints
from cxr.training.feed import Batch, Feed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECK_EVERY = 50  # steps between two looks at whether the terms are finite: a look waits for the GPU


class Training(ABC):
    """What one algorithm gives to `run`.

    fabric: the device and the precision. names: of the terms that a step returns. cure: what a user changes when a term
    is no longer finite, as 'lower gan.lr (now 0.1)'.
    """

    fabric: Fabric
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
    def draw(self, epoch: int, step: int) -> Batch:
        """All that a step takes from the host, on the CPU, by name. It depends on (epoch, step) alone, from 0, and may
        be asked for before the step before it was made.
        """

    @abstractmethod
    def update(self, batch: Batch, form: Any) -> torch.Tensor:
        """One update; the batch's terms, len(names) float32, detached, on the device.

        batch: of `draw`, on the device; form: of `form`. It reads nothing else that differs between two steps of one
        form, makes nothing on the CPU and waits for no number.
        """

    def form(self, epoch: int, step: int) -> Hashable:
        """What the host decides in a step: steps of one form do the same work on the device."""
        return ()

    def key(self, epoch: int, step: int) -> tuple[int, ...] | None:
        """The key of torch's own random numbers in `update` (dropout's, say); None where it draws none."""
        return None

    def after(self, epoch: int, step: int) -> None:  # noqa: B027
        """Called after a step: what an update does with a number that differs from step to step."""

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


def _maker(training: Training, label: str) -> Callable[[int, int, bool], torch.Tensor]:
    """A function that makes a step: (epoch, step, whether another follows in the epoch) -> its terms."""
    device, precision = training.fabric.device, training.fabric.strategy.precision.precision
    feed = Feed(training.draw, device)
    steps = graphs.Steps(training.update, training.state, label, graphs=graphs.wanted(device, precision))

    def make(epoch: int, step: int, more: bool) -> torch.Tensor:
        batch, form, key = feed.take(epoch, step), training.form(epoch, step), training.key(epoch, step)
        try:
            terms = steps.make(batch, form, key)
        except RuntimeError as error:
            if "does not have a deterministic implementation" not in str(error):
                raise
            raise ValueError(
                f"{label}: {str(error).split()[0]} has no form on a GPU that gives the same numbers twice; choose "
                "another net, or train on the CPU (CUDA_VISIBLE_DEVICES=)"
            ) from None
        training.after(epoch, step)
        if more:
            feed.prepare(epoch, step + 1)
        return terms

    return make


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
    the term, when a term is no longer finite; and for a net that a GPU does not compute alike twice.
    """
    images = images or steps * batch
    history: list[dict] = []
    recent: list[torch.Tensor] = []  # terms since the last look
    device, precision = training.fabric.device, training.fabric.strategy.precision
    epoch, step, zeros = 0, 0, torch.zeros(len(training.names), device=device)
    sums = zeros
    if kept := checkpoints.load(epochs * steps):
        training.load(kept["training"])
        precision.load_state_dict(kept["scaler"])
        history, (epoch, step), sums = kept["history"], kept["position"], kept["sums"].to(device)
    make = _maker(training, label)

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
        parts = {"training": training.state(), "scaler": precision.state_dict()}  # the scaler is 16-mixed's
        return parts | {"history": history, "position": [epoch, step], "sums": sums}

    def keep() -> None:
        checkpoints.step(whole, epoch * steps + step)

    stopped = training.stop(history) if history and epoch < epochs else None
    with checkpoints, Progress(label, epochs * images, unit) as progress:
        progress.skip(epoch * images + min(step * batch, images))
        while epoch < epochs and not stopped:
            training.start_epoch(epoch)
            while step < steps:
                recent.append(make(epoch, step, step + 1 < steps))
                sums = sums + recent[-1]
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
