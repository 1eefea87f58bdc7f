"""The shared look of the figures, and the helpers that every section's figures use.

A figure function takes tables and returns a matplotlib Figure; `svg` and `png` turn it into bytes without dates or ids,
so that equal numbers give equal bytes. Lines carry their own labels instead of legends. The colours are Okabe and
Ito's, which any colour vision tells apart. Sizes are in inches; a text column is 7.2 inches wide.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

WIDTH = 7.2
INK, GREY, PALE = "#222222", "#767676", "#d4d4d4"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#e69f00", "#56b4e9")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
    "text.color": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "cxr",
}
TICKS = {"color": GREY, "labelcolor": INK, "labelsize": 7, "major.width": 0.6, "major.size": 2.5}
STYLE |= {f"{axis}tick.{key}": value for axis in "xy" for key, value in TICKS.items()}


def svg(figure: Figure) -> bytes:
    """The figure as SVG. Letters are outlines, so that every machine shows the same."""
    return _bytes(figure, format="svg", metadata={"Date": None, "Creator": None})


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as PNG. dpi: pixels per inch."""
    return _bytes(figure, format="png", dpi=dpi, metadata={"Software": None})


def _bytes(figure: Figure, **options) -> bytes:
    data = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, **options)
    figure.set_layout_engine("none")  # keeps the layout: computing it takes longer than drawing
    return data.getvalue()


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator of a figure function: draws in STYLE and leaves matplotlib's global style alone."""

    @functools.wraps(draw)
    def draw_styled(*arguments, **options) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **options)

    return draw_styled


def grid(rows: int, columns: int, height: float, width: float = WIDTH, **options) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes. height: of one row; width: of the whole figure."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05, wspace=0.04, hspace=0.04)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def panels(
    count: int, most: int, height: float, width: float = 0.0, **options
) -> tuple[Figure, np.ndarray, list[Axes]]:
    """A figure of `count` axes, at most `most` beside each other: the figure, its grid of axes, the axes to draw on.

    height: of one row; width: of one column, 0: the figure is as wide as the text column.
    """
    columns = min(max(count, 1), most)
    rows = max(1, -(-count // columns))
    figure, axes = grid(rows, columns, height, width=width * columns or WIDTH, **options)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return figure, axes, list(axes.flat[:count])


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places moved apart to at least `gap`: below `high` where they fit, above `low` in any case."""
    places = list(places)
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + gap)
    if places and places[-1] > high:
        places[-1] = high
        for k in range(len(places) - 2, -1, -1):
            places[k] = min(places[k], places[k + 1] - gap)
    shift = max(0.0, low - places[0]) if places else 0.0
    return [place + shift for place in places]


def end_labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each line's label right of its end, none on top of another. ends: x, y, text, colour."""
    ends = sorted((end for end in ends if np.isfinite(end[1])), key=lambda end: end[1])
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    height = axes.figure.get_figheight() / axes.get_gridspec().nrows - 0.5  # less title and axis label
    point = (high - low) / (height * 72)
    for (x, _, text, colour), y in zip(ends, spread([end[1] for end in ends], 8.5 * point, low, high), strict=True):
        axes.annotate(text, (x, y), (4, 0), textcoords="offset points", color=colour, va="center", fontsize=7)


def corner_text(
    axes: Axes, lines: Sequence[tuple[str, str]], x: float = 0.98, y: float = 0.04, up: bool = True
) -> None:
    """Write coloured lines of text in a corner of the axes, first line on top. lines: text, colour."""
    for k, (text, colour) in enumerate(lines):
        step = (len(lines) - 1 - k) if up else -k
        axes.annotate(
            text,
            (x, y),
            (0, 9.5 * step),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            fontsize=7,
            ha="right" if x > 0.5 else "left",
            va="bottom" if up else "top",
        )


def epoch_axis(axes: Axes, last: float) -> None:
    """Whole numbers on the x axis of a curve over `last` epochs."""
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if last <= 1:
        axes.set_xlim(last - 1, last + 1)


def draw_line(axes: Axes, x: pd.Series, y: pd.Series, colour: str, **options) -> None:
    """Draw a line; up to twelve points are marked."""
    axes.plot(x, y, color=colour, marker="o" if len(x) <= 12 else None, markersize=2.6, **options)


def percent_axis(values: Axis) -> None:
    """Write an axis of shares as whole percents."""
    values.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))


def bare_rows(axes: Axes, y: Sequence[float], names: Sequence[str]) -> None:
    """Name the rows of a forest or bar plot on a left side without ticks and spine."""
    axes.set_yticks(y, names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def colours(n: int) -> list[str]:
    """n colours; from the seventh they repeat."""
    return [COLOURS[k % len(COLOURS)] for k in range(n)]
