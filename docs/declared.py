"""What the code declares about itself: options of commands, comments of parameter files, models of JSON files."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def read_yaml(path: str) -> dict:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


class Setting(typing.NamedTuple):
    """One option of a command, as its signature declares it. name: with underscores, as in params.yaml."""

    name: str
    kind: str
    default: str
    text: str


def command_names() -> list[str]:
    """Every file in stages/ that is a command, in alphabetical order."""
    files = sorted(path.stem for path in (ROOT / "stages").glob("*.py"))
    return [name for name in files if hasattr(importlib.import_module(f"stages.{name}"), "run")]


@functools.cache
def settings(command: str) -> dict[str, Setting]:
    """Option -> what stages/<command>.py's `run` declares about it."""
    run = importlib.import_module(f"stages.{command}").run
    hints = typing.get_type_hints(run, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(run).parameters.items():
        base, info = hints[name], None
        if typing.get_origin(base) is typing.Annotated:
            base, info = typing.get_args(base)[:2]
        default = "" if parameter.default is inspect.Parameter.empty else written(parameter.default)
        found[name] = Setting(name, kind_of(base, info), default, sentence(getattr(info, "help", None) or ""))
    return found


def kind_of(base: object, info: object) -> str:
    """A type and its range in words, such as `whole number, at least 1`."""
    if isinstance(base, types.UnionType):
        base = next(part for part in typing.get_args(base) if part is not types.NoneType)
    if typing.get_origin(base) is list:
        return f"list of {kind_of(typing.get_args(base)[0], info)}"
    if typing.get_origin(base) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(base))
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}
    low, high = getattr(info, "min", None), getattr(info, "max", None)
    bounds = {
        (False, False): "", (False, True): f", at least {low}", (True, False): f", at most {high}",
        (True, True): f", {low} to {high}",
    }[high is not None, low is not None]  # fmt: skip
    return names.get(base, "text") + bounds


def written(value: object) -> str:
    """A value as params.yaml has it, in code marks. Short floats keep their exponent: 8e-4, not 0.0008."""
    if isinstance(value, list | tuple):
        return "`[" + ", ".join(written(item).strip("`") for item in value) + "]`"
    if isinstance(value, bool) or value is None:
        return f"`{str(value).lower()}`" if value is not None else "`none`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else "`''`"


def sentence(text: str) -> str:
    """Text for a table's cell: one line, without Markdown's own characters, a capital at the start."""
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    text = re.sub(r"^([\w&;>]+\.(?:json|csv|parquet|safetensors))\b", r"`\1`", text)
    return text[:1].upper() + text[1:]


def remark(text: str) -> str:
    """A parameter's comment as a cell; a value before a colon, as in `kid: the lowest KID`, is in code marks."""
    return sentence(re.sub(r"(^|[.;] )([a-z0-9_.]+):", r"\1`\2`:", text))


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def comments(path: str) -> dict[tuple[str, str], str]:
    """(section, key) -> the comment behind that line of a parameter file; the key of a section's own line is empty."""
    section, found = "", {}
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        code, _, comment = line.partition(" # ")
        if match := re.match(r"(\w+):", code):
            section = match.group(1)
            found[section, ""] = comment
        elif match := re.match(r"  (\w+):", code):
            found[section, match.group(1)] = comment
    return found


def models() -> Iterator[type]:
    """Every pydantic model of cxr/*/formats.py that has fields, package by package, in the order of the file."""
    from pydantic import BaseModel

    for path in sorted((ROOT / "cxr").glob("*/formats.py")):
        name = f"cxr.{path.parent.name}.formats"
        for value in vars(importlib.import_module(name)).values():
            own = inspect.isclass(value) and issubclass(value, BaseModel) and value.__module__ == name
            if own and value.model_fields:
                yield value


def annotation(kind: object) -> str:
    """A type as a cell: `int`, `dict[str, float]`, without the names of modules."""
    text = kind.__name__ if inspect.isclass(kind) and not typing.get_args(kind) else str(kind)
    text = re.sub(r"Literal\[('\w+', '\w+'), .{60,}?\]", r"Literal[\1, ...]", text)
    return "`" + re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text).replace("|", "or") + "`"
