"""What every training needs of the machine: device and precision, seeds, and a state that survives.

Randomness: `generator` and `seeded` derive a stream from a key such as (seed, epoch, step) by a hash, so no stream
depends on what ran before it, on the number of workers, or on whether the run was interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.files import atomic

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric


def _fabric_class() -> type[Fabric]:
    """From lightning-fabric, which imports in half the time of the whole lightning package; from that where it is what
    the machine has.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        from lightning.fabric import Fabric
    return Fabric


def fabric(precision: str = "auto") -> Fabric:
    """A launched Lightning Fabric on this machine's accelerator, deterministic.

    precision: auto | 32-true | bf16-mixed. auto is bf16-mixed where the device computes it natively (a GPU from Ampere
    on; a CPU with AVX512-BF16 or AMX, where it is about 3 times as fast), else 32-true. The number of devices is
    $CXR_DEVICES (default 1).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by deterministic matrix products on CUDA
    import torch

    Fabric = _fabric_class()
    if precision == "auto":
        if torch.cuda.is_available():
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        precision = "bf16-mixed" if native else "32-true"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    result = Fabric(accelerator="auto", devices=int(os.environ.get("CXR_DEVICES", "1")), precision=precision)
    result.launch()
    return result


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


class Checkpoints:
    """A training's whole state, kept outside the stage's outs: DVC deletes those before it runs a stage.

    folder: one per stage instance. fingerprint: everything that shapes the result except how long the training goes on;
    a state under another fingerprint is never loaded. The newest two states are kept; each is written to a temporary
    name, fsynced and renamed. A state is a nest of dicts, lists, numbers, strings and tensors. SIGTERM and Ctrl-C let
    the current step end, save and exit.
    """

    def __init__(self, folder: str | os.PathLike, fingerprint: dict, minutes: float = 5.0) -> None:
        text = json.dumps(fingerprint, sort_keys=True, default=str)
        self.folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.description = text
        self.minutes = minutes
        self.saved = time.monotonic()
        self.signal: int | None = None
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Checkpoints:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):  # not the main thread: a test's; then the default handling stays
                self._handlers[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame) -> None:
        self.signal = number

    def _states(self, at_most: int) -> list[Path]:
        paths = sorted(self.folder.glob("state-*.safetensors"))
        return [path for path in paths if int(path.stem.removeprefix("state-")) <= at_most]

    def load(self, at_most: int) -> dict | None:
        """The newest whole state after at most so many steps, or None. A torn file is skipped with a line that says
        so.
        """
        from cxr import weights

        for path in reversed(self._states(at_most)):
            try:
                state = weights.load_state(path)
            except ValueError as error:
                print(f"checkpoint skipped: {error}", file=sys.stderr, flush=True)
                continue
            print(f"continues from {path.parent.name}/{path.name}", file=sys.stderr, flush=True)
            return state
        return None

    def save(self, state: dict, position: int) -> None:
        """Keep `state` as reached after `position` steps (an int that grows with training)."""
        from cxr import weights

        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.folder / "fingerprint.json") as temporary:
            temporary.write_text(self.description + "\n", encoding="utf-8")
        weights.save_state(self.folder / f"state-{position:012d}.safetensors", state)
        for old in self._states(position)[:-2]:  # what a longer training left beyond this position stays
            old.unlink()
        self.saved = time.monotonic()

    def step(self, state: Callable[[], dict], position: int) -> None:
        """Call after every step: saves when `minutes` have passed since the last time, or when a signal asked this
        process to end (and then exits).
        """
        if self.signal is None and time.monotonic() - self.saved < 60 * self.minutes:
            return
        self.save(state(), position)
        if self.signal is not None:
            print(
                f"stopped by {signal.Signals(self.signal).name}; the same command continues from here",
                file=sys.stderr,
                flush=True,
            )
            raise SystemExit(128 + self.signal)


def restore(optimiser: torch.optim.Optimizer, state: dict) -> None:
    """Load an optimiser's state, each moment in the memory layout of its weight.

    A fused step walks both in the order of their memory: contiguous moments beside channels_last weights would be mixed
    up silently.
    """
    import torch

    optimiser.load_state_dict(state)
    for weight, moments in optimiser.state.items():
        for name, value in moments.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                moments[name] = torch.empty_like(weight).copy_(value)
