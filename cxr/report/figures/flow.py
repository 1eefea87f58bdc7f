"""Figure of the flow of patients: from the records to what each part was used for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cxr.report.figures import style

LINE = 0.145  # inches of one line of text


class Box(NamedTuple):
    """A heading and the lines under it."""

    head: str
    lines: Sequence[str] = ()


@style.styled
def flow(trunk: Sequence[Box], left_out: Sequence[Box | None], branches: Sequence[Sequence[Box]]) -> Figure:
    """Boxes from top to bottom, and below them a column of boxes for each part.

    left_out: what leaves after each box of the trunk, None for nothing; branches: the parts side by side, each from top
    to bottom.
    """
    heights = [_height(box) for box in trunk]
    depth = max((len(branch) for branch in branches), default=0)
    rows = [max(_height(branch[k]) for branch in branches if len(branch) > k) for k in range(depth)]
    gap, side = 0.34, [_height(box) if box else 0.0 for box in left_out]
    gaps = [max(gap, s + 0.16) for s in side]
    total = sum(heights) + sum(gaps) + sum(rows) + gap * max(depth - 1, 0) + 0.1
    figure, [[axes]] = style.grid(1, 1, total)
    axes.set(xlim=(0, style.WIDTH), ylim=(total, 0))
    axes.set_axis_off()
    middle, y, count = style.WIDTH / 2, 0.05, max(len(branches), 1)
    width = style.WIDTH / count - 0.15
    for box, height, space, outside in zip(trunk, heights, gaps, left_out, strict=True):
        _draw(axes, box, middle, y, 2.4, height, style.INK)
        y += height
        if outside:
            tall = _height(outside)
            top = y + (space - tall) / 2
            _draw(axes, outside, middle + 2.1, top, 2.6, tall, style.GREY)
            _arrow(axes, (middle, top + tall / 2), (middle + 0.8, top + tall / 2))
        if box is not trunk[-1]:
            _arrow(axes, (middle, y), (middle, y + space))
        y += space
    centres = [(k + 0.5) * style.WIDTH / count for k in range(count)]
    if branches:
        start = y - gaps[-1]
        bend = y - gap / 2
        axes.plot([middle, middle], [start, bend], color=style.GREY, linewidth=0.9)
        axes.plot([centres[0], centres[-1]], [bend, bend], color=style.GREY, linewidth=0.9)
    for x, branch in zip(centres, branches, strict=False):
        _arrow(axes, (x, y - gap / 2), (x, y))
        top = y
        for k, box in enumerate(branch):
            _draw(axes, box, x, top, width, rows[k], style.COLOURS[0])
            if k + 1 < len(branch):
                _arrow(axes, (x, top + rows[k]), (x, top + rows[k] + gap))
            top += rows[k] + gap
    return figure


def _height(box: Box) -> float:
    return LINE * (1 + len(box.lines)) + 0.14


def _draw(axes: Axes, box: Box, x: float, y: float, width: float, height: float, colour: str) -> None:
    """A box whose upper edge is at y, centred at x."""
    shape = FancyBboxPatch((x - width / 2, y), width, height, boxstyle="round,pad=0,rounding_size=0.05", linewidth=0.9)
    shape.set(edgecolor=colour, facecolor="white")
    axes.add_patch(shape)
    top = y + (height - LINE * (1 + len(box.lines))) / 2 + LINE / 2
    axes.text(x, top, box.head, ha="center", va="center", fontweight="bold", fontsize=7.5)
    for k, line in enumerate(box.lines):
        axes.text(x, top + LINE * (k + 1), line, ha="center", va="center", fontsize=7.2, color=style.INK)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": style.GREY, "linewidth": 0.9, "shrinkA": 0,
                                              "shrinkB": 0, "mutation_scale": 7})  # fmt: skip
