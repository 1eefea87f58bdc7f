"""The repository's folder, and the files that a stage's script may import."""

from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@cache
def _imports():
    import grimp

    return grimp.build_graph("cxr", "stages", exclude_type_checking_imports=True, cache_dir=None)


def closure(script: str) -> set[str]:
    """The files of cxr/ and stages/ that stages/<script>.py may import, itself included, relative to the repository.

    Imports inside functions count. A package's __init__ only says what the package is, so it is none of them.
    """
    name = f"stages.{script}"
    modules = {name, *_imports().find_upstream_modules(name)}
    files = {Path(*module.split(".")).with_suffix(".py") for module in modules}
    return {file.as_posix() for file in files if (ROOT / file).is_file()}
