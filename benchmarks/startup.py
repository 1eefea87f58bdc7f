"""How long nothing takes: a stage's --help, and `dvc repro` when nothing has changed.

python -m benchmarks.startup
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.timing import Difference, Line, alone, main, seconds
from stages.__main__ import STAGES, TOOLS

ROOT = Path(__file__).resolve().parents[1]
# Without cached bytecode Python compiles every file it imports, at each start.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"COLUMNS": "100"}


def output(*words: str) -> str:
    """What a command of this Python prints, in the repository. Raises Difference when it fails."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise Difference(f"{' '.join(words)} failed: {done.stderr[-500:]}")
    return done.stdout


def explained(text: str) -> str:
    """Raises Difference unless this is a stage's help."""
    if "Usage:" not in text or "--help" not in text:
        raise Difference(f"no help: {text[:100]!r}")
    return "prints its usage"


def nothing_ran(text: str) -> str:
    """Raises Difference unless DVC says that there is nothing to do."""
    if "Running stage" in text or "up to date" not in text:
        raise Difference(f"something is to be done: {text[:100]!r}")
    return "nothing ran"


def lines(quick: bool) -> Iterator[Line]:
    found = []
    for stage in ["gan"] if quick else [*STAGES, *TOOLS]:
        command = ("-m", f"stages.{stage}", "--help")
        checked = explained(output(*command))
        found.append((stage, alone(stage, lambda c=command: output(*c), 0.5, checked, repeats=1 if quick else 5)))
    stage, slowest = max(found, key=lambda pair: pair[1].ours)
    middle = statistics.median(line.ours for _, line in found)
    yield slowest._replace(what=f"--help of the slowest stage, {stage} (median of all {len(found)}: {seconds(middle)})")
    if quick:
        return
    try:
        checked = nothing_ran(output("-m", "dvc", "repro", "--dry"))
    except Difference as error:
        print(f"dvc repro without work is left out, run `dvc repro` first ({error})", file=sys.stderr)
        return
    yield alone("`dvc repro` when nothing has changed", lambda: output("-m", "dvc", "repro"), 5, checked)


if __name__ == "__main__":
    main(lines)
