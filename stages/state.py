"""Where a training stage keeps its state, and under which fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import live
from .cli import state_dir

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cxr.training.checkpoints import Checkpoints


def training_state(
    script: str,
    instance: str,
    fabric: Fabric,
    inputs: dict[str, Path],
    params: dict,
    minutes: float,
    state: Path | None = None,
    neutral: dict | None = None,
) -> Checkpoints:
    """The checkpoints of one stage instance (gan@lung_lesion, say), under a fingerprint of everything that shapes the
    result but its length.

    script: the stage's file, whose imports from cxr are the code that counts. neutral: {option: value at which it
    changes nothing}. minutes: between two saves.
    """
    import torch

    from cxr.core.store import content
    from cxr.training import fingerprint
    from cxr.training.checkpoints import Checkpoints

    gpu = fabric.device.type == "cuda"
    cpu = {"threads": torch.get_num_threads(), "instructions": torch.backends.cpu.get_cpu_capability()}
    neutral = neutral or {}
    shaping = fingerprint.without_neutral(params, neutral)
    unused = {name for name, value in neutral.items() if not value and name not in shaping}  # their branches don't run
    parts = {
        "inputs": {name: content(path) for name, path in inputs.items()},
        "code": fingerprint.code(Path(script), unused),
        "params": shaping,
        "machine": {
            "device": torch.cuda.get_device_name(fabric.device) if gpu else fabric.device.type,
            "precision": fabric.strategy.precision.precision,
            "torch": torch.__version__,
        }
        | ({"cudnn": torch.backends.cudnn.version()} if gpu else cpu),
    }
    checkpoints = Checkpoints((state or state_dir()) / instance, parts, minutes)
    if loggers := live.chosen():
        checkpoints.watch = live.watch(loggers, checkpoints.folder, instance)
    return checkpoints
