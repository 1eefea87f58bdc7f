"""The report's figures: matplotlib, one look, the same bytes for the same numbers.

Each function takes tables and gives a matplotlib Figure; `svg` and `png` turn it into bytes without dates or ids.
Lines carry their own labels instead of legends; colours are Okabe and Ito's, told apart with any colour vision. Widths
are in inches of a 7.2 inch text column.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, SymmetricalLogLocator
from PIL import Image

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
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.4,
    "text.color": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "cxr",
}


def svg(figure: Figure) -> bytes:
    """The figure as SVG, letters as outlines so that every machine shows the same."""
    return _bytes(figure, format="svg", metadata={"Date": None, "Creator": None})


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as PNG; dpi: pixels per inch."""
    return _bytes(figure, format="png", dpi=dpi, metadata={"Software": None})


def _bytes(figure: Figure, **options) -> bytes:
    data = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, **options)
    figure.set_layout_engine("none")  # the layout stays as it is now: finding it takes longer than drawing
    return data.getvalue()


def _grid(rows: int, columns: int, height: float, width: float = WIDTH, **options) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes; height in inches is a row's."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05, wspace=0.04, hspace=0.04)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    @functools.wraps(draw)
    def styled(*arguments, **options) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **options)

    return styled


def _spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places moved apart to at least `gap`, kept below `high` where they fit, above `low` in any case."""
    places = list(places)
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + gap)
    if places and places[-1] > high:
        places[-1] = high
        for k in range(len(places) - 2, -1, -1):
            places[k] = min(places[k], places[k + 1] - gap)
    shift = max(0.0, low - places[0]) if places else 0.0
    return [p + shift for p in places]


def _end_labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each line's label right of its end (x, y, text, colour), none on top of another."""
    ends = sorted((e for e in ends if np.isfinite(e[1])), key=lambda e: e[1])
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    height = axes.figure.get_figheight() / axes.get_gridspec().nrows - 0.5  # inches, less title and axis label
    point = (high - low) / (height * 72)
    for (x, _, text, colour), y in zip(ends, _spread([e[1] for e in ends], 8.5 * point, low, high), strict=True):
        axes.annotate(text, (x, y), (4, 0), textcoords="offset points", color=colour, va="center", fontsize=7)


def _corner(axes: Axes, lines: Sequence[tuple[str, str]], x: float = 0.98, y: float = 0.04, up: bool = True) -> None:
    """Coloured lines of text (text, colour) in a corner of the axes, read from top to bottom."""
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


def _epochs(axes: Axes, last: float) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if last <= 1:
        axes.set_xlim(last - 1, last + 1)


def _line(axes: Axes, x: pd.Series, y: pd.Series, colour: str, **options) -> None:
    """A line, with its points marked while they are few."""
    axes.plot(x, y, color=colour, marker="o" if len(x) <= 12 else None, markersize=2.6, **options)


def _percent(values: Axis, digits: int = 0) -> None:
    values.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.{digits}f} %"))


