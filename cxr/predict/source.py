"""The image files that a user names: one file, a folder, a .zip, or a list of paths."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from cxr.data.sources.archive import Folder, Tree, Zip

LISTS = (".txt", ".lst")
# Files of other kinds that lie among images; anything else is tried.
OTHERS = frozenset(
    ".csv .db .doc .docx .gz .htm .html .ini .json .jsonl .log .md .npy .parquet .pdf .py .rtf .tar .tsv .txt .xls "
    ".xlsx .xml .yaml .yml .zip".split()
)


class Files(Tree):
    """Files at paths that the user lists, each named as it is listed."""

    kind = "list"

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(Path())
        self._names = frozenset(paths)

    def size(self, name: str) -> int:
        if not Path(name).is_file():
            raise ValueError(f"{name}: no such file")
        return Path(name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        return open(name, "rb")


class Source(NamedTuple):
    """names: of the files to predict, in their order; skipped: number of files of other kinds, which are left out."""

    tree: Tree
    names: list[str]
    skipped: int


def open_source(source: str, lines: Sequence[str] = ()) -> Source:
    """The files of a source. source: a path, or - for the paths in `lines`.

    A folder or a .zip gives the files that may be images, sorted; a list gives every path once, in its order, relative
    paths from the current folder. Raises ValueError for a source that does not exist or is empty.
    """
    path = Path(source).expanduser()
    if source == "-":
        tree, names = _listed(lines)
    elif path.is_dir():
        tree, names = Folder(path), None
    elif not path.is_file():
        raise ValueError(f"{source}: no such file or folder; give a file, a folder, a .zip, a list (.txt), or -")
    elif path.suffix.lower() in LISTS:
        tree, names = _listed(path.read_text(encoding="utf-8-sig").splitlines())
    elif path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        tree, names = Zip(path), None
    else:
        tree, names = _listed([source if source == str(path) else str(path)])
    skipped = 0
    if names is None:
        everything = sorted(tree.names())
        names = [name for name in everything if _may_be_image(name)]
        skipped = len(everything) - len(names) + len(tree.left_out())
    if not names:
        raise ValueError(f"{source}: no image file in it ({skipped} files of other kinds)")
    return Source(tree, names, skipped)


def _listed(lines: Sequence[str]) -> tuple[Tree, list[str]]:
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    return Files(names), names


def _may_be_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() not in OTHERS and path.name.upper() != "DICOMDIR" and not path.name.startswith(".")
