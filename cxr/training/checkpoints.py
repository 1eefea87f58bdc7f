"""A training's whole state on disk: an interrupted training continues exactly, a longer one continues a shorter one.

A state is a nest of dicts, lists, numbers, strings and tensors (cxr/training/weights.py). It is written under a
temporary name, fsynced and renamed. A process that trains holds the folder by a shared flock, so nobody prunes it. Two
processes may train under one fingerprint at once, because both write identical states.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from cxr.core.files import write_json
from cxr.training.fingerprint import mark

KEPT = 2  # states of a training; the older one is for when the newer is torn


def states(folder: Path) -> dict[int, Path]:
    """The states in a training's folder by position (steps), ascending."""
    names = ((re.fullmatch(r"state-(\d+)\.safetensors", path.name), path) for path in folder.glob("state-*"))
    return dict(sorted((int(match[1]), path) for match, path in names if match))


def exclusive(path: Path) -> IO | None:
    """A lock file held alone until it is closed; None when somebody else holds it, or there is no such folder. On a
    file system without locks everything counts as held.
    """
    try:
        file = open(path, "a")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def hold(folder: Path) -> IO:
    """Hold a training's folder, made where it is missing, until the returned file is closed."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            file = open(folder / "lock", "a")
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_SH)
            if os.fstat(file.fileno()).st_ino == os.stat(folder / "lock").st_ino:
                return file
            file.close()


class Checkpoints:
    """The states of one training.

    folder: one per stage instance. fingerprint: {group: {name: value}}, everything that shapes the result except the
    training's length (cxr/training/fingerprint.py); a state under another fingerprint is never loaded. minutes: between
    two saves, 0 to save after every step.
    On SIGTERM or Ctrl-C the current step ends, the state is saved, and the process exits with 128 + the signal's
    number; a second signal ends the process at once.
    watch: what shows a running training to people, called after every epoch with (history, pictures); it shapes no
    result.
    """

    watch: Callable[[list[dict], dict], None] | None = None

    def __init__(self, folder: str | os.PathLike, fingerprint: dict, minutes: float = 5.0) -> None:
        self.fingerprint = fingerprint
        self.mark = mark(fingerprint)
        self.folder = Path(folder) / self.mark
        self.minutes = minutes
        self.saved_at = time.monotonic()
        self.saved: int | None = None  # the position last saved
        self.signal: int | None = None
        self._handlers: dict[int, Any] = {}
        self._lock: IO | None = None

    def __enter__(self) -> Checkpoints:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):  # not the main thread: a test's; then the default handling stays
                self._handlers[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._lock:
            self._lock.close()
            self._lock = None

    def _remember(self, number: int, _frame) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)

    def _hold(self) -> None:
        if self._lock:
            return
        if alone := exclusive(self.folder / "lock"):
            for torn in self.folder.glob(".*"):  # what a killed process was writing
                torn.unlink(missing_ok=True)
            alone.close()
        self._lock = hold(self.folder)
        write_json(self.folder / "fingerprint.json", self.fingerprint)

    def load(self, at_most: int) -> dict | None:
        """The newest whole state after at most so many steps, or None.

        It prints why a torn or foreign file is skipped, and why a training starts anew beside an earlier one's states.
        """
        from cxr.training import weights

        self._hold()
        for position, path in reversed(states(self.folder).items()):
            if position > at_most:
                continue
            try:
                kept = weights.load_state(path)
                if kept.get("fingerprint") != self.mark:
                    raise ValueError(f"{path}: the state of another training")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self._say(f"checkpoint skipped: {error}")
                continue
            self._say(f"continues from step {position:,} ({path.parent.name}/{path.name})")
            self.saved = position
            return kept["state"]
        if reason := self._why_anew():
            self._say(f"starts anew: {reason}")
        return None

    def _why_anew(self) -> str | None:
        if states(self.folder):
            return "what is kept of this training is further on than this one is to go, or cannot be read"
        others = [f for f in self.folder.parent.glob("*/fingerprint.json") if states(f.parent)]
        if not others:
            return None
        newest = max(others, key=lambda file: file.stat().st_mtime)
        try:
            before = _flat(json.loads(newest.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None
        now = _flat(json.loads(json.dumps(self.fingerprint)))
        changed = sorted(
            (name for name in before.keys() | now.keys() if before.get(name) != now.get(name)),
            key=lambda name: (name.startswith("code."), name),  # an option that is now used changes what code counts
        )
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        return f"changed since {newest.parent.name}: {', '.join(changed[:4])}{more}"

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def save(self, state: dict, position: int) -> None:
        """Keep `state` as reached after `position` steps (an int that grows with training)."""
        from cxr.training import weights

        self._hold()
        path = self.folder / f"state-{position:012d}.safetensors"
        weights.save_state(path, {"fingerprint": self.mark, "state": state})
        _fsync(self.folder)  # the rename, before older states go
        older = [path for other, path in states(self.folder).items() if other <= position]
        for old in older[:-KEPT]:  # what a longer training left beyond this position stays
            old.unlink(missing_ok=True)
        self.saved, self.saved_at = position, time.monotonic()

    def step(self, state: Callable[[], dict], position: int, *, last: bool = False) -> None:
        """Call after every step, and between the batches of a validation. It saves when `minutes` have passed since the
        last save, after the training's last step, and when a signal asked this process to end; then it exits.
        """
        due = self.signal is not None or time.monotonic() - self.saved_at >= 60 * self.minutes
        if last or (due and position != self.saved):
            self.save(state(), position)
        if self.signal is not None:
            self._say(f"stopped by {signal.Signals(self.signal).name}; the same command continues from here")
            raise SystemExit(128 + self.signal)


def _flat(fingerprint: dict) -> dict:
    return {
        f"{group}.{name}": value
        for group, values in fingerprint.items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
