"""Downloads a file from an http(s):// or s3:// address (fsspec). A broken download continues where it stopped.

The bytes go to a .part file. A note beside it holds the size and the ETag or date of the remote file. Later tries, in
this run or another, ask for the missing bytes only, unless the remote file has changed. The .part gets its final name
when it is whole, has the wanted SHA-256 and passes the caller's check.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from cxr.core.files import Progress, sha256, write_json

PAUSES = (1, 2, 4, 8, 16)  # seconds before each try; counted from the start again when bytes arrive
BLOCK = 1 << 20


def public(address: str) -> str:
    """An address without user, password or signature, for messages."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def split_checksum(address: str) -> tuple[str, str | None]:
    """'https://x/y.zip#sha256=<hex>' -> the address alone, and the checksum in lower case. Raises ValueError."""
    address, _, fragment = address.partition("#")
    if not fragment:
        return address, None
    if not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", fragment):
        raise ValueError(f"{public(address)}: after # comes sha256= and 64 hexadecimal digits, not {fragment!r}")
    return address, fragment.removeprefix("sha256=").lower()


def download(address: str, file: Path, check: Callable[[Path], None]) -> None:
    """Download `address` (#sha256=<hex> may follow it) to `file`. `check` raises ValueError for wrong content.

    Raises ValueError when the address does not exist, can't be reached or may not be read, when the connection breaks
    more often than PAUSES allows, when the disk is full, or when the content is wrong.
    """
    address, expected = split_checksum(address)
    part = file.with_suffix(".part")
    _fill(address, part)
    try:
        if expected and (actual := sha256(part)) != expected:
            raise ValueError(
                f"{public(address)} has the SHA-256 {actual}, not {expected}: the file or the checksum is wrong"
            )
        check(part)
    except ValueError:
        part.unlink()
        raise
    part.replace(file)
    part.with_suffix(".json").unlink()


def _fill(address: str, part: Path) -> None:
    remote = _Remote(address)
    note = part.with_suffix(".json")
    # Without an ETag or a date the file may have changed.
    if not (
        part.exists() and note.exists() and remote.facts["version"] and json.loads(note.read_text()) == remote.facts
    ):
        part.unlink(missing_ok=True)
        write_json(note, remote.facts)
    total, done = remote.facts["bytes"], part.stat().st_size if part.exists() else 0
    if total and total - done > (free := shutil.disk_usage(part.parent).free):
        raise ValueError(f"{public(address)}: {total - done:,} bytes are missing, but {part.parent} has {free:,} free")
    with Progress(f"download {public(address)}", total or 0, "bytes") as progress:
        progress.skip(done)
        failures = 0
        while total is None or done < total:
            before = done
            try:
                done = _go_on(remote, part, done, progress)
                if total is None:
                    break
                if done < total:
                    raise ConnectionError(f"ended after {done:,} of {total:,} bytes")
            except Exception as error:  # aiohttp's, botocore's and the system's own
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise ValueError(
                        f"{part.parent} is full: free some space, then the same command goes on from here"
                    ) from error
                done = part.stat().st_size if part.exists() else 0
                failures = failures + 1 if done <= before else 1
                if failures > len(PAUSES) or (final := _final(error)):
                    cure = final if failures <= len(PAUSES) else "the same command goes on from here"
                    raise ValueError(f"{public(address)}: {_reason(error)}; {cure}") from error
                progress.line(f"broken off ({_reason(error)}), goes on in {PAUSES[failures - 1]} s")
                time.sleep(PAUSES[failures - 1])
    if total is not None and done != total:
        part.unlink()
        raise ValueError(f"{public(address)}: {done:,} bytes came where {total:,} were announced: try again")


def _go_on(remote: _Remote, part: Path, start: int, progress: Progress) -> int:
    """Append the bytes from `start` on to the .part. Returns how many it then holds."""
    with remote.stream(start) as (stream, start), open(part, "r+b" if start else "wb") as file:
        file.seek(start)
        progress.skip(start - progress.n)
        while block := stream.read(BLOCK):
            file.write(block)
            progress.update(len(block))
        return file.tell()


class _Remote:
    """A remote file. facts: its bytes and version, None where the server does not say."""

    def __init__(self, address: str) -> None:
        import fsspec

        self.http = not address.startswith("s3://")
        if self.http:
            import aiohttp

            # No limit for the whole: a release takes hours. trust_env: proxies from the environment.
            waits = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
            options = {"client_kwargs": {"timeout": waits, "trust_env": True}}
        else:
            options = {}
        try:
            self.system, self.path = fsspec.core.url_to_fs(address, skip_instance_cache=True, **options)
            info = self._info()
        except ImportError as error:
            raise ValueError("an s3:// source needs s3fs: pip install 'cxr[s3]'") from error
        except Exception as error:  # as above
            raise ValueError(f"{public(address)}: {_reason(error)}; {_final(error) or 'check the address'}") from error
        version = info.get("ETag") or info.get("Last-Modified") or info.get("LastModified")
        self.facts = {"bytes": info.get("size"), "version": version and str(version)}

    def _info(self) -> dict:
        if self.http:
            return self.system.info(self.path)
        from botocore.exceptions import NoCredentialsError

        try:
            return self.system.info(self.path)
        except (NoCredentialsError, PermissionError):
            if self.system.anon:
                raise
            self.system = type(self.system)(anon=True, skip_instance_cache=True)  # a public bucket needs no account
            return self.system.info(self.path)

    @contextlib.contextmanager
    def stream(self, start: int) -> Iterator[tuple[BinaryIO, int]]:
        """The content from byte `start` on, and its real start: 0 when the server sends everything."""
        if not self.http:
            with self.system.open(self.path, "rb", cache_type="none") as stream:  # asks with If-Match
                stream.seek(start)
                yield stream, start
            return
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-"}
            if not self.facts["version"].startswith("W/"):  # weak tags may not be used so (RFC 9110, 13.1.5)
                headers["If-Range"] = self.facts["version"]
        with self.system.open(self.path, "rb", block_size=0, size=self.facts["bytes"], headers=headers) as stream:
            yield stream, start if stream.r.status == 206 else 0


def _root(error: BaseException) -> BaseException:
    """The real error: fsspec reports every failed look-up as FileNotFoundError."""
    return error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error


def _final(error: BaseException) -> str | None:
    """The cure where another try would not help, else None."""
    error = _root(error)
    status = getattr(error, "status", None)
    if isinstance(error, PermissionError) or status in (401, 403):
        return "log in or ask for access, and give an address that holds the right to read"
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "check the address"
    if type(error).__name__ == "NoCredentialsError":
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    return None


def _reason(error: BaseException) -> str:
    """The error in a few words, without the address: it may hold a signature."""
    error = _root(error)
    if status := getattr(error, "status", None):
        return f"the server answers {status} {getattr(error, 'message', '')}".strip()
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if type(error).__name__ == "ClientPayloadError":
        return "the connection broke"
    if type(error).__name__.startswith("ClientConnector"):
        return f"can't connect to {error.host}:{error.port}"
    return f"{type(error).__name__}: {error}".split("http")[0].strip()
