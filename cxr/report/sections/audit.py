"""The papers' own numbers: what the audit found, and the rows that do not agree."""

from __future__ import annotations

from cxr.audit.sheet import AGREES, CONTRADICTS, DIFFERS, PERCENT, UNCHECKED, VERDICTS, Row, tally
from cxr.core.files import read_table
from cxr.report.inputs import Artefacts
from cxr.report.page import Table

PAPERS = {1: "1, CheXpert", 2: "2, RSNA"}


def audit(run: Artefacts) -> dict:
    """The counts of the verdicts, why some numbers could not be checked, the tally by paper, the rows in question."""
    rows = read_table(run.audit / "audit.csv", "audit", Row._fields)
    reasons = read_table(run.audit / "data.csv", "audit", ("dataset", "why"))["why"].dropna()
    counts = tally(rows)
    repeated = rows["quantity"].astype(str).str.endswith(PERCENT) & (rows["verdict"] == DIFFERS)
    questioned = rows[rows["verdict"].isin((DIFFERS, CONTRADICTS)) & ~repeated]
    disputed = [row | {"paper": PAPERS[row["paper"]]} for row in questioned.to_dict("records")]
    parts = {name: rows[rows["paper"] == paper] for paper, name in PAPERS.items()}
    return {
        "checked": sum(counts.values()) - counts[UNCHECKED],
        "agree": counts[AGREES],
        "differ": counts[DIFFERS],
        "contradict": counts[CONTRADICTS],
        "unchecked": counts[UNCHECKED],
        "reasons": reasons.to_list(),
        "verdicts": VERDICTS,
        "tally": Table("audit_verdicts", [{"paper": n, **tally(part), "n": len(part)} for n, part in parts.items()]),
        "table": Table("audit", disputed, empty=Row._fields),
    }
