"""Two ways to one result, timed in turns, and the table that they fill.

Machines drift: both sides run in one process, this, plain, this, plain, ..., and the ratio is the median of the turns'
ratios. Before the first turn that counts, both ran once and their results were compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

REPEATS = 5


class Line(NamedTuple):
    """A row of the table. Times in seconds per unit; plain is NaN where there is no other side."""

    what: str
    unit: str  # what one `ours` and one `plain` is for: image, step, run
    ours: float
    plain: float
    result: str  # the figure that is judged, as text
    bar: str  # what it should be; empty where nothing is asked
    met: bool
    checked: str  # how the results were compared, and how far they lie apart


class Difference(ValueError):
    """The two ways do not give the same result."""


def agree(distance: float, at_most: float, what: str) -> str:
    """The check's sentence. Raises Difference when the distance is larger than at_most, or NaN."""
    if not distance <= at_most:
        raise Difference(f"{what}: {distance:.3g}, more than {at_most:g}")
    return f"{what} {distance:.2g} (at most {at_most:g})"


def in_turns(ours: Callable[[], object], plain: Callable[[], object], repeats: int) -> list[tuple[float, float]]:
    """Seconds of (ours, plain), `repeats` times, in turns."""
    turns = []
    for _ in range(repeats):
        started = time.perf_counter()
        ours()
        between = time.perf_counter()
        plain()
        turns.append((between - started, time.perf_counter() - between))
    return turns


def compared(
    what: str,
    turns: list[tuple[float, float]],
    checked: str,
    *,
    unit: str,
    per: int = 1,
    plain_per: int | None = None,
    bar: float | None = None,
    note: str = "",
) -> Line:
    """A line from turns in which our side did `per` units, the plain one `plain_per` (default: as many). note: stands
    behind the ratio.
    """
    plain_per = plain_per or per
    ratio = statistics.median(plain / plain_per / (ours / per) for ours, plain in turns)
    ours, plain = (statistics.median(column) for column in zip(*turns, strict=True))
    return Line(
        what,
        unit,
        ours / per,
        plain / plain_per,
        f"{ratio:.2f} x{note}",
        f"{bar:g} x" if bar else "",
        bar is None or ratio >= bar,
        checked,
    )


def side_by_side(
    what: str,
    ours: Callable[[], object],
    plain: Callable[[], object],
    check: Callable[[object, object], str],
    *,
    repeats: int = REPEATS,
    **options,
) -> Line:
    """Run both once and compare what they return, then time them in turns. options: those of `compared`.

    check: of both results, a sentence (from `agree`); raises Difference.
    """
    checked = check(ours(), plain())
    return compared(what, in_turns(ours, plain, repeats), checked, **options)


def median_seconds(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """What a run takes, after a first that is not counted."""
    run()
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def alone(what: str, run: Callable[[], object], limit: float, checked: str, *, repeats: int = REPEATS) -> Line:
    """A line with no other side: the median time against a limit, in seconds."""
    median = median_seconds(run, repeats)
    return Line(what, "run", median, float("nan"), seconds(median), f"under {limit:g} s", median < limit, checked)


def seconds(value: float) -> str:
    """A duration with three digits and the unit that suits it."""
    if value != value:
        return "-"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1 or unit == "µs":
            return f"{value * factor:.3g} {unit}"
    raise AssertionError


def table(lines: Iterable[Line]) -> str:
    """The lines as a Markdown table."""
    rows = ["| what | per | this project | the plain way | ratio or result | at least | results compared |"]
    rows.append("|---|---|---|---|---|---|---|")
    for line in lines:
        missed = "" if line.met else "**missed**: "
        rows.append(
            f"| {line.what} | {line.unit} | {seconds(line.ours)} | {seconds(line.plain)} | {missed}{line.result} "
            f"| {line.bar or '-'} | {line.checked} |"
        )
    return "\n".join(rows)


def main(lines: Callable[[bool], Iterable[Line]]) -> None:
    """One script's command line: its lines, one after the other, and the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="smallest size: checks the results, times mean nothing")
    quick = parser.parse_args().quick
    print(table(shown(lines(quick))))


def shown(lines: Iterable[Line]) -> list[Line]:
    """The lines, each reported on stderr as it comes: a run takes minutes."""
    found = []
    for line in lines:
        print(f"{line.what}: {line.result} ({line.bar or 'no bar'}); {line.checked}", file=sys.stderr, flush=True)
        found.append(line)
    return found
