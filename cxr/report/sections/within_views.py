"""The ADGM within one view, beside its metadata baseline: the view alone gives RSNA's classes away."""

from __future__ import annotations

import math

from cxr.adgm.variants import Run
from cxr.report.inputs import Artefacts, Rows
from cxr.report.page import Estimate

METADATA = 0  # in place of the blank number of labels of the metadata baseline


def floor_rows(run: Artefacts) -> Rows:
    """The rows of adgm_floor by (classes, labels, view); labels of the metadata baseline: METADATA."""
    table = run.table("adgm_floor", "labels").assign(labels=lambda t: t["labels"].fillna(METADATA))
    return Rows(table, run.evaluate / "adgm_floor.csv", "evaluate", "classes", "labels", "view")


def area_of(row: dict) -> Estimate:
    """A row's AUC with its interval."""
    why = "" if math.isfinite(row["auc"]) else "a class has too few images"
    return Estimate(row["auc"], row["low"], row["high"], why)


def within_views(by: Rows, one: Run) -> list[dict]:
    """AUC of the ADGM and of the metadata baseline within AP and within PA; a view without images is left out.

    by: of `floor_rows`; one: of the leading variant and the first draw, which the table is of.
    """
    views = []
    for view in ("AP", "PA"):
        ours, metadata = by[one.classes, one.labels, view], by[one.classes, METADATA, view]
        if ours["n"]:
            pair = {"auc": area_of(ours), "metadata": area_of(metadata)}
            views.append({"view": view, "n": ours["n"], "patients": ours["patients"], **pair})
    return views
