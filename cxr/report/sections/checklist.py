"""What two reporting guidelines ask for, where this run reports it, and what it does not report.

CLAIM 2024 (Tejani et al., Checklist for Artificial Intelligence in Medical Imaging, 2024 update) and TRIPOD+AI (Collins
et al. 2024), in our own short words. templates/checklist.csv holds the items; the run decides which of the conditional
ones are reported.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxr.report.inputs import Artefacts
from cxr.report.page import Table

ITEMS = Path(__file__).parents[1] / "templates" / "checklist.csv"
COLUMNS = ("guideline", "item", "topic", "asks", "where", "anchor", "needs", "otherwise")
NEEDS = ("errors", "readers", "generated", "external")  # what an item may need


def facts(run: Artefacts, context: dict) -> dict[str, bool]:
    """What the items of the checklist depend on."""
    return {
        "errors": bool(context["errors"]["findings"]),
        "readers": bool(context["scoring"]["readers"]),
        "generated": bool(run.findings),
        "external": bool(context["external"]["sets"]),
    }


def checklist(run: Artefacts, context: dict) -> dict:
    """Both lists as one table: where an item is reported (blank: it is not), and why not."""
    known = facts(run, context)
    rows = []
    for item in pd.read_csv(ITEMS, dtype=str, keep_default_na=False).to_dict("records"):
        met = not item["needs"] or known[item["needs"]]
        reported = bool(item["where"]) and met
        row = {key: item[key] for key in ("guideline", "item", "topic", "asks")}
        row |= {"reported": "yes" if reported else "no", "where": item["where"] if reported else "not reported"}
        rows.append(row | {"remark": None if reported else item["otherwise"]})
    counts = {
        name: {"all": len(of), "reported": sum(row["reported"] == "yes" for row in of)}
        for name in dict.fromkeys(row["guideline"] for row in rows)
        for of in [[row for row in rows if row["guideline"] == name]]
    }
    return {"table": Table("checklist", rows), "counts": counts}
