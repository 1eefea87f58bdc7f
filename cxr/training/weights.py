"""Weights and training state on disk, without pickle: the safetensors format (github.com/huggingface/safetensors).

A file is an 8-byte little-endian header length, a JSON header {name: {dtype, shape, data_offsets}, "__metadata__":
{...}}, then the raw little-endian bytes of the tensors. It is written here, in a page, so that a training runs on a
machine that has torch alone; the tests compare it with the safetensors library in both directions.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from cxr.core.files import atomic, write_json
from cxr.core.formats import Format

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write(path: str | os.PathLike, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors (any device, any strides), sorted by name, atomically and fsynced."""
    header: dict = {"__metadata__": metadata} if metadata else {}
    arrays = []
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu").contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + raw.nbytes],
        }
        offset += raw.nbytes
        arrays.append(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for raw in arrays:
                file.write(raw.data)
            file.flush()
            os.fsync(file.fileno())


def read(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Named tensors and metadata. Raises ValueError, naming the file, when it is torn or not safetensors."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        body = memoryview(raw)[8 + length :]
        if len(body) != max((entry["data_offsets"][1] for entry in header.values()), default=0):
            raise ValueError("its length is not what its header says")
        tensors = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            if not 0 <= start <= end:
                raise ValueError(f"{name} lies at {start} to {end}")
            dtype = _DTYPES[entry["dtype"]]
            flat = (
                torch.frombuffer(bytearray(body[start:end]), dtype=dtype)
                if end > start
                else torch.empty(0, dtype=dtype)
            )
            tensors[name] = flat.reshape(entry["shape"])
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}); delete it or fetch it again") from None
    return tensors, metadata


def save(path: str | os.PathLike, module_state: dict[str, torch.Tensor], meta: Format | dict) -> None:
    """Weights at `path` (.safetensors) and beside them, as .json, what rebuilds the net and what it was made from."""
    path = Path(path)
    assert path.suffix == ".safetensors", path
    write(path, module_state)
    write_json(path.with_suffix(".json"), meta)


def load_into(module: torch.nn.Module, path: str | os.PathLike) -> None:
    """Load weights into a net of the same architecture. Raises ValueError, naming file and first differences, when
    they do not fit.
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
    """The nest that save_state wrote (tuples come back as lists). Raises ValueError for a torn file."""
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
