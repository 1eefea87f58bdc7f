"""The rows of the audit for paper 1 (CheXpert): cohort, Table 1, policies, the rare findings, balance, the test set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr import papers
from cxr.audit.sheet import PERCENT, Recount, Sheet, near, percent, rounded
from cxr.cohort.describe import STATES, put_right, summary_chexpert, table1
from cxr.cohort.policies import apply
from cxr.core.findings import FINDINGS, matrix
from cxr.papers import TABLE_1

HEADINGS = ("positive", "uncertain", "negative")
COHORT = papers.COHORTS["paper 1, CheXpert train"]
WORDS = {"F": "female", "M": "male", "unknown": "of unknown sex"}


class Facts(NamedTuple):
    """What the published train.csv has. summary: of cxr/cohort/describe.py; labels: a row per finding with STATES
    and their
    percents; positives: policy -> finding -> images; rare: images x 3, bool; leaked: see `leaked`.
    """

    summary: dict
    labels: pd.DataFrame
    positives: dict[str, dict[str, int]]
    rare: np.ndarray
    frontal: np.ndarray
    leaked: float


def count(train: pd.DataFrame) -> Facts:
    """train: CheXpert records of the official training split."""
    labels = matrix(train)
    positives = {p: dict(zip(FINDINGS, map(int, apply(p, labels)[0].sum(0)), strict=True)) for p in papers.POLICIES}
    return Facts(
        summary_chexpert(train),
        table1(train).set_index("finding"),
        positives,
        labels[:, [FINDINGS.index(name) for name in papers.RARE]] == 1,
        (train["projection"] == "frontal").to_numpy(),
        leaked(train["patient_id"], papers.TEST_IMAGES),
    )


def leaked(patients: pd.Series, drawn: int) -> float:
    """Expected number, among `drawn` images taken at random without replacement, whose patient also has an image that
    was not taken. patients: one id per image.
    """
    n, expected = len(patients), 0.0
    for images, how_many in patients.value_counts().value_counts().items():
        others = np.arange(1, images)
        expected += how_many * images * drawn / n * (1 - np.prod(np.clip((drawn - others) / (n - others), 0, 1)))
    return float(expected)


def sheet(facts: Facts | None, why: str) -> Sheet:
    """The rows of paper 1. why: the reason where there are no facts, else ''."""
    audit = Sheet(1, "chexpert", facts, why)
    _cohort(audit)
    _table1(audit)
    _policies(audit)
    _rare(audit)
    _test_set(audit)
    return audit


def _cohort(audit: Sheet) -> None:
    sums = {sum(row[::2]) for row in TABLE_1.values()}
    images, patients = COHORT["images"], COHORT["patients"]
    audit.own(
        "text, Table 1", "radiographs: each of Table 1\u2019s rows sums to them", f"{images:,}",
        ", ".join(f"{n:,}" for n in sorted(sums)), sums == {images},
        "one more than the rows; the lines of train.csv with its header are as many as the text says",
    )  # fmt: skip
    audit.count("text", "radiographs", images, lambda f: f.summary["images"], "counted with train.csv\u2019s header")
    audit.count("text", "patients", patients, lambda f: f.summary["patients"])
    audit.count(
        "Table 1\u2019s caption", "studies, which the caption says are counted", sums.pop(),
        lambda f: f.summary["studies"], "Table 1 counts images, not studies", "implied",
    )  # fmt: skip
    total = sum(COHORT[sex] for sex in WORDS)
    audit.own("text", "female, male and unknown patients sum to all", f"{patients:,}", f"{total:,}", total == patients)
    for sex, word in WORDS.items():
        audit.count("text", f"patients {word}", COHORT[sex], lambda f, sex=sex: f.summary["per_patient"]["by_sex"][sex])
    for sex in ("F", "M"):
        printed = str(COHORT[f"age_{sex}"])

        def age(f: Facts, sex=sex, printed=printed) -> Recount:
            by_patient, by_image = (f.summary[per]["mean_age"][sex] for per in ("per_patient", "per_image"))
            if by_patient is None:
                return Recount("no age known", False)
            reason = f"mean over patients; over images {by_image:.2f}"
            return Recount(f"{by_patient:.2f}", rounded(printed, by_patient), reason)

        def majority(f: Facts, sex=sex) -> Recount:
            by_patient, by_image = (f.summary[per]["share_50_to_75"][sex] for per in ("per_patient", "per_image"))
            if by_patient is None:
                return Recount("no age known", False)
            return Recount(percent(by_patient), by_patient > 0.5, f"of the patients; {percent(by_image)} of the images")

        audit.claim("text", f"mean age, {WORDS[sex]}, years", f"around {printed}", age)
        audit.claim("text, Figure 1", f"aged 50 to 75, {WORDS[sex]}", "the majority", majority)
    audit.own("text", "labels", "14", str(len(TABLE_1)), len(TABLE_1) == 14, "two are no pathologies")
    claimed, has = len(STATES), len(HEADINGS)
    audit.own(
        "text, Table 1", "values that a label takes", str(claimed), str(has), claimed == has,
        "the text has positive, negative, uncertain and blank; Table 1 adds negative and blank up without saying so",
    )  # fmt: skip


def states(f: Facts, finding: str) -> dict[str, int]:
    """A finding's images by state."""
    return {state: int(f.labels.at[finding, state]) for state in STATES}


