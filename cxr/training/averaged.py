"""Trainings of one net that end with the running average of its weights and are validated on nothing."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn, optim

from cxr.training import loop
from cxr.training.average import Average
from cxr.training.machine import restore


class AveragedTraining(loop.Training):
    """What such trainings share. A subclass sets net, model (the net as Fabric wraps it), optimiser, average and steps
    (of an epoch), and gives `draw` and `update`.
    """

    net: nn.Module
    model: nn.Module
    optimiser: optim.Optimizer
    average: Average
    steps: int

    def state(self) -> dict:
        return {
            "net": self.net.state_dict(),
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.average.load(state["average"])
        restore(self.optimiser, state["optimiser"])

    def start_epoch(self, epoch: int) -> None:
        self.model.train()

    def after(self, epoch: int, step: int) -> None:
        self.average.update(epoch * self.steps + step)

    def end_epoch(self, epoch: int, means: dict[str, float], keep: Callable[[], None]) -> dict:
        return means

    def line(self, history: list[dict]) -> str:
        return ""
