"""Finds the files that a table names where a download, an unpacking tool or a rename left them.

A table says where its images lie, and seldom is right on the user's disk: archives are unpacked into folders of their
own, one folder deeper, or under another name. What identifies an image is its own part of the path. A file that has
this part is taken where it is the only one.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.data.sources.archive import LINKS, MAX_FILE, Folder, Tree
from cxr.data.sources.label_csv import first_few, read_csv

if TYPE_CHECKING:
    import pandas as pd

STUDY = re.compile(r"(?:.*/)?(patient\d+/study\d+/[^/]+)\.(\w+)")
PARTS = ("train", "valid", "test")
LEVELS = 3  # folders above the source that a message looks into


def suffix(name: str) -> str:
    """The suffix of a file's name, in one spelling: '.JPEG' is 'jpg'."""
    return name.rpartition(".")[2].lower().replace("jpeg", "jpg")


def study_key(name: str) -> tuple[str, str] | None:
    """What identifies a CheXpert image wherever it lies: ('patient00001/study1/view1_frontal', 'jpg')."""
    match = STUDY.fullmatch(name)
    return (match[1], suffix(name)) if match else None


def part_of(name: str) -> str | None:
    """train, valid or test, where a file lies in such a folder."""
    match = STUDY.fullmatch(name)
    folder = name[: match.start(1)].rstrip("/").rpartition("/")[2] if match else ""
    return folder if folder in PARTS else None


def file_key(name: str) -> tuple[str, str]:
    """What identifies a file by its name alone, wherever it lies: ('0004cfab', 'dcm')."""
    return name.rpartition("/")[2].rpartition(".")[0], suffix(name)


def find(tree: Tree, wanted: Iterable[str], key: Callable[[str], tuple[str, str] | None]) -> dict[str, str]:
    """The name in the tree of each wanted file that lies elsewhere, by wanted name. What is nowhere is left out.

    key: what identifies a file, and its suffix. A file in a folder train, valid or test is no file of another of them.
    Raises ValueError when several files could be the one.
    """
    wanted = {name: key(name) for name in wanted}
    keys = set(wanted.values()) - {None}
    places: dict[tuple[str, str], list[str]] = {}
    for name in tree.names():
        if (one := key(name)) in keys:
            places.setdefault(one, []).append(name)
    found = {}
    for name, one in wanted.items():
        candidates = [place for place in places.get(one, []) if part_of(place) in (None, part_of(name))]
        if len(candidates) > 1:
            raise ValueError(
                f"{one[0]} lies in several places below {tree.root} ({first_few(sorted(candidates), 3)}): give a "
                f"folder that holds one of them, or remove the others"
            )
        if candidates:
            found[name] = candidates[0]
    return found


def place_all(tree: Tree, wanted: Sequence[str], key: Callable[[str], tuple[str, str] | None], table: str) -> list[str]:
    """The name in the tree of each wanted file, wherever below the root it lies, in their order.

    key: as of find; table: the table that names the files, for the message. Raises ValueError for what is nowhere.
    """
    names = tree.names()
    missing = [name for name in wanted if name not in names]
    elsewhere = find(tree, missing, key) if missing else {}
    if lost := [name for name in missing if name not in elsewhere]:
        raise ValueError(
            f"{table}: {len(lost):,} of {len(wanted):,} images do not exist below {tree.root} ({first_few(lost)}): "
            f"{why_missing(tree, lost, key) or 'complete the download, or remove their rows'}"
        )
    return [elsewhere.get(name, name) for name in wanted]


def only_table(tree: Tree, pattern: str, what: str) -> str:
    """The name of the only file whose own name, without .gz, matches a pattern. Raises ValueError for none or several.

    what: the data set and the table, for the message. Copies are counted as `tables_like` does.
    """
    names = tables_like(tree, pattern)
    if len(names) > 1:
        raise ValueError(f"{tree.root} holds several tables of {what} ({first_few(names)}): give the folder of one")
    if not names:
        raise ValueError(f"no {what} here: {tree.root} has no such table (it is called like {pattern})")
    return names[0]


