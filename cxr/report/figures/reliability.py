"""Figure of the calibration: reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cxr.report.figures import style

SHADES = ("#a6a6a6", style.COLOURS[1], style.COLOURS[0])


@style.styled
def reliability(curves: pd.DataFrame, findings: Sequence[str], forms: Mapping[str, str]) -> Figure:
    """Share of positives against mean probability, a panel per finding, a line per form. Both axes end at the largest.

    curves: finding, form, predicted, observed, low, high (shares), of one model; forms: form -> its name on the figure.
    The last form that a finding has carries intervals.
    """
    figure, axes, flat = style.panels(len(findings), 3, 2.4, width=2.4)
    for ax, finding in zip(flat, findings, strict=True):
        lines = curves[curves["finding"] == finding]
        top = min(1.0, 1.08 * float(lines[["predicted", "observed"]].max().max()))
        ax.plot([0, top], [0, top], color=style.PALE, linewidth=0.8)
        present = [form for form in forms if (lines["form"] == form).any()]
        for k, (form, colour) in enumerate(zip(forms, SHADES, strict=True)):
            line = lines[lines["form"] == form].sort_values("predicted")
            width = 2.6 if k == 0 else 1.1  # stays visible under a form that equals it
            look = {"color": colour, "marker": "o", "markersize": 2 + width / 2, "linewidth": width}
            ax.plot(line["predicted"], line["observed"], **look)
            if form in present[-1:]:
                ax.vlines(line["predicted"], line["low"], line["high"].clip(upper=top), color=colour, linewidth=0.6)
        absent = [(f"{name}: n/a", style.GREY) for form, name in forms.items() if form not in present]
        style.corner_text(ax, absent, x=0.03, y=0.97, up=False)
        ax.set(title=finding, xlim=(-0.01 * top, top), ylim=(-0.01 * top, top), aspect="equal")
        ax.set_xlabel("mean probability")
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.yaxis.set_major_locator(MaxNLocator(3))
    for ax in axes[:, 0]:
        ax.set_ylabel("share of positives")
    handles = [Line2D([], [], color=colour, label=name) for name, colour in zip(forms.values(), SHADES, strict=True)]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(forms), frameon=False)
    return figure
