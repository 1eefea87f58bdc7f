"""The report's section on the papers' own numbers: what the audit found, and the rows that don't agree.

As cxr/report/sections/classifiers.py: the names that the template uses, nothing computed anew.
"""

from __future__ import annotations

from cxr.audit.sheet import AGREES, CONTRADICTS, DIFFERS, PERCENT, UNCHECKED, VERDICTS, Row, tally
from cxr.report.inputs import Artefacts, csv
from cxr.report.page import Column, Table

PAPERS = {1: "1, CheXpert", 2: "2, RSNA"}


def audit(run: Artefacts) -> dict:
    """The answer in a sentence, why some numbers could not be checked, the tally by paper, the rows in question.

    Raises ValueError, naming the file, when the audit is absent or holds a verdict or a paper that there is none of.
    """
    path = run.audit / "audit.csv"
    rows = csv(path, "audit", Row._fields)
    for name, known in (("verdict", VERDICTS), ("paper", PAPERS)):
        if not (good := rows[name].isin(known)).all():
            at = (~good).idxmax()
            raise ValueError(f"{path} line {at + 2}: {name} is {rows[name][at]!s}; `dvc repro -f audit` makes it again")
    about = csv(run.audit / "data.csv", "audit", ("dataset", "why"))
    repeated = rows["quantity"].astype(str).str.endswith(PERCENT) & (rows["verdict"] == DIFFERS)
    questioned = rows[rows["verdict"].isin((DIFFERS, CONTRADICTS)) & ~repeated]
    shown = [row | {"paper": PAPERS[row["paper"]]} for row in questioned.to_dict("records")]
    columns = [
        Column("paper", "Paper"),
        Column("place", "where", "text"),
        Column("quantity", "number or claim", "text"),
        Column("stated", "printed or implied", "text"),
        Column("says", "the paper", "text"),
        Column("recomputed", "recomputed", "text"),
        Column("verdict", "verdict", "text"),
        Column("reason", "reason", "text"),
    ]
    notes = [
        "Implied: it follows from what is printed. The rows that agree, and those that can\u2019t be checked, are in "
        "the audit\u2019s own audit.csv, as are percents that differ from the data because the count beside them does."
    ]
    return {
        "answer": _answer(tally(rows)),
        "unchecked": [f"{why}." for why in about["why"].dropna()],
        "tally": _tally(rows),
        "rows": Table("audit", "Numbers that do not agree", columns, shown, notes),
    }


def _answer(n: dict[str, int]) -> str:
    checked = sum(n.values()) - n[UNCHECKED]
    text = (
        f"{n[AGREES]:,} of the {checked:,} numbers that could be checked here agree, {n[DIFFERS]:,} differ from the "
        f"label tables, and in {n[CONTRADICTS]:,} a paper contradicts itself."
    )
    return text + (f" {n[UNCHECKED]:,} more need data that this run does not have." if n[UNCHECKED] else "")


def _tally(rows) -> Table:
    parts = [(PAPERS[paper], rows[rows["paper"] == paper]) for paper in PAPERS]
    table = [{"paper": name, "n": len(part)} | tally(part) for name, part in parts]
    columns = [Column("paper", "Paper"), *(Column(v, v, "count") for v in VERDICTS), Column("n", "n", "count")]
    return Table("audit_verdicts", "Verdicts", columns, table)
