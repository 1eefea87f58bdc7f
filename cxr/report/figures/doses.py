"""Dose and response: AUC over the number of added positives."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cxr.report.figures import style

APART = 0.08  # between two lines at one dose


@style.styled
def doses(rows: pd.DataFrame, label: str) -> Figure:
    """A line for each kind of added images, with intervals, over the doses in the order of the rows.

    rows: kind, dose (as text), auc, low, high; numbers may be NaN. label: of y.
    """
    figure, [[axes]] = style.grid(1, 1, 2.2, width=0.6 * style.WIDTH)
    places = {dose: place for place, dose in enumerate(dict.fromkeys(rows["dose"]))}
    kinds = list(dict.fromkeys(rows["kind"]))
    for number, (kind, colour) in enumerate(zip(kinds, style.COLOURS, strict=False)):
        own = rows[rows["kind"] == kind]
        x = own["dose"].map(places).to_numpy(float) + APART * (number - (len(kinds) - 1) / 2)
        axes.vlines(x, own["low"], own["high"], color=colour, linewidth=0.9)
        axes.plot(x, own["auc"], "o-", color=colour, markersize=3.5, linewidth=1)
        last = own["auc"].to_numpy()[-1]
        if np.isfinite(last):
            axes.annotate(kind, (x[-1], last), (7, 0), textcoords="offset points", va="center", color=colour)
    axes.set(xlabel="added positives as a multiple of the real ones", ylabel=label, xlim=(-0.4, len(places) + 0.4))
    axes.set_xticks(list(places.values()), list(places))
    return figure
