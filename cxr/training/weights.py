"""Weights and training states on disk, in the safetensors format (github.com/huggingface/safetensors): no pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from cxr.core.files import atomic, write_json
from cxr.core.formats import Format


def write(path: str | os.PathLike, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors (any device, any strides) and at most one entry of metadata, atomically and fsynced.

    The library writes several entries of metadata in any order, so more than one would not repeat to the byte.
    """
    assert len(metadata or {}) <= 1, metadata
    data = to_bytes(_apart(tensors), metadata)
    with atomic(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors on the CPU, contiguous, no two in one memory: the library refuses these."""
    apart, memories = {}, set()
    for name, value in tensors.items():
        value = value.detach().to("cpu").contiguous()
        memory = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if memory in memories else value
        memories.add(memory)
    return apart


def read(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Named tensors and metadata. Raises ValueError with the file's name when it is torn or not safetensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}); delete it or fetch it again") from None


def save(path: str | os.PathLike, module_state: dict[str, torch.Tensor], meta: Format | dict) -> None:
    """Write weights to `path` (.safetensors), and the net's description to the .json beside it."""
    path = Path(path)
    assert path.suffix == ".safetensors", path
    write(path, module_state)
    write_json(path.with_suffix(".json"), meta)


def load_into(module: torch.nn.Module, path: str | os.PathLike) -> None:
    """Load weights into a net of the same architecture. Raises ValueError with the file and the first tensors that
    differ in name or shape.
    """
    tensors, _ = read(path)
    own = module.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) + [
        n for n in sorted(set(own) & set(tensors)) if own[n].shape != tensors[n].shape
    ]
    if wrong:
        names = ", ".join(wrong[:3])
        raise ValueError(
            f"{path}: weights of another architecture; {len(wrong)} tensors missing, unknown "
            f"or of another shape: {names}; give the file that this net was saved to"
        )
    module.load_state_dict(tensors)


def save_state(path: str | os.PathLike, state: dict) -> None:
    """Write a nest of dicts (string or int keys), lists, tuples, numbers, strings, None and tensors."""
    tensors: dict[str, torch.Tensor] = {}

    def pack(value):
        if isinstance(value, torch.Tensor):
            key = f"{len(tensors):06d}"
            tensors[key] = value
            return {"t": key}
        if isinstance(value, dict):
            return {"d": [[k, pack(v)] for k, v in value.items()]}
        if isinstance(value, list | tuple):
            return {"l": [pack(v) for v in value]}
        assert value is None or isinstance(value, bool | int | float | str), type(value)
        return {"v": value}

    structure = json.dumps(pack(state))
    write(path, tensors, {"state": structure})


def load_state(path: str | os.PathLike) -> dict:
    """The nest that save_state wrote; tuples come back as lists. Raises ValueError for a torn file."""
    tensors, metadata = read(path)
    if "state" not in metadata:
        raise ValueError(f"{path}: holds weights, not a training state")

    def unpack(node):
        ((kind, value),) = node.items()
        if kind == "t":
            return tensors[value]
        if kind == "d":
            return {k: unpack(v) for k, v in value}
        if kind == "l":
            return [unpack(v) for v in value]
        return value

    return unpack(json.loads(metadata["state"]))
