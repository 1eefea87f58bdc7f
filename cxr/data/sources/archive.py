"""The files of a data set, in a folder or in a .zip that is read in place.

Names are posix and relative to the root. A tree can be pickled; each process opens the archive itself. Sources are not
trusted: a zip member that points outside the archive and a link that leaves the folder are refused.
"""

from __future__ import annotations

import os
import stat
import threading
import zipfile
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

MAX_FILE = 1 << 30  # bytes of one file, unpacked; the largest radiograph or label table is far below

# What macOS adds to archives and folders
_JUNK = ("__MACOSX/", ".DS_Store", "._")


def _wanted(name: str) -> bool:
    return not name.startswith(_JUNK[0]) and not name.rsplit("/", 1)[-1].startswith(_JUNK[1:])


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
        with self.open(name) as stream:
            try:
                return stream.read()
            except (OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:
                raise ValueError(f"{name} can't be read: {error}") from error

    def folder_of(self, *files: str, depth: int = 2) -> list[str]:
        """The folders, at most `depth` below the root, that hold all of `files`: '' is the root, others end in '/'."""
        ends = [name.removesuffix(files[0]) for name in self.names() if name.endswith(files[0])]
        shallow = [folder for folder in ends if folder.count("/") <= depth and folder[-1:] in ("", "/")]
        return sorted(folder for folder in shallow if all(folder + file in self.names() for file in files))


class Folder(Tree):
    """A folder of files."""

    kind = "folder"

    @cached_property
    def _names(self) -> frozenset[str]:
        names, waiting = [], [("", self._real_root)]
        while waiting:
            prefix, folder = waiting.pop()
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if not _wanted(name):
                        continue
                    if entry.is_symlink():
                        self._inside(name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((name + "/", entry.path))
                    elif entry.is_file():
                        names.append(name)
        return frozenset(names)

    @cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self.root)

    def _inside(self, name: str) -> str:
        """The real path of a file, links followed. Raises ValueError when it is not below the root."""
        real = os.path.realpath(os.path.join(self._real_root, name))
        if not real.startswith(os.path.join(self._real_root, "")):
            raise ValueError(
                f"{self.root / name} leads out of the folder, to {real}: give as source the folder that holds "
                f"the files, or put the file itself there"
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
        return open(self._path(name), "rb")


class Zip(Tree):
    """A .zip, never unpacked."""

    kind = "zip"

    def __init__(self, root: str | os.PathLike) -> None:
        super().__init__(root)
        self._forget()

    def _forget(self) -> None:
        self._archive: zipfile.ZipFile | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict:
        return {"root": self.root}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def archive(self) -> zipfile.ZipFile:
        """This process's own handle: one inherited through a fork would share its read position."""
        with self._lock:
            if self._archive is None or self._owner != os.getpid():
                try:
                    archive = zipfile.ZipFile(self.root)
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
    def _names(self) -> frozenset[str]:
        return frozenset(name for name in self.archive.namelist() if not name.endswith("/") and _wanted(name))

    def _member(self, name: str) -> zipfile.ZipInfo:
        try:
            member = self.archive.getinfo(name)
        except KeyError as error:
            raise ValueError(f"{self.root}: no member {name!r}") from error
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
