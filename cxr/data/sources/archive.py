"""The files of a data set, in a folder or in a .zip that is read in place.

Names are posix and relative to the root. A tree can be pickled; each process opens the archive itself. Sources are not
trusted: a zip member that points outside the archive is refused. A link that leaves the folder is left out of the
names, and refused when it is read, unless it leads into one of the folders that CXR_LINKS names.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import stat
import threading
import zipfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

MAX_FILE = 1 << 30  # bytes of one file, unpacked; the largest radiograph or label table is far below
LINKS = "CXR_LINKS"  # environment variable: the folders that links may lead to, separated as in PATH
DEPTHS = (2, 4)  # levels below the root at which tables are looked for; the second where the first has none

# What macOS adds to archives and folders
_JUNK = ("__MACOSX/", ".DS_Store", "._")


def _wanted(name: str) -> bool:
    return not name.startswith(_JUNK[0]) and not name.rsplit("/", 1)[-1].startswith(_JUNK[1:])


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raise ValueError, naming the file, for what the block can't read of it."""
    try:
        yield
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{name} can't be read: {error}") from error


class Tree:
    """A Folder or a Zip. root: its path on this machine."""

    kind: str

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root)

    def names(self) -> frozenset[str]:
        """Every file. Listed once."""
        return self._names

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked."""
        raise NotImplementedError

    def open(self, name: str) -> BinaryIO:
        """A binary stream of a file."""
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises ValueError when it is missing, damaged or over MAX_FILE."""
        if (size := self.size(name)) > MAX_FILE:
            raise ValueError(f"{name} has {size:,} bytes: more than {MAX_FILE:,} are refused")
        with self.open(name) as stream, _readable(name):
            return stream.read()

    def blocks(self, name: str, size: int) -> Iterator[bytes]:
        """The bytes of a file of any size, `size` at a time. Raises ValueError when it is missing or damaged."""
        with self.open(name) as stream, _readable(name):
            while block := stream.read(size):
                yield block

    def part(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of a file of any size. Raises ValueError when it is missing or damaged."""
        with self.open(name) as stream, _readable(name):
            stream.seek(start)
            return stream.read(length)

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file of any size. Raises ValueError when it is missing or damaged."""
        with self.open(name) as stream, _readable(name):
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def left_out(self) -> dict[str, str]:
        """What lies below the root but is not among the names: why, by name."""
        return {}

    def folder_of(self, *files: str) -> list[str]:
        """The folders, at most DEPTHS below the root, that hold all of `files`: '' is the root, others end in '/'."""
        ends = [name.removesuffix(files[0]) for name in self.names() if name.endswith(files[0])]
        whole = [
            folder
            for folder in sorted(ends)
            if folder[-1:] in ("", "/") and all(folder + file in self.names() for file in files)
        ]
        near = (found for depth in DEPTHS if (found := [folder for folder in whole if folder.count("/") <= depth]))
        return next(near, [])


def link_folders() -> list[str]:
    """The folders that $CXR_LINKS names. Raises ValueError for one that is none."""
    folders = [folder for folder in os.environ.get(LINKS, "").split(os.pathsep) if folder]
    for folder in folders:
        if not os.path.isdir(os.path.expanduser(folder)):
            raise ValueError(
                f"{LINKS}: {folder!r} is no folder: give the folders that links may lead to, separated by {os.pathsep}"
            )
    return [os.path.expanduser(folder) for folder in folders]


class Folder(Tree):
    """A folder of files. links: the folders outside it that its links may lead to; default those of $CXR_LINKS."""

    kind = "folder"

    def __init__(self, root: str | os.PathLike, links: Sequence[str | os.PathLike] | None = None) -> None:
        super().__init__(root)
        self._real_root = os.path.realpath(root)  # another process may work in another folder
        self._links = [os.path.realpath(folder) for folder in (link_folders() if links is None else links)]

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_listing"}  # each process lists by itself

    def left_out(self) -> dict[str, str]:
        return self._listing[1]

    @property
    def _names(self) -> frozenset[str]:
        return self._listing[0]

    @cached_property
    def _listing(self) -> tuple[frozenset[str], dict[str, str]]:
        """The names, and why each entry beside them is left out.

        Every real folder is listed once, so that links in a circle end. Linked folders come last: a file is named by
        its own place where it has one below the root.
        """
        names: list[str] = []
        left_out: dict[str, str] = {}
        waiting, linked, seen = [("", self._real_root)], [], set()
        while waiting or linked:
            prefix, folder = waiting.pop() if waiting else linked.pop(0)
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError as error:  # such as lost+found
                if not prefix:
                    raise ValueError(f"{self.root} can't be listed: {error.strerror}") from error
                left_out[prefix] = f"{self.root / prefix} can't be listed: {error.strerror}"
                continue
            for entry in entries:
                if not _wanted(name := prefix + entry.name):
                    continue
                try:
                    kind = self._kind(entry, name)
                except OSError as error:  # a link in a circle
                    left_out[name] = f"{self.root / name} can't be opened: {error.strerror}"
                except ValueError as error:
                    left_out[name] = str(error)
                else:
                    if kind == "folder":
                        (linked if entry.is_symlink() else waiting).append((name + "/", entry.path))
                    elif kind == "file":
                        names.append(name)
        return frozenset(names), left_out

    def _kind(self, entry: os.DirEntry, name: str) -> str | None:
        """folder, file or, for what is neither, None. Raises ValueError for a link that must not be followed, or leads
        to no file; OSError for one that can't be.
        """
        if entry.is_symlink():
            self._inside(name)
        if entry.is_dir():
            return "folder"
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise ValueError(f"{self.root / name} can't be opened: it leads to no file")
        return "file" if entry.is_file() else None

    def _inside(self, name: str) -> str:
        """The real path of a file, links followed. Raises ValueError when it is neither below the root nor below a
        folder that links may lead to.
        """
        real = os.path.realpath(os.path.join(self._real_root, name))
        if not any((real + os.sep).startswith(os.path.join(folder, "")) for folder in (self._real_root, *self._links)):
            raise ValueError(
                f"{self.root / name} leads out of the folder, to {real}: name the folder that links may lead to in the "
                f"environment variable {LINKS}, or put the file itself there"
            )
        return real

    def _path(self, name: str) -> str:
        path = self._inside(name)
        if not os.path.isfile(path):
            raise ValueError(f"{self.root / name}: no such file")
        return path

    def size(self, name: str) -> int:
        return os.path.getsize(self._path(name))

    def open(self, name: str) -> BinaryIO:
        try:
            return open(self._path(name), "rb")
        except OSError as error:  # may not be read, a stale network disk
            raise ValueError(f"{name} can't be read: {error.strerror}") from error


class Zip(Tree):
    """A .zip, never unpacked."""

    kind = "zip"

    def __init__(self, root: str | os.PathLike) -> None:
        super().__init__(root)
        self._file = os.path.abspath(root)  # as for a Folder
        self._forget()

    def _forget(self) -> None:
        self._archive: zipfile.ZipFile | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict:
        return {"root": self.root, "_file": self._file}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def archive(self) -> zipfile.ZipFile:
        """This process's own handle: one inherited through a fork would share its read position."""
        with self._lock:
            if self._archive is None or self._owner != os.getpid():
                try:
                    archive = zipfile.ZipFile(self._file)
                except FileNotFoundError as error:
                    raise ValueError(f"{self._file}: no such file") from error
                except (zipfile.BadZipFile, OSError, EOFError) as error:
                    raise ValueError(f"{self.root} is no whole .zip ({error}): download it again") from error
                for name in archive.namelist():
                    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
                        raise ValueError(
                            f"{self.root}: the member {name!r} points outside the archive; such a .zip is refused"
                        )
                self._archive, self._owner = archive, os.getpid()
            return self._archive

    @cached_property
    def _members(self) -> dict[str, str]:
        """The archive's own name of each file. Some tools on Windows write \\ between folders."""
        members = {name.replace("\\", "/"): name for name in self.archive.namelist()}
        return {name: member for name, member in members.items() if not name.endswith("/") and _wanted(name)}

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self._members)

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise ValueError(f"{self.root}: no member {name!r}")
        member = self.archive.getinfo(self._members[name])
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{name} is a symbolic link inside {self.root}: such members are refused")
        return member

    def size(self, name: str) -> int:
        return self._member(name).file_size

    def open(self, name: str) -> BinaryIO:
        try:
            return self.archive.open(self._member(name))
        except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:  # encrypted, or an unknown compression
            raise ValueError(f"{name} can't be read from {self.root}: {error}") from error