@_styled
def labels(table: pd.DataFrame, parts: Mapping[str, str]) -> Figure:
    """Stacked bars of each finding's label values as shares of its images.

    table: finding, and counts in the columns that parts names (column -> label).
    """
    figure, [[axes]] = _grid(1, 1, 0.55 + 0.2 * len(table), width=3.55)
    y = np.arange(len(table))[::-1]
    whole = table[list(parts)].sum(axis=1).clip(lower=1).to_numpy(float)
    left = np.zeros(len(table))
    for (column, label), shade in zip(parts.items(), (COLOURS[0], COLOURS[4], "#a6a6a6", "#ebebeb"), strict=False):
        share = table[column].to_numpy(float) / whole
        axes.barh(y, share, 0.66, left=left, color=shade, linewidth=0, label=label)
        left += share
    axes.set_yticks(y, table["finding"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.5, len(table) - 0.5)
    _percent(axes.xaxis)
    figure.legend(
        loc="outside upper right",
        ncols=len(parts),
        frameon=False,
        handlelength=0.9,
        handletextpad=0.4,
        columnspacing=1.1,
    )
    return figure


@_styled
def ages(bins: pd.DataFrame) -> Figure:
    """Patients by age for each sex. bins: age_from, age_to (years), then counts in F and M."""
    figure, axes = _grid(2, 1, 1.68, width=3.55, sharex=True, sharey=True)
    for ax, sex, name, colour in zip(axes[:, 0], ("F", "M"), ("women", "men"), (COLOURS[3], COLOURS[0]), strict=True):
        width = bins["age_to"] - bins["age_from"]
        ax.bar(bins["age_from"], bins[sex], width * 0.9, align="edge", color=colour, linewidth=0)
        _corner(ax, [(f"{name}, n = {bins[sex].sum():,.0f}", colour)], x=0.02, y=0.97, up=False)
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[1, 0].set_xlabel("age in years")
    return figure


@_styled
def roc(curves: pd.DataFrame, areas: pd.DataFrame, findings: Sequence[str], models: Mapping[str, str]) -> Figure:
    """ROC curves, one panel per finding, one line per model.

    curves: model, finding, fpr, tpr. areas: model, finding, n, positives, auc. models: model as in the tables -> its
    name on the figure. A model without an area (too few positives) has no line, and the panel says so.
    """
    columns = min(max(len(findings), 1), 3)
    rows = max(1, -(-len(findings) // columns))
    figure, axes = _grid(rows, columns, 2.5, width=2.4 * columns)
    for ax in axes.flat[len(findings) :]:
        ax.set_axis_off()
    for ax, finding in zip(axes.flat, findings, strict=False):
        notes = []
        ax.plot([0, 1], [0, 1], color=PALE, linewidth=0.8)
        for colour, (model, name) in zip(_cycle(len(models)), models.items(), strict=True):
            area = areas[(areas["model"] == model) & (areas["finding"] == finding)]
            line = curves[(curves["model"] == model) & (curves["finding"] == finding)]
            value = area["auc"].iloc[0] if len(area) else np.nan
            if np.isfinite(value) and len(line):
                ax.plot(line["fpr"], line["tpr"], color=colour, drawstyle="default")
                notes.append((f"{name}  {value:.3f}", colour))
            else:
                notes.append((f"{name}  n/a", colour))
        known = areas[areas["finding"] == finding]
        count = (
            f"{known['positives'].iloc[0]:,.0f} of {known['n'].iloc[0]:,.0f} positive"
            if len(known)
            else "not evaluated"
        )
        _corner(ax, [*notes, (count, GREY)])
        ax.set(title=finding, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel="1 \u2212 specificity")
        ax.set_xticks([0, 0.5, 1])
        ax.set_yticks([0, 0.5, 1])
    for ax in axes[:, 0]:
        ax.set_ylabel("sensitivity")
    return figure


def _cycle(n: int) -> list[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(n)]


@_styled
def training(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Training loss, validation loss and mean validation AUC by epoch, a line per run.

    histories: name -> epoch, train_loss, valid_loss, valid_macro_auc.
    """
    panels = {"train_loss": "training loss", "valid_loss": "validation loss", "valid_macro_auc": "validation macro AUC"}
    figure, axes = _grid(1, 3, 1.9)
    for ax, (column, title) in zip(axes[0], panels.items(), strict=True):
        ends = []
        for colour, (name, history) in zip(_cycle(len(histories)), histories.items(), strict=True):
            _line(ax, history["epoch"], history[column], colour)
            ends.append((history["epoch"].iloc[-1], history[column].iloc[-1], name, colour))
        ax.set(title=title, xlabel="epoch")
        _epochs(ax, max([h["epoch"].max() for h in histories.values()], default=1))
        if ax is axes[0, -1]:
            _end_labels(ax, ends)
    return figure


@_styled
def gan(histories: Mapping[str, pd.DataFrame], kept: Mapping[str, int]) -> Figure:
    """Losses of generator and discriminator, below them the discriminator's mean answers, the generator's diversity
    and, where one was measured, its KID; a column per generator, an upright line at the epoch whose state was kept.

    histories: name -> epoch, loss_g, loss_d, d_real, d_fake, kid, diversity (NaN where nobody looked). kept: name ->
    epoch.
    """
    pairs = [
        ("loss", (("loss_g", "generator", COLOURS[1]), ("loss_d", "discriminator", COLOURS[0]))),
        ("D's answer", (("d_real", "on real", COLOURS[2]), ("d_fake", "on generated", COLOURS[3]))),
        ("diversity", (("diversity", "", COLOURS[1]),)),
    ]
    if any(history["kid"].notna().any() for history in histories.values()):
        pairs.append(("KID", (("kid", "", COLOURS[1]),)))
    columns = max(len(histories), 1)
    figure, axes = _grid(len(pairs), columns, 1.3, width=min(WIDTH, 2.7 * columns + 0.4), sharex="col")
    for k, (name, history) in enumerate(histories.items()):
        for ax, (_, lines) in zip(axes[:, k], pairs, strict=True):
            for column, _, colour in lines:
                seen = history[history[column].notna()]
                _line(ax, seen["epoch"], seen[column], colour, linewidth=1.1)
            ax.axvline(kept[name], color=PALE, linewidth=0.8, zorder=0)
        low, high = np.nanpercentile(history[["loss_g", "loss_d"]], (0.5, 99.5))  # a saturating loss is negative
        axes[0, k].set(title=name, ylim=(min(0.0, 1.05 * float(low)), max(1.0, 1.05 * float(high))))
        axes[1, k].axhline(0.5, color=PALE, linewidth=0.8, zorder=0)
        axes[1, k].set(ylim=(0, 1))
        axes[2, k].axhline(1, color=PALE, linewidth=0.8, zorder=0)
        axes[2, k].set_ylim(0, max(1.1, 1.05 * float(history["diversity"].max())))
        if len(pairs) > 3 and history["kid"].notna().any():
            axes[3, k].axhline(0, color=PALE, linewidth=0.8, zorder=0)
            axes[3, k].set_yscale("symlog", linthresh=0.1)  # from hundreds down to about 0, where it may be negative
            axes[3, k].yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=0.1))
            axes[3, k].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes[3, k].set_ylim(min(-0.02, 1.3 * history["kid"].min()), 1.5 * max(0.1, history["kid"].max()))
        axes[-1, k].set_xlabel("epoch")
        _epochs(axes[-1, k], history["epoch"].max())
    for row, (label, lines) in enumerate(pairs):
        axes[row, 0].set_ylabel(label)
        if histories and len(lines) > 1:
            ends = [
                (histories[name]["epoch"].iloc[-1], histories[name][c].iloc[-1], t, colour) for c, t, colour in lines
            ]
            _end_labels(axes[row, -1], ends)
    return figure


@_styled
def forest(rows: pd.DataFrame, label: str = "difference in AUC, final \u2212 baseline") -> Figure:
    """Differences with intervals around a zero line, blue where the interval is clear of it.

    rows: name, note (right-hand text), difference, low, high, printed (a paper's); numbers may be NaN.
    """
    figure, [[axes]] = _grid(1, 1, 0.6 + 0.2 * len(rows))
    y = np.arange(len(rows))[::-1].astype(float)
    known = rows["difference"].notna().to_numpy()
    axes.axvline(0, color=INK, linewidth=0.8)
    clear = known & ((rows["low"] > 0) | (rows["high"] < 0)).to_numpy()
    for part, colour in ((known & ~clear, GREY), (clear, COLOURS[0])):
        axes.hlines(y[part], rows["low"][part], rows["high"][part], color=colour, linewidth=1.3)
        axes.plot(rows["difference"][part], y[part], "o", color=colour, markersize=4.2)
    paper = rows["printed"].notna().to_numpy()
    axes.plot(
        rows["printed"][paper],
        y[paper],
        "D",
        markersize=4,
        markerfacecolor="white",
        markeredgecolor=COLOURS[1],
        markeredgewidth=1,
    )
    reach = np.nanmax(np.abs(rows[["low", "high", "printed"]].to_numpy(float)), initial=0.02) * 1.06
    axes.set(xlim=(-reach, reach), ylim=(-0.7, len(rows) - 0.3), xlabel=label)
    axes.set_yticks(y, rows["name"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for place, text, ok in zip(y, rows["note"], known, strict=True):
        axes.annotate(
            text,
            (1, place),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=INK if ok else GREY,
        )
    return figure


@_styled
def study(rows: pd.DataFrame, arms: Mapping[str, str], control: str) -> Figure:
    """Differences of a study's arms from the best control, a panel per finding, a line per arm.

    rows: panel, arm, difference, low, high (patients: thick), total_low, total_high (and trainings: thin; NaN: none);
    arms: arm -> its name on the figure. The control stands hollow at zero, the baseline as a dotted line.
    """
    panels = list(dict.fromkeys(rows["panel"]))
    columns = min(max(len(panels), 1), 4)
    lines = max(1, -(-len(panels) // columns))
    figure, axes = _grid(lines, columns, 0.75 + 0.17 * len(arms), sharex=True, sharey=True)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    ends = ["low", "high", "total_low", "total_high"]
    reach = np.nanmax(np.abs(rows[ends].to_numpy(float)), initial=0.02) * 1.06
    y = dict(zip(arms, range(len(arms))[::-1], strict=True))
    for ax, panel in zip(axes.flat, panels, strict=False):
        mine = rows[rows["panel"] == panel]
        ax.axvline(0, color=INK, linewidth=0.8)
        for row in mine.itertuples():
            clear = row.total_low > 0 or row.total_high < 0
            colour = COLOURS[0] if clear else GREY
            if row.arm == "baseline" and control != "baseline" and np.isfinite(row.difference):
                ax.axvline(row.difference, color=COLOURS[1], linewidth=0.9, linestyle=":")
            ax.hlines(y[row.arm], row.total_low, row.total_high, color=colour, linewidth=0.8)
            ax.hlines(y[row.arm], row.low, row.high, color=colour, linewidth=2.6)
            if row.arm == control:
                ax.plot(0, y[row.arm], "o", markersize=4, markerfacecolor="white", markeredgecolor=INK)
            else:
                ax.plot(row.difference, y[row.arm], "|", color=colour, markersize=7, markeredgewidth=1.3)
            if not np.isfinite(row.difference):
                ax.annotate("n/a", (0, y[row.arm]), (4, 0), textcoords="offset points", va="center", color=GREY)
        ax.set(title=panel, xlim=(-reach, reach), ylim=(-0.7, len(arms) - 0.3))
        ax.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
        ax.set_yticks(list(y.values()), list(arms.values()))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    figure.supxlabel("difference in AUC, arm \u2212 best control", fontsize=7.5)
    return figure


ADGM_PANELS = {"acc": "accuracy", "ce": "classification loss", "L": "L", "U": "U", "J": "J\u03b1"}


@_styled
def adgm_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """The ADGM's five training curves, training and validation, a row per run (name -> history).

    The second paper's figures 3 and 4.
    """
    figure, axes = _grid(max(len(histories), 1), 5, 1.4, sharex=True)
    for k, (name, history) in enumerate(histories.items()):
        for ax, (key, title) in zip(axes[k], ADGM_PANELS.items(), strict=True):
            for part, colour in (("train", COLOURS[0]), ("valid", COLOURS[1])):
                _line(ax, history["epoch"], history[f"{part}_{key}"], colour, linewidth=1.1)
            if k == 0:
                ax.set_title(title)
            if k == len(histories) - 1:
                ax.set_xlabel("epoch")
                _epochs(ax, history["epoch"].max())
            ax.yaxis.set_major_locator(MaxNLocator(4))
        axes[k, 0].set_ylabel(name)
        _corner(axes[k, 0], [("training", COLOURS[0]), ("validation", COLOURS[1])])
    return figure


@_styled
def adgm_latent(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """What the latent variables carry by epoch, a line per run (name -> history): KLs in nats and active units."""
    panels = {
        "KL_z": "KL of z, nats",
        "KL_a": "KL of a, nats",
        "active_z": "active units of z",
        "active_a": "active units of a",
    }
    figure, axes = _grid(1, 4, 1.7)
    shades = [COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3], COLOURS[4], COLOURS[5]]
    for ax, (column, title) in zip(axes[0], panels.items(), strict=True):
        ends = []
        for k, (name, history) in enumerate(histories.items()):
            colour = shades[k % len(shades)]
            _line(ax, history["epoch"], history[column], colour, linewidth=1.1)
            ends.append((history["epoch"].iloc[-1], history[column].iloc[-1], name, colour))
        ax.set(title=title, xlabel="epoch")
        ax.set_ylim(0, max(1.0, ax.get_ylim()[1]))
        _epochs(ax, max([h["epoch"].max() for h in histories.values()], default=1))
        if ax is axes[0, -1]:
            _end_labels(ax, ends)
    return figure


@_styled
def adgm_accuracy(ours: pd.DataFrame, papers: Mapping[int, Sequence[tuple[int, float]]]) -> Figure:
    """Accuracy against labels per class, a panel per number of classes, a line per model; the paper's figures 5 and 6.

    ours: name (of the model), classes, labels, accuracy, low, high, majority_share, n. papers: number of classes ->
    (labels, accuracy) points.
    """
    tasks = sorted(ours["classes"].unique())
    figure, axes = _grid(1, max(len(tasks), 1), 2.7, width=3.55 * max(len(tasks), 1))
    shades = [*COLOURS, INK]
    for ax, classes in zip(axes[0], tasks, strict=False):
        mine = ours[ours["classes"] == classes].sort_values("labels")
        floor = mine["majority_share"].iloc[0]
        ends = []
        points = np.array(papers.get(int(classes), ()), float).reshape(-1, 2)
        if len(points):
            ax.plot(
                points[:, 0],
                points[:, 1],
                color=GREY,
                linewidth=1,
                linestyle=(0, (4, 2)),
                marker="D",
                markersize=3,
                markerfacecolor="white",
            )
            ends.append((points[-1, 0], points[-1, 1], "the paper", GREY))
        names = list(dict.fromkeys(ours["name"]))
        for k, name in enumerate(names):
            part, colour = mine[mine["name"] == name], shades[k % len(shades)]
            if part.empty:
                continue
            x = part["labels"] * 1.06 ** (k - (len(names) - 1) / 2)  # side by side, so that no interval hides another
            bars = [part["accuracy"] - part["low"], part["high"] - part["accuracy"]]
            ax.errorbar(x, part["accuracy"], bars, color=colour, fmt="-o", markersize=3.6, linewidth=1.3, elinewidth=1)
            ends.append((mine["labels"].max() * 1.06 ** (len(names) / 2), part["accuracy"].iloc[-1], name, colour))
        ax.axhline(floor, color=INK, linewidth=0.8, linestyle=":")
        ax.annotate(
            "majority class",
            (0.99, floor),
            (0, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7,
            ha="right",
        )
        ax.set_xscale("log")
        ticks = []
        for tick in sorted({*mine["labels"], *points[:, 0].astype(int)}, reverse=True):
            if not ticks or ticks[-1] / tick > 1.7:
                ticks.append(tick)
        ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(axis="x", which="minor", length=0)
        ax.set(
            title=f"{classes} classes, n = {mine['n'].iloc[0]:,}",
            xlabel="labels per class",
            ylabel="validation accuracy",
        )
        _percent(ax.yaxis)
        _end_labels(ax, ends)
    return figure


def beside(images: Sequence[Image.Image], width: int, height: int, gap: int) -> Image.Image:
    """X-ray pictures side by side on black, each resized to width x height, `gap` pixels apart."""
    whole = Image.new("L", (len(images) * (width + gap) - gap, height))
    for k, image in enumerate(images):
        whole.paste(image.convert("L").resize((width, height), Image.Resampling.LANCZOS), (k * (width + gap), 0))
    return whole


@_styled
def reliability(curves: pd.DataFrame, findings: Sequence[str], forms: Mapping[str, str]) -> Figure:
    """Share of positives against mean probability, a panel per finding, a line per form, both axes to the largest.

    curves: finding, form, predicted, observed, low, high (shares), of one model; forms: form -> its name on the figure;
    intervals are drawn for the last form that is there.
    """
    columns = min(max(len(findings), 1), 3)
    rows = max(1, -(-len(findings) // columns))
    figure, axes = _grid(rows, columns, 2.4, width=2.4 * columns)
    for ax in axes.flat[len(findings) :]:
        ax.set_axis_off()
    for ax, finding in zip(axes.flat, findings, strict=False):
        mine = curves[curves["finding"] == finding]
        top = min(1.0, 1.08 * float(mine[["predicted", "observed"]].max().max()))
        ax.plot([0, top], [0, top], color=PALE, linewidth=0.8)
        shown, notes = [form for form in forms if (mine["form"] == form).any()], []
        for k, (form, name) in enumerate(forms.items()):
            colour = ("#a6a6a6", COLOURS[1], COLOURS[0])[k]
            line = mine[mine["form"] == form].sort_values("predicted")
            notes.append((name if form in shown else f"{name}  n/a", colour))
            wide = 2.6 if k == 0 else 1.1  # seen under a form that equals it
            ax.plot(
                line["predicted"], line["observed"], color=colour, marker="o", markersize=2 + wide / 2, linewidth=wide
            )
            if form in shown[-1:]:
                ax.vlines(line["predicted"], line["low"], line["high"].clip(upper=top), color=colour, linewidth=0.6)
        _corner(ax, notes, x=0.03, y=0.97, up=False)
        ax.set(title=finding, xlim=(-0.01 * top, top), ylim=(-0.01 * top, top), aspect="equal")
        ax.set_xlabel("mean probability")
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.yaxis.set_major_locator(MaxNLocator(3))
    for ax in axes[:, 0]:
        ax.set_ylabel("share of positives")
    return figure
