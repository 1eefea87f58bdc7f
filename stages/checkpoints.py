"""Lists what .checkpoints holds, and deletes what is old. No stage depends on it.

python -m stages.checkpoints
python -m stages.checkpoints --prune --keep 1 --older-than 30
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import main, state_dir

DAY = 86_400  # seconds


@dataclass
class Entry:
    """The states of one training, or one download. position: steps done; age: days; size: bytes; held: in use."""

    path: Path
    stage: str
    name: str
    position: int | None
    age: float
    size: int
    held: bool


def run(
    prune: Annotated[bool, Option("--prune", help="delete; the command only lists without it")] = False,
    keep: Annotated[int, Option(min=0, help="newest trainings of each stage that stay")] = 1,
    older_than: Annotated[float, Option(min=0.0, help="days since the last save; what is younger stays")] = 0.0,
    downloads: Annotated[
        bool, Option("--downloads", help="also downloads and phantoms; not while a stage reads them")
    ] = False,
    state: Annotated[Path | None, Option(help="folder; default: .checkpoints")] = None,
) -> None:
    """List training states and downloads; --prune deletes those that no process holds."""
    folder = state or state_dir()
    trainings, sources = _trainings(folder), _sources(folder / "downloads")
    _show(folder, trainings + sources)
    if not prune:
        return
    extra = [
        entry
        for stage in {entry.stage for entry in trainings}
        for entry in [e for e in trainings if e.stage == stage][keep:]
    ]
    chosen = [e for e in extra + (sources if downloads else []) if e.age >= older_than]
    deleted = [e for e in chosen if _delete(e)]
    print(f"pruned {len(deleted)} of {len(trainings) + len(sources)}, {_bytes(sum(e.size for e in deleted))} freed")


def _trainings(folder: Path) -> list[Entry]:
    """Every <stage>/<fingerprint>, by stage, the newest first."""
    from cxr.training.checkpoints import states

    paths = sorted(file.parent for file in folder.glob("*/*/fingerprint.json"))
    entries = [_entry(path, path.parent.name, max(states(path), default=0)) for path in paths]
    return sorted(entries, key=lambda e: (e.stage, e.age))


def _sources(folder: Path) -> list[Entry]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [_entry(path, "downloads", None) for path in paths if path.suffix != ".lock"]


def _entry(path: Path, stage: str, position: int | None) -> Entry:
    size, newest = 0, 0.0
    for file in [path, *path.rglob("*")]:
        try:
            info = file.stat()
        except FileNotFoundError:  # a running training replaces its states
            continue
        if file.name != "lock":
            newest = max(newest, info.st_mtime)
            size += 0 if stat.S_ISDIR(info.st_mode) else info.st_size
    with _hold(path, stage) or contextlib.nullcontext("in use") as holder:
        held = holder == "in use"
    return Entry(path, stage, path.name, position, max(0.0, time.time() - newest) / DAY, size, held)


def _hold(path: Path, stage: str) -> contextlib.AbstractContextManager | None:
    """The exclusive lock of a training or a download; None when another process has it."""
    from cxr.training.checkpoints import exclusive

    file = path.with_suffix(".zip.lock") if stage == "downloads" else path / "lock"
    return exclusive(file) if file.exists() else contextlib.nullcontext()  # no lock file: it was never in use


def _delete(entry: Entry) -> bool:
    hold = _hold(entry.path, entry.stage)
    if hold is None:
        return False
    with hold:
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
    return True


def _show(folder: Path, entries: list[Entry]) -> None:
    print(f"{folder}: {_bytes(sum(e.size for e in entries))} in {len(entries)} trainings and downloads")
    if not entries:
        return
    rows = [("stage", "fingerprint or file", "steps", "age", "size", "")]
    for e in entries:
        steps = "" if e.position is None else f"{e.position:,}"
        rows.append((e.stage, e.name, steps, _age(e.age), _bytes(e.size), "in use" if e.held else ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [c.rjust(w) if i in (2, 3, 4) else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


def _age(days: float) -> str:
    return f"{days:.0f} d" if days >= 2 else f"{days * 24:.0f} h" if days >= 1 / 12 else f"{days * 24 * 60:.0f} min"


def _bytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


if __name__ == "__main__":
    main(run)
