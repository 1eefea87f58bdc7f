"""The image files that a user names: one file, a folder, a .zip, or a list of paths, and what is left out of them."""

from __future__ import annotations

import codecs
import functools
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NamedTuple

from cxr.data.decode import begins_as_image
from cxr.data.sources.archive import LINKS, Folder, Tree, Zip
from cxr.predict.outputs import is_written

LISTS = (".txt", ".lst")
IMAGES = frozenset(
    ".avif .bmp .dcm .dic .dicom .gif .heic .heif .ima .img .j2k .jfif .jp2 .jpe .jpeg .jpg .jxl .mha .mhd .nii .nrrd "
    ".png .tif .tiff .webp".split()
)
# Files of other kinds that lie among images.
OTHERS = frozenset(
    ".csv .db .doc .docx .htm .html .ini .json .jsonl .log .md .npy .parquet .pdf .py .rtf .tsv .txt .xls .xlsx .xml "
    ".yaml .yml".split()
)
ARCHIVES = frozenset(".7z .rar .tar .tgz .zip".split())
PACKED = frozenset(".bz2 .gz .xz .zst".split())  # of one file, whose own suffix stands before it
STARTS = 512  # bytes of a file that say whether it is an image
EXAMPLES = 3  # names of what is left out
# What a tool can't print or hold in a table: control characters, ends of lines, bytes that are no UTF-8.
UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Kind = Literal["image", "other", "archive", "unknown"]


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


class LeftOut(NamedTuple):
    """Files or folders that are not predicted. what: they are, in the plural; count: of them; cure: or ''; images:
    whether images may be among them; examples: a few names, printable.
    """

    what: str
    count: int
    cure: str
    images: bool
    examples: tuple[str, ...]

    def said(self, named: bool) -> str:
        """In words. named: with the examples."""
        more = ", ..." if self.count > len(self.examples) else ""
        such = f" ({', '.join(self.examples)}{more})" if named else ""
        return f"{self.what}: {self.count:,}{such}" + (f"; {self.cure}" if self.cure else "")


class Source(NamedTuple):
    """names: of the files to predict, in their order; left_out: what else the source holds."""

    tree: Tree
    names: list[str]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def missed(self) -> int:
        """Number of things left out that may be, or may hold, images."""
        return sum(one.count for one in self.left_out if one.images)


def open_source(source: str, stdin: bytes = b"", out: Path | None = None) -> Source:
    """The files of a source. source: a path, or - for the paths in `stdin`; out: the folder that predict writes into.

    A folder or a .zip gives the files that may be images, sorted; a list gives every path once, in its order, relative
    paths from the current folder. What predict wrote into `out` is no source. Raises ValueError for a source that does
    not exist, is empty, or is a list in an unknown encoding.
    """
    path = Path(source).expanduser()
    if source == "-":
        tree, names = _listed(read_list(stdin, "standard input"))
    elif path.is_dir():
        tree, names = Folder(path), None
    elif not path.is_file():
        raise ValueError(f"{source}: no such file or folder; give a file, a folder, a .zip, a list (.txt), or -")
    elif path.suffix.lower() in LISTS:
        tree, names = _listed(read_list(path.read_bytes(), source))
    elif path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        tree, names = Zip(path), None
    else:
        tree, names = _listed([source if source == str(path) else str(path)])
    found, left = _sorted(tree, names, _own(tree, out))
    if not found:
        raise ValueError(
            f"{printable([source])[0]}: no image file in it"
            + (f"; it holds {'; '.join(one.said(True) for one in left)}" if left else "")
        )
    return Source(tree, found, left)


