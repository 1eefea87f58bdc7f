"""Live curves of a training, for people: $CXR_LOG names who draws them, several joined by commas.

dvclive and tensorboard write beside the training's state, .checkpoints/<stage>/<fingerprint>/live/; mlflow and wandb
send to where their own variables say (MLFLOW_TRACKING_URI, WANDB_MODE). Nothing here reaches a result: it is no out, it
is not part of a fingerprint, it draws no random number, and what goes wrong here is a line and not a failure.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class Logger(Protocol):
    """Takes one row of the history, or one picture (H x W or H x W x 3 uint8), of an epoch."""

    def row(self, epoch: int, values: dict[str, float]) -> None: ...

    def picture(self, epoch: int, picture: np.ndarray) -> None: ...


class DVCLive:
    """metrics.json and plots/ in DVC's own forms."""

    def __init__(self, folder: Path, instance: str) -> None:
        from dvclive import Live

        shutil.rmtree(folder, ignore_errors=True)
        self.live = Live(str(folder), save_dvc_exp=False, dvcyaml=None, monitor_system=False)

    def row(self, epoch: int, values: dict[str, float]) -> None:
        self.live.step = epoch
        for name, value in values.items():
            self.live.log_metric(name, value, timestamp=False)
        self.live.make_summary()

    def picture(self, epoch: int, picture: np.ndarray) -> None:
        self.live.log_image(f"grid-{epoch:04d}.png", picture)


class TensorBoard:
    """An event file."""

    def __init__(self, folder: Path, instance: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))

    def row(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def picture(self, epoch: int, picture: np.ndarray) -> None:
        self.writer.add_image("grid", picture, epoch, dataformats="HW" if picture.ndim == 2 else "HWC")
        self.writer.flush()


class MLflow:
    """A run of MLflow named as the stage's instance."""

    def __init__(self, folder: Path, instance: str) -> None:
        import mlflow

        self.mlflow = mlflow
        mlflow.start_run(run_name=instance)

    def row(self, epoch: int, values: dict[str, float]) -> None:
        self.mlflow.log_metrics(values, step=epoch)

    def picture(self, epoch: int, picture: np.ndarray) -> None:
        self.mlflow.log_image(picture, f"grid-{epoch:04d}.png")


class WandB:
    """A run of Weights & Biases named as the stage's instance, in the group of its stage."""

    def __init__(self, folder: Path, instance: str) -> None:
        import wandb

        self.wandb = wandb
        wandb.init(project="cxr", name=instance, group=instance.partition("@")[0], dir=str(folder.parent))

    def row(self, epoch: int, values: dict[str, float]) -> None:
        self.wandb.log(values, step=epoch)

    def picture(self, epoch: int, picture: np.ndarray) -> None:
        self.wandb.log({"grid": self.wandb.Image(picture)}, step=epoch)


LOGGERS: dict[str, type[Logger]] = {"dvclive": DVCLive, "tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


def chosen() -> list[str]:
    """The names in $CXR_LOG. Raises ValueError for one that is unknown or not installed."""
    names = [name.strip() for name in os.environ.get("CXR_LOG", "").split(",") if name.strip()]
    for name in names:
        if name not in LOGGERS:
            raise ValueError(f"CXR_LOG = {name}: choose from {', '.join(LOGGERS)}, several joined by commas")
        if not importlib.util.find_spec(name):
            raise ValueError(f"CXR_LOG = {name}: it is not installed; pip install {name}")
    return names


class Watch:
    """What `cxr.training.loop` calls after every epoch, with the whole history and all pictures so far.

    It logs what it has not logged: after a resume all from the first epoch, so that the curves are those of an
    uninterrupted training. A logger that fails is left out from there on.
    """

    def __init__(self, names: list[str], folder: Path, instance: str) -> None:
        self.make: dict[str, Callable[[], Logger]] = {
            name: lambda name=name: LOGGERS[name](folder / name, instance) for name in names
        }
        self.loggers: dict[str, Logger] = {}
        self.rows, self.pictures = 0, set[int]()

    def __call__(self, history: list[dict], pictures: dict) -> None:
        rows = [
            (row["epoch"], {name: float(value) for name, value in row.items() if name != "epoch" and finite(value)})
            for row in history[self.rows :]
        ]
        new = {epoch: picture for epoch, picture in sorted(pictures.items()) if epoch not in self.pictures}
        for name in list(self.make):
            try:
                logger = self.loggers.get(name) or self.loggers.setdefault(name, self.make[name]())
                for epoch, values in rows:
                    logger.row(epoch, values)
                for epoch, picture in new.items():
                    logger.picture(epoch, picture.numpy())
            except Exception as error:  # whatever a logger, a full disk or a server does
                print(f"CXR_LOG: {name} stops: {error}", file=sys.stderr, flush=True)
                del self.make[name]
        self.rows = len(history)
        self.pictures |= set(new)


def finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
