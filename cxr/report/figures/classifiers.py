"""Figures of the classifiers: ROC curves, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from cxr.report.figures import style


@style.styled
def roc(
    curves: pd.DataFrame,
    areas: pd.DataFrame,
    findings: Sequence[str],
    models: Mapping[str, str],
    points: pd.DataFrame | None = None,
) -> Figure:
    """ROC curves, a panel per finding, a line per model, a diamond per radiologist.

    curves: model, finding, fpr, tpr. areas: model, finding, n, positives, auc. models: model in the tables -> its name
    on the figure. points: finding, fpr, tpr of the radiologists, if any. A model without an area (too few positives)
    has no line; the panel says n/a.
    """
    figure, axes, flat = style.panels(len(findings), 3, 2.5, width=2.4)
    for ax, finding in zip(flat, findings, strict=True):
        rows = areas[areas["finding"] == finding]
        notes = []
        ax.plot([0, 1], [0, 1], color=style.PALE, linewidth=0.8)
        for colour, (model, name) in zip(style.colours(len(models)), models.items(), strict=True):
            auc = rows.loc[rows["model"] == model, "auc"]
            line = curves[(curves["model"] == model) & (curves["finding"] == finding)]
            if auc.notna().any() and len(line):
                ax.plot(line["fpr"], line["tpr"], color=colour)
                notes.append((f"{name}  {auc.iloc[0]:.3f}", colour))
            else:
                notes.append((f"{name}  n/a", colour))
        if points is not None and (at := points[points["finding"] == finding])["fpr"].notna().any():
            look = {"markersize": 5, "markerfacecolor": "white", "markeredgewidth": 1.1, "clip_on": False, "zorder": 3}
            ax.plot(at["fpr"], at["tpr"], "D", color=style.INK, **look)
            notes.append(("\u25c7 radiologist", style.INK))
        n = rows[["positives", "n"]].to_numpy()
        style.corner_text(
            ax, [*notes, (f"{n[0, 0]:,.0f} of {n[0, 1]:,.0f} positive" if len(n) else "not evaluated", style.GREY)]
        )
        ax.set(title=finding, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel="1 \u2212 specificity")
        ax.set_xticks([0, 0.5, 1])
        ax.set_yticks([0, 0.5, 1])
    for ax in axes[:, 0]:
        ax.set_ylabel("sensitivity")
    return figure


@style.styled
def training(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Training loss, validation loss and mean validation AUC by epoch, a line per run.

    histories: name -> epoch, train_loss, valid_loss, valid_macro_auc.
    """
    panels = {"train_loss": "training loss", "valid_loss": "validation loss", "valid_macro_auc": "validation macro AUC"}
    figure, axes = style.grid(1, 3, 1.9)
    for ax, (column, title) in zip(axes[0], panels.items(), strict=True):
        ends = []
        for colour, (name, history) in zip(style.colours(len(histories)), histories.items(), strict=True):
            style.draw_line(ax, history["epoch"], history[column], colour)
            ends.append((history["epoch"].iloc[-1], history[column].iloc[-1], name, colour))
        ax.set(title=title, xlabel="epoch")
        style.epoch_axis(ax, max([h["epoch"].max() for h in histories.values()], default=1))
        if ax is axes[0, -1]:
            style.end_labels(ax, ends)
    return figure