def read_list(data: bytes, called: str) -> list[str]:
    """The paths of a list, one a line. called: the list, in messages.

    UTF-8, or UTF-16 with its mark, as PowerShell writes it. A line of other bytes is a file's name in just these bytes.
    Raises ValueError where there is no such file.
    """
    cure = "save the list as UTF-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            raise ValueError(f"{called}: is damaged UTF-16: {cure}") from None
    else:
        text = os.fsdecode(data.removeprefix(codecs.BOM_UTF8))
    if "\0" in text:
        raise ValueError(f"{called}: is no text, or UTF-16 without its mark: {cure}")
    lines = [line.strip() for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if re.search("[\ud800-\udfff]", line) and not os.path.lexists(line):
            raise ValueError(f"{called}: line {number} is not UTF-8, and no file has a name of its bytes: {cure}")
    return lines


def printable(names: Sequence[str]) -> list[str]:
    """The names as every output can hold them, each still its own: what can't be printed becomes \\xe9 or \\n."""
    result = list(names)
    wild = [place for place, name in enumerate(names) if UNPRINTABLE.search(name)]
    taken = set(names) if wild else set()
    for place in wild:
        name = UNPRINTABLE.sub(_escaped, names[place])
        while name in taken:
            name = name.replace("\\", "\\\\")
        taken.add(name)
        result[place] = name
    return result


def _escaped(match: re.Match) -> str:
    character = match[0]
    byte = ord(character) - 0xDC00  # of a name that is no UTF-8
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode()


def _listed(lines: Sequence[str]) -> tuple[Tree, list[str]]:
    names = list(dict.fromkeys(line for line in lines if line))
    return Files(names), names


def _own(tree: Tree, out: Path | None):
    """Whether predict wrote a file of the tree into `out` in an earlier run, as a function of its name."""
    if out is None or isinstance(tree, Zip):
        return lambda _: False
    place = os.path.realpath(out)
    if isinstance(tree, Folder):
        inside = os.path.relpath(place, os.path.realpath(tree.root))
        prefix = "" if inside == "." else f"{inside}/"
        return lambda name: name.startswith(prefix) and is_written(name[len(prefix) :])
    real = functools.lru_cache(1000)(os.path.realpath)

    def below(name: str) -> bool:
        folder, _, file = name.rpartition("/")
        path = f"{real(folder or ('/' if name.startswith('/') else '.'))}/{file}"
        return path.startswith(f"{place}/") and is_written(path[len(place) + 1 :])

    return below


def _sorted(tree: Tree, listed: list[str] | None, own) -> tuple[list[str], tuple[LeftOut, ...]]:
    """The names to predict, and what is left out. listed: by the user, who means each of them to be an image."""
    groups: dict[tuple[str, str, bool], list[str]] = {}
    other = ("files of other kinds", "", False)

    def leave(group: tuple[str, str, bool], name: str) -> None:
        groups.setdefault(group, []).append(name)

    found = []
    for name in sorted(tree.names()) if listed is None else listed:
        kind: Kind = "image" if listed is not None else _kind(name)
        if own(name):
            leave(("files that predict wrote into --out", "", False), name)
        elif kind == "archive":
            leave(("archives", "unpack them", True), name)
        elif kind == "image" or (kind == "unknown" and _may_be_image(tree, name)):
            found.append(name)
        else:
            leave(other, name)
    for name, why in sorted(tree.left_out().items()) if listed is None else ():
        if _kind(name.rstrip("/")) == "other" and not name.endswith("/"):
            leave(other, name)
        elif LINKS in why:
            cure = f"name the folder that they lead to in the environment variable {LINKS}"
            leave(("links that lead out of the source", cure, True), f"{name} -> {_target(why)}")
        elif name.endswith("/"):
            leave(("folders that can't be listed", why.rpartition(": ")[2], True), name)
        else:
            leave(("links that can't be followed", why.rpartition(": ")[2], True), name)
    left = [LeftOut(what, len(v), cure, may, tuple(printable(v[:EXAMPLES]))) for (what, cure, may), v in groups.items()]
    return found, tuple(left)


def _target(why: str) -> str:
    """Where a link leads, of why it is left out."""
    return why.partition(" leads out of the folder, to ")[2].rpartition(": name the folder")[0]


def _kind(name: str) -> Kind:
    """What a file is by its name. One without a suffix, or whose suffix is a number, may be an image."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return "other"
    if suffix in PACKED:
        inner = PurePosixPath(path.stem).suffix.lower()
        return "other" if inner in OTHERS else "archive"
    if suffix in ARCHIVES:
        return "archive"
    if suffix in OTHERS:
        return "other"
    return "unknown" if re.fullmatch(r"\.[a-z]\w{0,7}", suffix) and suffix not in IMAGES else "image"


def _may_be_image(tree: Tree, name: str) -> bool:
    """Whether a file begins as an image of any format does, or can't be read: then its row says why."""
    try:
        with tree.open(name) as stream:
            return begins_as_image(stream.read(STARTS))
    except Exception:  # a damaged member of a .zip raises nearly every type
        return True
