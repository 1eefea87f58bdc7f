"""Live curves of a training, for people: $CXR_LOG names who draws them, several joined by commas.

tensorboard writes beside the training's state, .checkpoints/<stage>/<fingerprint>/live/. dvclive writes into live/,
which git ignores and DVC reads (live/dvc.yaml): DVC sees no plot in a folder that .dvcignore names. mlflow and wandb
send to where their own variables say (MLFLOW_TRACKING_URI, WANDB_MODE). Nothing here reaches a result: it is no out, it
is not part of a fingerprint, it draws no random number, and what goes wrong here is a line and not a failure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .cli import at_end, root

if TYPE_CHECKING:
    import numpy as np

Outcome = Literal["finished", "killed", "failed"]


class Logger(Protocol):
    """Takes the rows of the history and the pictures (H x W or H x W x 3 uint8), in the order of their epochs, and is
    told how the training ended.
    """

    def row(self, epoch: int, values: dict[str, float]) -> None: ...

    def picture(self, epoch: int, picture: np.ndarray) -> None: ...

    def end(self, outcome: Outcome) -> None: ...


class DVCLive:
    """live/metrics/<stage>/<fingerprint>.json and live/plots/<stage>/<fingerprint>/, in DVC's own forms."""

    def __init__(self, state: Path, instance: str) -> None:
        from dvclive import Live

        plots = root() / "live" / "plots" / instance / state.name
        metrics = root() / "live" / "metrics" / instance / f"{state.name}.json"

        class Apart(Live):  # its own places are in one folder, and DVC takes all files of a folder for one kind
            plots_dir, metrics_file = str(plots), str(metrics)

        shutil.rmtree(plots, ignore_errors=True)
        self.live = Apart(str(plots), save_dvc_exp=False, dvcyaml=None, monitor_system=False)

    def row(self, epoch: int, values: dict[str, float]) -> None:
        self.live.step = epoch
        for name, value in values.items():
            self.live.log_metric(name, value, timestamp=False)
        self.live.next_step()

    def picture(self, epoch: int, picture: np.ndarray) -> None:
        self.live.log_image(f"grid/{epoch}.png", picture)  # the names that make a slider in VS Code

    def end(self, outcome: Outcome) -> None:
        self.live.end()


class TensorBoard:
    """An event file."""

    def __init__(self, state: Path, instance: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = state / "live" / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))

    def row(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def picture(self, epoch: int, picture: np.ndarray) -> None:
        self.writer.add_image("grid", picture, epoch, dataformats="HW" if picture.ndim == 2 else "HWC")
        self.writer.flush()

    def end(self, outcome: Outcome) -> None:
        self.writer.close()


class MLflow:
    """A run of MLflow named as the stage's instance."""

    def __init__(self, state: Path, instance: str) -> None:
        import mlflow

        self.mlflow = mlflow
        mlflow.start_run(run_name=instance)

    def row(self, epoch: int, values: dict[str, float]) -> None:
        self.mlflow.log_metrics(values, step=epoch)

    def picture(self, epoch: int, picture: np.ndarray) -> None:
        self.mlflow.log_image(picture, f"grid-{epoch:04d}.png")

    def end(self, outcome: Outcome) -> None:
        self.mlflow.end_run(outcome.upper())


class WandB:
    """A run of Weights & Biases named as the stage's instance, in the group of its stage."""

    def __init__(self, state: Path, instance: str) -> None:
        import wandb

        folder = state / "live"
        folder.mkdir(parents=True, exist_ok=True)  # wandb writes elsewhere where it is missing
        self.image = wandb.Image
        self.run = wandb.init(project="cxr", name=instance, group=instance.partition("@")[0], dir=str(folder))

    def row(self, epoch: int, values: dict[str, float]) -> None:
        self.run.log(values, step=epoch)

    def picture(self, epoch: int, picture: np.ndarray) -> None:
        self.run.log({"grid": self.image(picture)}, step=epoch)  # what is of an earlier step than the last is dropped

    def end(self, outcome: Outcome) -> None:
        self.run.finish(exit_code=int(outcome != "finished"))


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

    It logs what it has not logged, epoch by epoch: after a resume all from the first epoch, so that the curves are
    those of an uninterrupted training. A logger that fails is left out from there on. The loggers end when the `with`
    block of a Watch ends, and in it SIGTERM ends the process by SystemExit, so that they end then too.

    state: the folder of the training's state, <stage>/<fingerprint>.
    """

    def __init__(self, names: list[str], state: Path, instance: str) -> None:
        self.make: dict[str, Callable[[], Logger]] = {
            name: lambda name=name: LOGGERS[name](state, instance) for name in names
        }
        self.loggers: dict[str, Logger] = {}
        self.rows, self.seen = 0, set[int]()
        self.pictures: dict[int, Any] = {}  # the training's own: a GAN's last picture comes after its last epoch

    def __enter__(self) -> Watch:
        self.handler: Any = None
        with contextlib.suppress(ValueError):  # not the main thread
            self.handler = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self._log([])
            for name, logger in list(self.loggers.items()):
                with self._guard(name):
                    logger.end(outcome(error))
        finally:
            self.loggers.clear()
            if self.handler is not None:
                signal.signal(signal.SIGTERM, self.handler)

    def __call__(self, history: list[dict], pictures: dict) -> None:
        self.pictures = pictures
        for name in [name for name in self.make if name not in self.loggers]:
            with self._guard(name):
                self.loggers[name] = self.make[name]()
        self._log(history[self.rows :])
        self.rows = len(history)

    def _log(self, history: list[dict]) -> None:
        """Log these rows and the pictures that are new, epoch by epoch."""
        rows = {
            row["epoch"]: {name: float(value) for name, value in row.items() if name != "epoch" and finite(value)}
            for row in history
        }
        new = self.pictures.keys() - self.seen
        for name, logger in list(self.loggers.items()):
            with self._guard(name):
                for epoch in sorted(rows.keys() | new):
                    if epoch in rows:
                        logger.row(epoch, rows[epoch])
                    if epoch in new:
                        logger.picture(epoch, self.pictures[epoch].numpy())
        self.seen |= new

    @contextlib.contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        """Whatever a logger, a full disk or a server does is one line, and the end of this logger."""
        try:
            yield
        except Exception as error:
            print(f"CXR_LOG: {name} stops: {error}", file=sys.stderr, flush=True)
            del self.make[name]
            if logger := self.loggers.pop(name, None):
                with contextlib.suppress(Exception):
                    logger.end("failed")


def watch(names: list[str], state: Path, instance: str) -> Watch:
    """A Watch whose loggers end with the command, or before the next training of this process."""
    at_end.close()
    return at_end.enter_context(Watch(names, state, instance))


def outcome(error: BaseException | None) -> Outcome:
    """How a training ended that left its `with` block by this exception."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return "finished" if not code else "killed" if code > 128 else "failed"
    return "finished" if error is None else "failed"


def finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
