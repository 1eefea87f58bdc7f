"""Which GPUs a process may use, and whether this torch can use them. torch is imported where it is asked: `cxr repro`
asks for the GPUs alone, and starts at once.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder with an entry a GPU, where NVIDIA's driver is loaded
HIDDEN = ("", "-1", "none", "NoDevFiles")  # names in $CUDA_VISIBLE_DEVICES at which CUDA stops: each hides the rest
WORKSPACES = (":4096:8", ":16:8")  # of cuBLAS, with which its products repeat


def visible() -> list[str]:
    """The GPUs that this process may use, as $CUDA_VISIBLE_DEVICES names them; where it is not set, all by number."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return [str(number) for number in range(_present())]
    return list(itertools.takewhile(lambda name: name not in HIDDEN, (name.strip() for name in named.split(","))))


def check(workspace: str) -> bool:
    """Whether a training runs on a GPU: on the first of $CUDA_VISIBLE_DEVICES. workspace: $CUBLAS_WORKSPACE_CONFIG.

    Raises ValueError, with the cure, for a GPU that nobody hid and that this torch can't use. It would otherwise be a
    silent run on the CPU, for weeks, or an error in the first kernel.
    """
    import torch

    if not torch.cuda.is_available():
        if _present() and visible():
            raise ValueError(
                f"a GPU is here ({DRIVER}), and torch {torch.__version__} can't use it: {_why()}, or set "
                "CUDA_VISIBLE_DEVICES= (to nothing) to mean the CPU"
            )
        return False
    major, minor = torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    if not runs(major, minor, built):
        raise ValueError(
            f"{torch.cuda.get_device_name()} is of architecture sm_{major}{minor}, and torch {torch.__version__} has "
            f"kernels for {', '.join(built)}: install a torch built for it (pytorch.org lists the builds), take "
            "another GPU, or set CUDA_VISIBLE_DEVICES= (to nothing) to mean the CPU"
        )
    if workspace not in WORKSPACES:
        raise ValueError(
            f"CUBLAS_WORKSPACE_CONFIG = {workspace}: with it matrix products differ from run to run; set it to "
            f"{' or '.join(WORKSPACES)}, or unset it"
        )
    return True


def runs(major: int, minor: int, built: Iterable[str]) -> bool:
    """Whether a GPU of compute capability major.minor runs kernels built for these architectures.

    sm_86 runs what was built for sm_80: the same major number and a lower minor one. compute_80 is compiled when it is
    first used, on any later GPU. sm_90a is for that GPU alone.
    """
    for name in built:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if not match:
            continue
        kind, its_major, its_minor, only = match[1], int(match[2]), int(match[3]), match[4]
        if only == "a":
            fits = (its_major, its_minor) == (major, minor)
        elif kind == "compute":
            fits = (its_major, its_minor) <= (major, minor)
        else:
            fits = its_major == major and its_minor <= minor
        if fits:
            return True
    return False


def _present() -> int:
    return len(list(DRIVER.iterdir())) if DRIVER.is_dir() else 0


def _why() -> str:
    import torch

    if torch.version.cuda is None:
        return "it was built without CUDA; install a build with CUDA"
    return f"it was built for CUDA {torch.version.cuda}; install a driver that has it (CUDA 13 needs R580 or newer)"
