"""The code files that a stage's script may import: what its training's fingerprint holds, and what dvc.yaml lists.

The files' names are the repository's (cxr/core/files.py, stages/gan.py), also where the package was installed from a
wheel, in which stages/ lies inside cxr/.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

STAGES = Path(__file__).resolve().parent
# They pass options and files on, and shape no number: an edit in one of them leaves every result as it is.
PLUMBING = {f"stages/{name}.py" for name in ("cli", "closure", "options", "state")}


def closure(script: Path) -> dict[str, Path]:
    """Every file of cxr/ and stages/ that running `script` may import, itself included, by name, sorted.

    Reads the code, so that an import inside a function counts and a module that happens to be loaded does not.
    """
    folders = {"cxr": _package("cxr"), "stages": STAGES}
    seen: dict[str, Path] = {}
    todo = {f"stages/{script.stem}.py": script.resolve()}
    while todo:
        name, path = todo.popitem()
        seen[name] = path
        todo |= {name: file for name, file in _imports(name, path, folders).items() if name not in seen}
    return {name: seen[name] for name in sorted(seen) if name not in PLUMBING}


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec and spec.submodule_search_locations, name
    return Path(spec.submodule_search_locations[0]).resolve()


def _imports(importer: str, path: Path, folders: dict[str, Path]) -> dict[str, Path]:
    """The files that one file imports. importer: its name, which tells where its relative imports start."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = importer.split("/")[: -node.level] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            modules += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    files: dict[str, Path] = {}
    for module in modules:
        top, *rest = module.split(".")
        if top in folders and rest:  # a package's __init__ only says what the package is: no dependency
            file = folders[top].joinpath(*rest).with_suffix(".py")
            if file.is_file():
                files["/".join([top, *rest]) + ".py"] = file
    return files
