"""The paper audit: every number of the two papers that label tables or plain arithmetic can check, with a verdict.

A row is one number or claim: where it stands, what the paper says, what comes out, and one of VERDICTS. What follows
from printed numbers (a sum, a policy's positives) is marked implied. Rows that need a dataset are checked only against
the table as published: a phantom, or a part of it, can't contradict a paper. AUCs and accuracies of trained networks
are no rows; a confusion matrix's own arithmetic is. audit_chexpert and audit_rsna hold the rows of papers 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from cxr.papers import DATASETS, PUBLISHED

AGREES, DIFFERS = "agrees", "differs"
CONTRADICTS, UNCHECKED = "the paper contradicts itself", "cannot be checked with this data"
VERDICTS = (AGREES, DIFFERS, CONTRADICTS, UNCHECKED)
LACKING = "needs RSNA's mapping of images to patients, data.rsna_patients"  # why facts can lack what a row needs
PERCENT = ", percent"  # ends the quantity of a percent that stands beside a count, which is another row


class Row(NamedTuple):
    """paper: 1 or 2; place: table, figure or text; stated: printed | implied; needs: nothing, CheXpert or RSNA 2018;
    claimed: what the paper has; recomputed: '' where nothing could be; all as text, digits as printed.
    """

    paper: int
    place: str
    quantity: str
    stated: str
    needs: str
    claimed: str
    recomputed: str
    verdict: str
    reason: str


class Recount(NamedTuple):
    """One claim counted again in the data. recomputed: as the rows show it."""

    recomputed: str
    agrees: bool
    reason: str = ""


def standing(dataset: str, n: int, kind: str) -> str:
    """Why these records can't check a paper, or '' when they can: they are as many as published, and no phantom.

    dataset: chexpert, whose n are the images of train.csv, or rsna, whose n are images; kind: of the manifest.
    """
    if kind == "phantom":
        return f"{DATASETS[dataset]} is the phantom cohort here, which holds nothing to audit"
    if n != PUBLISHED[dataset]:
        what = "training images" if dataset == "chexpert" else "images"
        return (
            f"{n:,} {what} here, a part or another collection: {DATASETS[dataset]} as published has "
            f"{PUBLISHED[dataset]:,}"
        )
    return ""


class Sheet:
    """The rows of one paper. facts: what was counted in the published table, or None and the reason `why` not."""

    def __init__(self, paper: int, dataset: str, facts, why: str) -> None:
        assert (facts is None) == bool(why)
        self.paper, self.needs, self.facts, self.why = paper, DATASETS[dataset], facts, why
        self.rows: list[Row] = []

    def own(self, place: str, quantity: str, claimed: str, recomputed: str, agrees: bool, reason: str = "") -> None:
        """A row that the paper's own numbers decide."""
        verdict = AGREES if agrees else CONTRADICTS
        self.rows.append(Row(self.paper, place, quantity, "printed", "nothing", claimed, recomputed, verdict, reason))

    def claim(
        self, place: str, quantity: str, claimed: str, judge: Callable[..., Recount | None], stated: str = "printed"
    ) -> None:
        """A row that the data decide: judge(facts) is called where there are any, and gives None where they lack what
        the row needs."""
        judged = None if self.facts is None else judge(self.facts)
        recount = judged or Recount("", False, self.why or LACKING)
        verdict = UNCHECKED if judged is None else AGREES if recount.agrees else DIFFERS
        head = (self.paper, place, quantity, stated, self.needs, claimed)
        self.rows.append(Row(*head, recount.recomputed, verdict, recount.reason))

    def count(
        self, place: str, quantity: str, claimed: int, counted: Callable[..., int], reason: str = "", stated="printed"
    ) -> None:
        """A claim that is a whole number, right only when equal. reason: shown where it differs."""

        def judge(facts) -> Recount:
            n = counted(facts)
            return Recount(f"{n:,}", n == claimed, "" if n == claimed else reason)

        self.claim(place, quantity, f"{claimed:,}", judge, stated)


def percent(share: float) -> str:
    """A share as the rows show it: '22.5 %'."""
    return f"{100 * share:.1f} %"


def near(printed: str, value: float) -> bool:
    """Whether a printed decimal is this value, cut off or rounded to the printed digits."""
    digits = len(printed.partition(".")[2])
    return abs(value - float(printed)) < 10.0**-digits


def rounded(printed: str, value: float) -> bool:
    """Whether a printed decimal is this value rounded to the printed digits."""
    digits = len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5 * 10.0**-digits + 1e-9


def table(*sheets: Sheet) -> pd.DataFrame:
    """The rows of the sheets, in their order, in the columns of Row."""
    return pd.DataFrame([row for sheet in sheets for row in sheet.rows], columns=list(Row._fields))


def tally(rows: pd.DataFrame) -> dict[str, int]:
    """Verdict -> number of rows, in the order of VERDICTS."""
    return {verdict: int((rows["verdict"] == verdict).sum()) for verdict in VERDICTS}
