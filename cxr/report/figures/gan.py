"""Figures of the generators: training curves, X-rays side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator
from PIL import Image

from cxr.report.figures import style


@style.styled
def gan(histories: Mapping[str, pd.DataFrame], kept: Mapping[str, int]) -> Figure:
    """Losses of generator and discriminator, below them the discriminator's mean answers, the generator's diversity
    and, where one was measured, its KID; a column per generator, an upright line at the epoch whose state was kept.

    histories: name -> epoch, loss_g, loss_d, d_real, d_fake, kid, diversity (NaN where nobody looked). kept: name ->
    epoch.
    """
    pairs = [
        ("loss", (("loss_g", "generator", style.COLOURS[1]), ("loss_d", "discriminator", style.COLOURS[0]))),
        ("D's answer", (("d_real", "on real", style.COLOURS[2]), ("d_fake", "on generated", style.COLOURS[3]))),
        ("diversity", (("diversity", "", style.COLOURS[1]),)),
    ]
    if any(history["kid"].notna().any() for history in histories.values()):
        pairs.append(("KID", (("kid", "", style.COLOURS[1]),)))
    columns = max(len(histories), 1)
    figure, axes = style.grid(len(pairs), columns, 1.3, width=min(style.WIDTH, 2.7 * columns + 0.4), sharex="col")
    for k, (name, history) in enumerate(histories.items()):
        for ax, (_, lines) in zip(axes[:, k], pairs, strict=True):
            for column, _, colour in lines:
                seen = history[history[column].notna()]
                style.draw_line(ax, seen["epoch"], seen[column], colour, linewidth=1.1)
            ax.axvline(kept[name], color=style.PALE, linewidth=0.8, zorder=0)
        low, high = np.nanpercentile(history[["loss_g", "loss_d"]], (0.5, 99.5))  # a saturating loss is negative
        axes[0, k].set(title=name, ylim=(min(0.0, 1.05 * float(low)), max(1.0, 1.05 * float(high))))
        axes[1, k].axhline(0.5, color=style.PALE, linewidth=0.8, zorder=0)
        axes[1, k].set(ylim=(0, 1))
        axes[2, k].axhline(1, color=style.PALE, linewidth=0.8, zorder=0)
        axes[2, k].set_ylim(0, max(1.1, 1.05 * float(history["diversity"].max())))
        if len(pairs) > 3 and history["kid"].notna().any():
            axes[3, k].axhline(0, color=style.PALE, linewidth=0.8, zorder=0)
            axes[3, k].set_yscale("symlog", linthresh=0.1)  # from hundreds down to about 0, where it may be negative
            axes[3, k].yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=0.1))
            axes[3, k].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes[3, k].set_ylim(min(-0.02, 1.3 * history["kid"].min()), 1.5 * max(0.1, history["kid"].max()))
        axes[-1, k].set_xlabel("epoch")
        style.epoch_axis(axes[-1, k], history["epoch"].max())
    for row, (label, lines) in enumerate(pairs):
        axes[row, 0].set_ylabel(label)
        if histories and len(lines) > 1:
            ends = [
                (histories[name]["epoch"].iloc[-1], histories[name][c].iloc[-1], t, colour) for c, t, colour in lines
            ]
            style.end_labels(axes[row, -1], ends)
    return figure


def beside(images: Sequence[Image.Image], width: int, height: int, gap: int) -> Image.Image:
    """X-ray pictures side by side on black, each resized to width x height, `gap` pixels apart."""
    whole = Image.new("L", (len(images) * (width + gap) - gap, height))
    for k, image in enumerate(images):
        whole.paste(image.convert("L").resize((width, height), Image.Resampling.LANCZOS), (k * (width + gap), 0))
    return whole
