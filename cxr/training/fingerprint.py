"""What shapes a training's result: a state is only loaded under the same fingerprint.

{"inputs": {name: sum of its content}, "code": {file: digest}, "params": options, "machine": its kind}. The code is what
a stage may use of this package, as syntax trees. What shapes no result does not count: comments, docstrings, the words
of errors and descriptions, the ranges of settings, the names of modules, and options at the values that change nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, TypeGuard

import cxr

PACKAGE = Path(cxr.__file__).resolve().parent


def without_neutral(params: dict, neutral: dict) -> dict:
    """The options that change something. neutral: {option: the value at which it changes nothing}.

    A new option that is neutral by default leaves every training's state valid.
    """
    return {name: value for name, value in params.items() if name not in neutral or neutral[name] != value}


def code(script: Path, unused: Collection[str] = (), package: Path = PACKAGE) -> dict[str, str]:
    """Digest of every file of `package` that `script`, itself left out, may use, by its path from the package's parent.

    unused: options at neutral values. It is read from the code, so imports inside functions count, and modules that
    happen to be loaded do not.
    """
    script = Path(script).resolve()
    reduced: dict[Path, _Reduced] = {}
    todo = {script}
    while todo:
        file = todo.pop()
        reduced[file] = _Reduced(file, unused, package)
        todo |= {target.file for target in reduced[file].targets} - reduced.keys()
    digests: dict[str, str] = {}
    for file in sorted(reduced.keys() - {script}):
        # A target by what it defines: that tells it from another module, whatever its name is.
        targets = [(reduced[target.file].defines, target.attribute) for target in reduced[file].targets]
        text = repr((reduced[file].text, targets))
        digests[file.relative_to(package.parent).as_posix()] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def mark(fingerprint: dict) -> str:
    """A fingerprint's short name, 16 hexadecimal digits. The names of its files do not count."""
    counted = fingerprint | {"code": sorted(fingerprint.get("code", {}).values())}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:16]


class _Target(NamedTuple):
    """What an imported name stands for: an attribute of a module, '' for the module itself."""

    file: Path
    attribute: str


class _Reduced(ast.NodeTransformer):
    """A file's syntax tree without what shapes no result. An imported name becomes its number in order of first use.

    text: the tree. targets: what the numbers stand for. defines: the names of the file's classes and functions.
    """

    def __init__(self, file: Path, unused: Collection[str], package: Path) -> None:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        self.unused, self.package = unused, package
        self.imported: dict[str, _Target] = {}
        for node in ast.walk(tree):
            if self._is_own_import(node):
                self.imported |= self._bound(node)
        self.used: list[str] = []
        self.defines = sorted(n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef))
        self.text = ast.dump(self.visit(tree))
        self.targets = [self.imported[name] for name in self.used]

    def _is_own_import(self, node: ast.AST) -> TypeGuard[ast.Import | ast.ImportFrom]:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        return any(name.split(".")[0] == self.package.name for name in names)

    def _bound(self, node: ast.Import | ast.ImportFrom) -> dict[str, _Target]:
        """The names that an import binds. A package's __init__ only says what the package is, so it is no module."""

        def file_of(name: str) -> Path:
            return self.package.parent.joinpath(*name.split(".")).with_suffix(".py")

        bound = {}
        for alias in node.names:
            module = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            target = _Target(file_of(module), "")
            if isinstance(node, ast.ImportFrom) and not target.file.is_file():
                target = _Target(file_of(node.module or ""), alias.name)
            if target.file.is_file():
                bound[alias.asname or alias.name] = target
        return bound

    def _is_unused(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr in self.unused

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
        return super().generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        return None if self._is_own_import(node) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if self._is_own_import(node) else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.imported:
            if node.id not in self.used:
                self.used.append(node.id)
            node.id = f"import {self.used.index(node.id)}"
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func  # what it says does not count
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Without what is printed."""
        printed = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "print"
        return None if printed else self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        """Without a setting's words and range: its value counts, among the parameters."""
        return None if node.arg in ("description", "ge", "le") else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        """Without the tables of neutral values."""
        return None if ast.unparse(node.targets[0]) == "NEUTRAL" else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """Without the fields of unused options."""
        return None if ast.unparse(node.target) in self.unused else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """`if settings.option:` of an unused option is its `else`."""
        if self._is_unused(node.test):
            return [self.visit(line) for line in node.orelse]
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self.visit(node.orelse) if self._is_unused(node.test) else self.generic_visit(node)
