"""What shapes a training's result: a state is only loaded under the same fingerprint.

{"inputs": sums of the inputs' content, "code": {file: digest}, "params": options, "machine": its kind}. The code is the
project's own modules that a stage may import, each as its syntax tree. Left out is what shapes no result: comments,
docstrings, what errors say, the modules' names, and options at the values that change nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import cxr

PACKAGE = Path(cxr.__file__).resolve().parent


def closure(script: Path, package: Path = PACKAGE) -> list[Path]:
    """Every file of `package` that running `script` may import, sorted; the script itself only when it is one of them.

    It is read from the code, so imports inside functions count, and modules that happen to be loaded do not.
    """
    seen: set[Path] = set()
    todo = {Path(script).resolve()}
    while todo:
        file = todo.pop()
        seen.add(file)
        todo |= {target for target, _ in _imports(_parsed(file), package).values()} - seen
    return sorted(file for file in seen if file.is_relative_to(package))


def code(script: Path, package: Path = PACKAGE) -> dict[str, str]:
    """Digest of each file of the script's closure, by its path from the package's parent."""
    return {file.relative_to(package.parent).as_posix(): _digest(file, package) for file in closure(script, package)}


def mark(fingerprint: dict) -> str:
    """A fingerprint's short name, 16 hexadecimal digits. The files' names do not count, so a renamed file keeps it."""
    counted = fingerprint | {"code": sorted(fingerprint.get("code", {}).values())}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:16]


def without_neutral(params: dict, neutral: dict) -> dict:
    """The options that change something. neutral: {option: value at which a training is as if it did not exist}.

    A new option whose default is neutral so leaves every training's state valid.
    """
    return {name: value for name, value in params.items() if name not in neutral or neutral[name] != value}


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _imports(tree: ast.AST, package: Path) -> dict[str, tuple[Path, str]]:
    """What the imports of `package` bind: {name: (the module's file, what of it, '' for the whole)}.

    A package's __init__ only says what the package is, so it is no module.
    """
    bound: dict[str, tuple[Path, str]] = {}

    def file_of(name: str) -> Path:
        return package.parent.joinpath(*name.split(".")).with_suffix(".py")

    for node in ast.walk(tree):
        if not _is_own(node, package):
            continue
        for alias in node.names:
            if isinstance(node, ast.Import):
                target, attribute = file_of(alias.name), ""
            elif (target := file_of(f"{node.module}.{alias.name}")).is_file():
                attribute = ""
            else:
                target, attribute = file_of(node.module), alias.name
            if target.is_file():
                bound[alias.asname or alias.name] = target, attribute
    return bound


def _is_own(node: ast.AST, package: Path) -> bool:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == package.name
    return isinstance(node, ast.Import) and node.names[0].name.split(".")[0] == package.name


class _Reduced(ast.NodeTransformer):
    """Removes what shapes no result, and replaces each imported name by its number in order of first use."""

    def __init__(self, imports: dict[str, tuple[Path, str]], package: Path) -> None:
        self.imports, self.package = imports, package
        self.used: list[str] = []  # imported names

    def generic_visit(self, node: ast.AST) -> ast.AST:
        body = getattr(node, "body", None)
        if isinstance(body, list) and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                body = body[1:]
        if isinstance(body, list):
            node.body = [line for line in body if not _is_own(line, self.package)] or [ast.Pass()]
        return super().generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func  # without what it says
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.imports:
            if node.id not in self.used:
                self.used.append(node.id)
            node.id = f"import {self.used.index(node.id)}"
        return node


def _digest(file: Path, package: Path) -> str:
    """Of the reduced tree, and of what each of the imported names stands for."""
    tree = _parsed(file)
    imports = _imports(tree, package)
    reduced = _Reduced(imports, package)
    text = ast.dump(reduced.visit(tree))
    meanings = [(_defines(imports[name][0]), imports[name][1]) for name in reduced.used]
    return hashlib.sha256(repr((text, meanings)).encode()).hexdigest()


def _defines(file: Path) -> list[str]:
    """The names of a module's classes and functions: what tells it from another whatever it is called."""
    return sorted(n.name for n in _parsed(file).body if isinstance(n, ast.ClassDef | ast.FunctionDef))