def tables_like(tree: Tree, pattern: str) -> list[str]:
    """The names of the files whose own name, without .gz, matches a pattern, sorted. A packed and an unpacked copy in
    one folder are one file, the unpacked one.
    """
    names = sorted(name for name in tree.names() if re.fullmatch(pattern, unpacked(name).rpartition("/")[2]))
    different = {unpacked(name): name for name in reversed(names)}  # the unpacked one comes first in `names`
    return sorted(different.values())


def unpacked(name: str) -> str:
    """A file's name without .gz."""
    return name.removesuffix(".gz")


def read_packed(tree: Tree, name: str) -> bytes:
    """The bytes of a file, of a .gz those inside. Raises ValueError where they are damaged or more than MAX_FILE."""
    data = tree.read(name)
    if not name.endswith(".gz"):
        return data
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            data = stream.read(MAX_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is no whole .gz ({error}): download it again") from error
    if len(data) > MAX_FILE:
        raise ValueError(f"{name} unpacks to more than {MAX_FILE:,} bytes: refused")
    return data


def read_table(tree: Tree, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a CSV of the tree, packed or not, as label_csv.read_csv reads them. Raises ValueError."""
    return read_csv(read_packed(tree, name), name, columns)


def why_missing(tree: Tree, missing: Sequence[str], key: Callable[[str], tuple[str, str] | None]) -> str:
    """Why files are most likely missing, with the cure, as the end of a message; '' where nothing is known.

    key: as of find.
    """
    keys = {key(name) for name in missing}
    places = set(missing)
    for name in missing:
        while (name := name.rpartition("/")[0]) and name not in places:
            places.add(name)
    related = [
        (name, why)
        for name, why in tree.left_out().items()
        if name.rstrip("/") in places or key(name) in keys or ((tree.root / name).is_dir() and "lost+found" not in name)
    ]
    for cure in (LINKS, ""):
        if reasons := [why for _, why in related if cure in why]:
            more = f" ({len(reasons):,} such links)" if cure and len(reasons) > 1 else ""
            return f"{reasons[0]}{more}"
    zips = archives(tree)
    return f"if they are in {zips}, unpack it there" if zips else ""


def archives(tree: Tree) -> str:
    """The .zip files that a source still holds, for a message."""
    return first_few(sorted(name for name in tree.names() if name.lower().endswith(".zip")), 4)


def batches_above(tree: Tree, missing: str) -> str:
    """The folder above a source that is one batch of CheXpert's full release, where the missing image lies in another
    batch beside it, as the end of a message; else ''.
    """
    if not isinstance(tree, Folder) or (match := STUDY.fullmatch(missing)) is None:
        return ""
    image = missing[match.start(1) :]
    inner = tree.root.absolute()
    for folder in list(inner.parents)[:2]:  # a doubled batch folder lies two below
        batches = [batch for batch in _folders(folder) if batch != inner]
        doubled = [one for batch in batches for one in _folders(batch) if one.name not in PARTS]
        if any((batch / image).is_file() for batch in (*batches, *doubled)):
            return f"{folder} holds the other batch folders: give it as source"
        inner = folder
    return ""


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; none where it can't be listed."""
    try:
        return sorted(other for other in folder.iterdir() if other.is_dir())
    except OSError:
        return []


def tables_above(tree: Tree, *files: str) -> str:
    """Where the tables of a source most likely are, with the cure, as the end of a message; '' where not known."""
    if zips := archives(tree):
        return f"; if they are in {zips}, unpack it there"
    if isinstance(tree, Folder):
        for folder in list(tree.root.absolute().parents)[:LEVELS]:
            if all((folder / file).is_file() for file in files):
                return f"; {folder} has them: give it as source"
    return ""


def nearest(tree: Tree, name: str) -> str:
    """Where the like of a missing CheXpert image was seen, as the end of a message; '' when nowhere."""
    if (match := STUDY.fullmatch(name)) is None:
        return ""
    patient = match[1].partition("/")[0]
    images = sorted(other for other in tree.names() if STUDY.fullmatch(other))
    if same := [other for other in images if study_key(other)[0] == match[1]]:
        return f" (there is {same[0]}, another kind of file than the .{match[2]} that the table names)"
    if same := [other for other in images if f"/{patient}/" in f"/{other}"]:
        return f" (of {patient} there is only {first_few(same, 3)})"
    return f" (the images there lie like {images[0]})" if images else ""
