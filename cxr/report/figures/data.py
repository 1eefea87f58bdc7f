"""Figures of the data: label values by finding, ages by sex."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxr.report.figures import style


@style.styled
def labels(table: pd.DataFrame, parts: Mapping[str, str]) -> Figure:
    """Stacked bars of each finding's label values as shares of its images.

    table: finding, and counts in the columns that parts names (column -> label).
    """
    figure, [[axes]] = style.grid(1, 1, 0.55 + 0.2 * len(table), width=3.55)
    y = np.arange(len(table))[::-1]
    whole = table[list(parts)].sum(axis=1).clip(lower=1).to_numpy(float)
    left = np.zeros(len(table))
    for (column, label), shade in zip(
        parts.items(), (style.COLOURS[0], style.COLOURS[4], "#a6a6a6", "#ebebeb"), strict=False
    ):
        share = table[column].to_numpy(float) / whole
        axes.barh(y, share, 0.66, left=left, color=shade, linewidth=0, label=label)
        left += share
    style.bare_rows(axes, y, table["finding"])
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.5, len(table) - 0.5)
    style.percent_axis(axes.xaxis)
    figure.legend(
        loc="outside upper right",
        ncols=len(parts),
        frameon=False,
        handlelength=0.9,
        handletextpad=0.4,
        columnspacing=1.1,
    )
    return figure


@style.styled
def ages(bins: pd.DataFrame) -> Figure:
    """Patients by age for each sex. bins: age_from, age_to (years), then counts in F and M."""
    figure, axes = style.grid(2, 1, 1.68, width=3.55, sharex=True, sharey=True)
    for ax, sex, name, colour in zip(
        axes[:, 0], ("F", "M"), ("women", "men"), (style.COLOURS[3], style.COLOURS[0]), strict=True
    ):
        width = bins["age_to"] - bins["age_from"]
        ax.bar(bins["age_from"], bins[sex], width * 0.9, align="edge", color=colour, linewidth=0)
        style.corner_text(ax, [(f"{name}, n = {bins[sex].sum():,.0f}", colour)], x=0.02, y=0.97, up=False)
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[1, 0].set_xlabel("age in years")
    return figure
