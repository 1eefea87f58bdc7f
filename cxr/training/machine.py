"""What every training needs of the machine: device and precision, seeds, an optimiser brought back.

Randomness: `generator` and `seeded` derive a stream from a key such as (seed, epoch, step) by a hash, so no stream
depends on what ran before it, on the number of workers, or on whether the run was interrupted.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric
    from torch import nn


def _keep_memory() -> None:
    """Make glibc keep freed memory for the next step, as PyTorch's allocator on a GPU does.

    By default glibc maps every large tensor anew, and its pages are cleared when they are first touched: a tenth to a
    third of a training step on a CPU. Keeping them costs about a tenth more memory at the peak. Without glibc this does
    nothing. glibc reads its environment variables (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_MAX_) before Python runs, so the
    Makefile could set them, but a `dvc repro` by hand, a test or a notebook would run without them.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, where -1 is never, and M_MMAP_MAX
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)


def _prepare() -> bool:
    """Set up deterministic numerics; whether there is a GPU. Raises ValueError for a GPU that can't be used as asked.

    On a GPU an operation without a deterministic form is an error: as a warning it would also make attention take its
    faster form, whose gradient differs from run to run. float32 is IEEE's there: by default cuDNN's convolutions keep
    ten bits of a product's factors (TF32), without a word. What is to be fast is bf16.
    """
    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by deterministic products
    import torch

    from cxr.training import gpu

    found = gpu.check(workspace)
    torch.use_deterministic_algorithms(True, warn_only=not found)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # up to 8 % of a step; nothing reads such memory
    torch.backends.cudnn.benchmark = False
    if found:
        _exact_float32()
    else:
        _keep_memory()
    return found


def _exact_float32() -> None:
    """float32 on a GPU as IEEE has it, without TF32."""
    import torch

    # By the older flags: with the newer ones alone torch refuses to read these, which its own code does.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def device() -> torch.device:
    """A CUDA device or the CPU, deterministic, for a stage that trains nothing: importing Fabric takes seconds."""
    found = _prepare()
    import torch

    return torch.device("cuda" if found else "cpu")


def fabric(precision: str = "auto") -> Fabric:
    """Lightning Fabric on one CUDA device or the CPU, deterministic. Several GPUs are several trainings.

    precision: auto | 32-true | bf16-mixed | 16-mixed. auto is bf16-mixed where the device computes it natively (a GPU
    from Ampere on; a CPU with AVX512-BF16 or AMX, where it is about 3 times as fast), else 32-true. A Mac's GPU (MPS)
    is left alone: it has no float64, and some of its gradients differ from run to run.
    Raises ValueError for a number of devices in $CXR_DEVICES.
    """
    if os.environ.get("CXR_DEVICES", "1") != "1":
        raise ValueError(
            f"CXR_DEVICES = {os.environ['CXR_DEVICES']}: a training uses one GPU, and several GPUs run several "
            "trainings: unset CXR_DEVICES, and start the pipeline with `cxr repro`"
        )
    found = _prepare()
    import torch
    from lightning_fabric import Fabric

    from cxr.training import precision as precisions

    if precision == "auto":
        if found:
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            can = torch.cpu.get_capabilities()
            native = can.get("avx512_bf16", False) or can.get("amx_tile", False)
        precision = "bf16-mixed" if native else "32-true"
    kind = "cuda" if found else "cpu"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # else it advises TF32 in every log
    result = Fabric(accelerator=kind, devices=1, plugins=precisions.plugins(precision, kind))
    result.launch()
    return result


def adam(net: nn.Module, fabric: Fabric, **options: Any) -> torch.optim.Adam:
    """Fused Adam of a net's weights, without those that are frozen. On a GPU it may be part of a CUDA graph
    (cxr/training/graphs.py).
    """
    import torch

    trained = [weight for weight in net.parameters() if weight.requires_grad]
    return torch.optim.Adam(trained, fused=True, capturable=fabric.device.type == "cuda", **options)


def _seed(key: tuple[int, ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr(tuple(int(k) for k in key)).encode()).digest()[:7], "big")


def generator(*key: int) -> torch.Generator:
    """A torch generator on the CPU whose stream depends on the key alone."""
    import torch

    return torch.Generator().manual_seed(_seed(key))


@contextlib.contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Inside the block torch's global streams (CPU and current CUDA device: dropout, initialisation) depend on the key
    alone; restored after.
    """
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_seed(key))
        yield


def restore(optimiser: torch.optim.Optimizer, state: dict) -> None:
    """Load an optimiser's state, each moment in the memory layout of its weight.

    A fused step reads both in the order of their memory, so contiguous moments beside channels_last weights would be
    silently mixed up.
    """
    import torch

    optimiser.load_state_dict(state)
    for weight, moments in optimiser.state.items():
        for name, value in moments.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                moments[name] = torch.empty_like(weight).copy_(value)