def what_is(n: int, row: dict[str, int]) -> str:
    """Which of a finding's true counts a printed one is. row: positive, uncertain, negative, blank."""
    for state in STATES:
        if n == row[state]:
            return f"that many are {state}"
    if n == row["negative"] + row["blank"]:
        return f"that many are negative ({row['negative']:,}) or blank ({row['blank']:,})"
    return f"none of these: {', '.join(f'{row[state]:,} {state}' for state in STATES)}"


def _table1(audit: Sheet) -> None:
    for finding, printed in TABLE_1.items():
        for k, state in enumerate(HEADINGS):
            n, beside = printed[2 * k : 2 * k + 2]

            def counted(f: Facts, finding=finding, state=state, n=n) -> Recount:
                row = states(f, finding)
                right = n == row[state]
                return Recount(f"{row[state]:,}", right, "" if right else what_is(n, row))

            audit.claim("Table 1", f"{finding}, {state}", f"{n:,}", counted)
            if beside is not None:
                _percent(audit, finding, state, n, beside, sum(printed[::2]))


def _percent(audit: Sheet, finding: str, state: str, n: int, printed: str, total: int) -> None:
    """The percent beside a count of Table 1: against that count, then against the data where there are any."""
    quantity, own = f"{finding}, {state}{PERCENT}", 100 * n / total
    if not near(printed, own) or audit.facts is None:
        reason = f"the count beside it, {n:,}, of {total:,}; the count itself is another row"
        audit.own("Table 1", quantity, f"{printed} %", f"{own:.2f} %", near(printed, own), reason)
        return

    def share(f: Facts) -> Recount:
        value = f.labels.at[finding, f"{state}_percent"]
        right = near(printed, value)
        return Recount(f"{value:.2f} %", right, "" if right else what_is(n, states(f, finding)))

    audit.claim("Table 1", quantity, f"{printed} %", share)


def _policies(audit: Sheet) -> None:
    """The positives of a policy as Table 1's headings would have them: the paper prints none."""
    for policy, name in papers.POLICIES.items():
        for finding, row in TABLE_1.items():
            claimed = row.positive + (row.uncertain if policy == "u_ones" else 0)
            reason = "Table 1\u2019s row as headed" + (", positive and uncertain" if policy == "u_ones" else "")
            audit.count(
                "Table 1", f"{finding}, positives under {name}", claimed,
                lambda f, policy=policy, finding=finding: f.positives[policy][finding], reason, "implied",
            )  # fmt: skip


def _rare(audit: Sheet) -> None:
    right = {finding: put_right(finding)[0] for finding in FINDINGS}
    rarest = sorted(right, key=right.__getitem__)[: len(papers.RARE)]
    audit.own(
        "text, Table 1", "the findings with the fewest positives", ", ".join(papers.RARE), ", ".join(rarest),
        set(rarest) == set(papers.RARE), "by its own counts; rarer ones than those chosen are passed over",
    )  # fmt: skip
    for k, finding in enumerate(papers.RARE):

        def frontal(f: Facts, k=k, finding=finding) -> Recount:
            every, n = int(f.rare[:, k].sum()), int((f.rare[:, k] & f.frontal).sum())
            return Recount(
                f"{n:,}", n == right[finding], f"{every - n:,} are lateral, which the paper does not mention"
            )

        audit.claim(
            "Table 1", f"{finding}, frontal images a GAN can learn from", f"{right[finding]:,}", frontal, "implied"
        )
    total = sum(right[finding] for finding in papers.RARE)

    def pooled(f: Facts) -> Recount:
        any_ = f.rare.any(axis=1)
        n, views = int(any_.sum()), int((any_ & f.frontal).sum())
        pairs = [
            f"{int((f.rare[:, i] & f.rare[:, j]).sum()):,} are {papers.RARE[i]} and {papers.RARE[j]}"
            for i, j in ((0, 1), (0, 2), (1, 2))
        ]
        every = f"{int(f.rare.all(axis=1).sum()):,} all three"
        return Recount(f"{n:,}", n == total, f"they overlap: {', '.join(pairs)}, {every}; {views:,} are frontal")

    audit.claim("Table 1", "images with one of the three rare findings", f"{total:,}", pooled, "implied")
    n = sum(TABLE_1[papers.RARE[0]][::2])
    needed = (len(papers.RARE) / 2 * n - total) / (1 - len(papers.RARE) / 2)
    alone = ", ".join(f"{finding} {n - 2 * right[finding]:,}" for finding in papers.RARE)
    audit.own(
        "text", "images to generate so that all three are balanced", "enough", f"{needed:,.0f}", needed >= 0,
        "an image that shows one of three findings dilutes the others, so half and half for all three has no solution; "
        f"for one finding alone: {alone}",
    )  # fmt: skip


def _test_set(audit: Sheet) -> None:
    drawn = papers.TEST_IMAGES

    def apart(f: Facts) -> Recount:
        reason = f"expected of a draw of images; {f.leaked:.0f} share their patient with a training image"
        return Recount(f"{drawn - f.leaked:.0f}", f.leaked < 0.5, reason)

    audit.claim("text", "test images whose patient is not trained on", f"{drawn:,}", apart, "implied")
