"""Figure of the net benefit: decision curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cxr.report.figures import style


@style.styled
def curves(table: pd.DataFrame, findings: Sequence[str], models: Mapping[str, str]) -> Figure:
    """Net benefit against the probability at which somebody acts, a panel per finding, a line per model; the last model
    carries a band, its interval.

    table: model, finding, threshold, benefit, benefit_low, benefit_high, everyone. models: model -> its name. The
    horizontal axis ends where acting on nobody is as good as the best of the models for good.
    """
    figure, axes, flat = style.panels(len(findings), 3, 2.4, width=2.4)
    colours = dict(zip(models, style.colours(len(models)), strict=True))
    for ax, finding in zip(flat, findings, strict=True):
        rows = table[table["finding"] == finding]
        useful = rows[rows["benefit"] > 0]["threshold"]
        reach = min(rows["threshold"].max(), 1.25 * useful.max() if len(useful) else 0.2)
        rows = rows[rows["threshold"] <= max(reach, 0.1)]
        top = 1.1 * max(rows["benefit"].max(), rows["benefit_high"].max(), rows["everyone"].max(), 0.001)
        for k, (model, colour) in enumerate(colours.items()):
            line = rows[rows["model"] == model].sort_values("threshold")
            if k == len(models) - 1:
                bounds = line["benefit_low"], line["benefit_high"]
                ax.fill_between(line["threshold"], *bounds, color=colour, alpha=0.15, linewidth=0)
            ax.plot(line["threshold"], line["benefit"], color=colour)
        everyone = rows.drop_duplicates("threshold").sort_values("threshold")
        ax.plot(everyone["threshold"], everyone["everyone"], color=style.INK, linewidth=1, linestyle=(0, (4, 2)))
        ax.axhline(0, color=style.GREY, linewidth=0.8)
        first = rows.iloc[0]
        style.corner_text(
            ax, [(f"{first['positives']:,.0f} of {first['n']:,.0f} positive", style.GREY)], x=0.98, y=0.97, up=False
        )
        ax.set(
            title=finding, ylim=(-0.35 * top, top), xlim=(0, rows["threshold"].max()), xlabel="threshold probability"
        )
        style.percent_axis(ax.xaxis)
        ax.locator_params(nbins=4)
    for ax in axes[:, 0]:
        ax.set_ylabel("net benefit")
    handles = [Line2D([], [], color=colour, label=models[model]) for model, colour in colours.items()]
    handles += [Line2D([], [], color=style.INK, linewidth=1, linestyle=(0, (4, 2)), label="act on all")]
    handles += [Line2D([], [], color=style.GREY, linewidth=0.8, label="act on none")]
    figure.legend(handles=handles, loc="outside upper right", ncols=2 if len(findings) == 1 else 4, frameon=False)
    return figure
