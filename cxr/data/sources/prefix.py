"""The files of a data set below an address, such as s3://bucket/chexpert/, each read where it is needed.

Every process that reads, on this machine or on a cluster, asks the server itself (fsspec) and downloads nothing else.
"""

from __future__ import annotations

from functools import cached_property
from typing import BinaryIO

from cxr.data.sources.archive import MAX_FILE, Tree, _wanted


class Prefix(Tree):
    """A folder of files at an address of fsspec. root: for messages alone, no path of this machine.

    Without an account, or with one that may not read it, it is read as a public folder.
    """

    kind = "s3"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address.rstrip("/")
        self.public = False

    def __getstate__(self) -> dict:  # not a million names, to each executor
        return {"root": self.root, "address": self.address, "public": self.public}

    @cached_property
    def _place(self) -> tuple:
        """(fsspec's file system, the root on it)."""
        import fsspec

        try:
            return fsspec.url_to_fs(self.address, **({"anon": True} if self.public else {}))
        except ImportError as error:
            raise ValueError(f"{self.address}: {error}; pip install 'cxr[s3]'") from error

    @cached_property
    def _sizes(self) -> dict[str, int]:
        _ = self._place  # what is not installed is no fault of the address
        try:
            listed = self._listed()
        except Exception as error:  # botocore's, of an account that is missing, and the system's own
            raise ValueError(
                f"{self.address}/ can't be listed: {error}; check the address and the credentials"
            ) from error
        root = self._place[1]
        names = {path.removeprefix(f"{root}/"): entry["size"] for path, entry in listed.items()}
        if not names:
            raise ValueError(f"{self.address}/ holds no file: check the address")
        return {name: size for name, size in names.items() if _wanted(name)}

    def _listed(self) -> dict[str, dict]:
        """What lies below the root, as fsspec describes it. Asks as a stranger where the account may not."""
        try:
            return self._find()
        except Exception as error:
            if not isinstance(error, PermissionError) and type(error).__name__ != "NoCredentialsError":
                raise
            refused = error
        self.public = True
        del self._place
        try:
            return self._find()
        except Exception:
            raise refused from None

    def _find(self) -> dict[str, dict]:
        files, root = self._place
        return files.find(root, detail=True)

    def names(self) -> frozenset[str]:
        return frozenset(self._sizes)

    def size(self, name: str) -> int:
        if name not in self._sizes:
            raise ValueError(f"{name}: no such file")
        return self._sizes[name]

    def open(self, name: str) -> BinaryIO:
        files, root = self._place
        try:
            return files.open(f"{root}/{name}", "rb")
        except FileNotFoundError as error:
            raise ValueError(f"{name}: no such file") from error

    def read(self, name: str) -> bytes:
        """The bytes of a file, in one request. Raises ValueError when it is missing or over MAX_FILE, and OSError when
        the server can't be reached: that says nothing of the file.
        """
        data = self.part(name, 0, MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ValueError(f"{name} has more than {MAX_FILE:,} bytes, which are refused")
        return data

    def part(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of a file of any size, in one request. Raises ValueError when it is missing, OSError as `read`."""
        files, root = self._place
        try:
            return files.cat_file(f"{root}/{name}", start=start, end=start + length)
        except FileNotFoundError as error:
            raise ValueError(f"{name}: no such file") from error
        except OSError:
            if files.size(f"{root}/{name}"):
                raise
            return b""  # S3 has no first byte of an empty file to send
