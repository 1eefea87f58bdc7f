"""What the training stages share: where their state is kept, and under which fingerprint."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from stages.cli import state_dir

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cxr.training.checkpoints import Checkpoints

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cxr", "stages")


def closure(script: Path) -> list[Path]:
    """Every file of this repository that running `script` may import, itself included, sorted. Found by reading the
    code, so that imports inside functions count, and modules that happen to be loaded do not.
    """
    seen: set[Path] = set()
    todo = {script.resolve()}
    while todo:
        current = todo.pop()
        seen.add(current)
        todo |= _imports(current) - seen
    return sorted(seen)


def _imports(path: Path) -> set[Path]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    # A package's __init__ only says what the package is, so it is none of them.
    files = (ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.split(".")[0] in PACKAGES)
    return {file for file in files if file.is_file()}


def training_state(
    script: str,
    instance: str,
    fabric: Fabric,
    inputs: dict[str, Path],
    params: dict,
    minutes: float,
    state: Path | None = None,
) -> Checkpoints:
    """The checkpoints of one stage instance (gan@lung_lesion, say), under a fingerprint of everything that shapes the
    result but its length: the inputs' content, the code that `script` may import, the parameters, the kind of machine.
    """
    import torch

    from cxr.core.files import sha256
    from cxr.training.checkpoints import Checkpoints

    fingerprint = {
        "inputs": {name: sha256(path) for name, path in inputs.items()},
        "code": {file.relative_to(ROOT).as_posix(): sha256(file) for file in closure(Path(script))},
        "params": params,
        "machine": {
            "device": fabric.device.type,
            "devices": fabric.world_size,
            "precision": str(fabric._precision.precision),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
    }
    folder = (state or state_dir()) / instance
    return Checkpoints(folder, fingerprint, minutes, writes=fabric.is_global_zero)
