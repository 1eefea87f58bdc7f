"""The import closure of a file inside this repository, by reading the code: lazy imports inside functions count too."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cxr", "stages")


def _files_of(module: str) -> list[Path]:
    """The file of a dotted name, if it is one of ours; a package's __init__ only says what the package is, so it is
    none.
    """
    path = ROOT.joinpath(*module.split("."))
    return [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else []


def imports(path: Path) -> set[Path]:
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.update(_files_of(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            found.update(_files_of(node.module))
            for alias in node.names:
                found.update(_files_of(f"{node.module}.{alias.name}"))
    return found


def closure(path: Path) -> list[str]:
    """Every file of the repository that running `path` may import, itself included, sorted, relative to the root."""
    seen: set[Path] = set()
    todo = {path.resolve()}
    while todo:
        current = todo.pop()
        seen.add(current)
        todo |= imports(current) - seen
    return sorted(p.relative_to(ROOT).as_posix() for p in seen)


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:]:
        print(name, *closure(ROOT / "stages" / f"{name}.py"), sep="\n  ")
