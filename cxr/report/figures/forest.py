"""Forest plots: differences with intervals, of findings, of groups and of the study's arms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxr.report.figures import style


@style.styled
def forest(rows: pd.DataFrame, label: str) -> Figure:
    """Differences with intervals around a zero line, blue where the interval is clear of it.

    rows: name, note (right of the axes), difference, low, high, printed (a paper's); numbers may be NaN. label: of x.
    """
    figure, [[axes]] = style.grid(1, 1, 0.6 + 0.2 * len(rows))
    y = np.arange(len(rows))[::-1].astype(float)
    finite = rows["difference"].notna().to_numpy()
    clear = finite & ((rows["low"] > 0) | (rows["high"] < 0)).to_numpy()
    axes.axvline(0, color=style.INK, linewidth=0.8)
    for part, colour in ((finite & ~clear, style.GREY), (clear, style.COLOURS[0])):
        axes.hlines(y[part], rows["low"][part], rows["high"][part], color=colour, linewidth=1.3)
        axes.plot(rows["difference"][part], y[part], "o", color=colour, markersize=4.2)
    paper = rows["printed"].notna().to_numpy()
    axes.plot(rows["printed"][paper], y[paper], "D", color=style.COLOURS[1], markersize=4, markerfacecolor="white")
    reach = np.nanmax(np.abs(rows[["low", "high", "printed"]].to_numpy(float)), initial=0.02) * 1.06
    axes.set(xlim=(-reach, reach), ylim=(-0.7, len(rows) - 0.3), xlabel=label)
    style.bare_rows(axes, y, rows["name"])
    look = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "fontsize": 7}
    for place, text, ok in zip(y, rows["note"], finite, strict=True):
        axes.annotate(text, (1, place), (6, 0), color=style.INK if ok else style.GREY, **look)
    return figure


@style.styled
def study(rows: pd.DataFrame, controls: Mapping[str, str]) -> Figure:
    """Differences of the GAN arm from each control, a panel per finding, a line per control.

    rows: panel, control, difference, low, high (over patients: thick), total_low, total_high (over trainings as well:
    thin; NaN: none); controls: arm -> its name on the figure.
    """
    names = list(dict.fromkeys(rows["panel"]))
    figure, _, axes = style.panels(len(names), 4, 0.75 + 0.17 * len(controls), sharex=True, sharey=True)
    ends = ["low", "high", "total_low", "total_high"]
    reach = np.nanmax(np.abs(rows[ends].to_numpy(float)), initial=0.02) * 1.06
    y = dict(zip(controls, range(len(controls))[::-1], strict=True))
    for ax, name in zip(axes, names, strict=True):
        ax.axvline(0, color=style.INK, linewidth=0.8)
        for row in rows[rows["panel"] == name].itertuples():
            colour = style.COLOURS[0] if row.total_low > 0 or row.total_high < 0 else style.GREY
            ax.hlines(y[row.control], row.total_low, row.total_high, color=colour, linewidth=0.8)
            ax.hlines(y[row.control], row.low, row.high, color=colour, linewidth=2.6)
            ax.plot(row.difference, y[row.control], "|", color=colour, markersize=7, markeredgewidth=1.3)
            if not np.isfinite(row.difference):
                ax.annotate(
                    "n/a", (0, y[row.control]), (4, 0), textcoords="offset points", va="center", color=style.GREY
                )
        ax.set(title=name, xlim=(-reach, reach), ylim=(-0.7, len(controls) - 0.3))
        ax.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
        style.bare_rows(ax, list(y.values()), list(controls.values()))
    figure.supxlabel("difference in AUC, GAN arm \u2212 control", fontsize=7.5)
    return figure
