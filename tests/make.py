"""Small artefacts that several tests need."""

import types
import typing
from pathlib import Path

import pandas as pd

from cxr.core.files import sha256, write_json, write_table
from cxr.core.formats import Format
from cxr.core.guard import SPLIT


def write_split(folder: Path, table: pd.DataFrame, by: str = "patient", **info) -> str:
    """A split's folder, as the split stage writes it; the sha256 of its table."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / SPLIT, table)
    digest = sha256(folder / SPLIT)
    write_json(folder / "split.json", {"by": by, "sha256": digest, **info})
    return digest


def example(model: type[Format], **values) -> dict:
    """A JSON object of this format: the values given, and plain ones for its other required fields."""
    required = {name: field for name, field in model.model_fields.items() if field.is_required()}
    return {name: values[name] if name in values else _in_range(field) for name, field in required.items()} | values


def _in_range(field):
    value, least = _plain(field.annotation), [rule.ge for rule in field.metadata if hasattr(rule, "ge")]
    return max(value, *least) if least and value is not None else value


def _plain(kind):
    outer, inner = typing.get_origin(kind), typing.get_args(kind)
    if outer in (typing.Union, types.UnionType):
        return None if type(None) in inner else _plain(inner[0])
    if outer is typing.Literal:
        return inner[0]
    if outer in (list, dict):
        return outer()
    return example(kind) if issubclass(kind, Format) else {int: 1, float: 0.5, str: "", bool: False}[kind]
