"""Figures of the ADGM: training curves, latent variables, accuracy against labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from cxr.report.figures import style

PARTS = ("training", "validation")
PANELS = {"acc": "accuracy", "ce": "classification loss", "L": "L", "U": "U", "J": "J\u03b1"}
MANY, SPREAD = 5, 1.4  # models; of their places at one number of labels, as a ratio
LATENT = {"KL_z": "KL of z, nats", "KL_a": "KL of a, nats", "active_z": "active units of z"}
LATENT |= {"active_a": "active units of a"}


@style.styled
def training(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """The ADGM's five training curves, training and validation, a row per run (name -> history).

    The second paper's figures 3 and 4.
    """
    figure, axes = style.grid(max(len(histories), 1), len(PANELS), 1.6, sharex=True)
    for k, (name, history) in enumerate(histories.items()):
        for ax, (key, title) in zip(axes[k], PANELS.items(), strict=True):
            for part, colour in (("train", style.COLOURS[0]), ("valid", style.COLOURS[1])):
                style.draw_line(ax, history["epoch"], history[f"{part}_{key}"], colour, linewidth=1.1)
            if k == 0:
                ax.set_title(title)
            if k == len(histories) - 1:
                ax.set_xlabel("epoch")
                style.epoch_axis(ax, history["epoch"].max())
            ax.yaxis.set_major_locator(MaxNLocator(4))
        axes[k, 0].set_ylabel(name)
    figure.legend(
        handles=[Line2D([], [], color=colour, label=part) for part, colour in zip(PARTS, style.COLOURS, strict=False)],
        loc="outside upper right",
        ncols=2,
        frameon=False,
    )
    return figure


@style.styled
def latent(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """What the latent variables carry by epoch, a line per run (name -> history): KLs in nats and active units."""
    figure, axes = style.grid(1, len(LATENT), 1.7)
    for ax, (column, title) in zip(axes[0], LATENT.items(), strict=True):
        ends = []
        for colour, (name, history) in zip(style.colours(len(histories)), histories.items(), strict=True):
            style.draw_line(ax, history["epoch"], history[column], colour, linewidth=1.1)
            ends.append((history["epoch"].iloc[-1], history[column].iloc[-1], name, colour))
        ax.set(title=title, xlabel="epoch")
        ax.set_ylim(0, max(1.0, ax.get_ylim()[1]))
        style.epoch_axis(ax, max([history["epoch"].max() for history in histories.values()], default=1))
        if ax is axes[0, -1]:
            style.end_labels(ax, ends)
    return figure


@style.styled
def accuracy(runs: pd.DataFrame, printed: Mapping[int, Sequence[tuple[int, float]]]) -> Figure:
    """Accuracy and AUC against labels per class, a column per number of classes, a line per model; the accuracy is the
    paper's figures 5 and 6. With more than MANY models a task has the whole width, for the lines' labels.

    runs: name (of the model), classes, labels, accuracy and macro_auc with _low and _high, majority_share, n. printed:
    number of classes -> the paper's points (labels, accuracy).
    """
    tasks = sorted(runs["classes"].unique())
    count, names = max(len(tasks), 1), list(dict.fromkeys(runs["name"]))
    if len(names) > MANY:
        figure, axes = style.grid(2 * count, 1, 3.0)
        axes = axes.reshape(count, 2).T
    else:
        figure, axes = style.grid(2, count, 2.5, width=3.55 * count)
    for column, classes in zip(axes.T, tasks, strict=False):
        task = runs[runs["classes"] == classes].sort_values("labels")
        points = np.array(printed.get(int(classes), ()), float).reshape(-1, 2)
        for ax, score, label in zip(column, ("accuracy", "macro_auc"), ("accuracy", "AUC"), strict=True):
            ends = _model_lines(ax, task, names, score)
            if score == "accuracy":
                ends = _paper_line(ax, points) + ends
                _majority_line(ax, task["majority_share"].iloc[0])
                style.percent_axis(ax.yaxis)
                ax.set_title(f"{classes} classes, n = {task['n'].iloc[0]:,}")
            _label_axis(ax, {*task["labels"], *points[:, 0].astype(int)})
            ax.set_ylabel(label)
            style.end_labels(ax, ends)
    return figure


def _paper_line(ax: Axes, points: np.ndarray) -> list[tuple]:
    if not len(points):
        return []
    look = {"linewidth": 1, "linestyle": (0, (4, 2)), "marker": "D", "markersize": 3, "markerfacecolor": "white"}
    ax.plot(points[:, 0], points[:, 1], color=style.GREY, **look)
    return [(points[-1, 0], points[-1, 1], "the paper", style.GREY)]


def _model_lines(ax: Axes, task: pd.DataFrame, names: Sequence[str], score: str) -> list[tuple]:
    """The lines' labels. Models beyond the number of colours are dashed, with open diamonds; so are their labels."""
    shades, ends = [*style.COLOURS, style.INK], []
    apart = min(1.06, SPREAD ** (1 / len(names)))  # beside each other, so that no interval hides another
    for k, name in enumerate(names):
        part, colour = task[task["name"] == name], shades[k % len(shades)]
        if part.empty:
            continue
        again = k >= len(shades)
        look = {"fmt": "--D", "markerfacecolor": "white"} if again else {"fmt": "-o"}
        bars = [part[score] - part[f"{score}_low"], part[f"{score}_high"] - part[score]]
        x = part["labels"] * apart ** (k - (len(names) - 1) / 2)
        ax.errorbar(x, part[score], bars, color=colour, markersize=3.6, linewidth=1.3, elinewidth=1, **look)
        label = f"\u25c7 {name}" if again else name
        ends.append((1.03 * task["labels"].max() * apart ** (len(names) / 2), part[score].iloc[-1], label, colour))
    return ends


def _majority_line(ax: Axes, share: float) -> None:
    ax.axhline(share, color=style.INK, linewidth=0.8, linestyle=":")
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    ax.annotate("majority class", (0.99, share), (0, 2), fontsize=7, ha="right", **place)


def _label_axis(ax: Axes, labels: set[int]) -> None:
    """A logarithmic x axis with ticks at numbers of labels, none too near to the next."""
    ax.set_xscale("log")
    ticks: list[int] = []
    for tick in sorted(labels, reverse=True):
        if not ticks or ticks[-1] / tick > 1.7:
            ticks.append(tick)
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", which="minor", length=0)
    ax.set_xlabel("labels per class")
