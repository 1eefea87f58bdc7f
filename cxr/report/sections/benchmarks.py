"""Published results on the same question, and what of this run compares with them (docs/papers.md, E60).

templates/benchmarks.toml holds what others published, looked up in the sources that it names. This run's own numbers
stand beside a published one only in the same unit, and each row says whether the two compare.
"""

from __future__ import annotations

import math
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Literal

from cxr.core.findings import FINDINGS
from cxr.core.formats import Format
from cxr.evaluation.names import FIVE
from cxr.report.inputs import Artefacts
from cxr.report.page import Estimate, Table
from cxr.report.sections.common import BOUNDS, FEW, TOTALS, areas, auc_of, change_of, no_number
from cxr.report.sections.reference import By, standard

PUBLISHED = Path(__file__).parents[1] / "templates" / "benchmarks.toml"
MISSING = "not stated"
OURS = ("five", "macro", "none")  # `own` of a study, beside arm-control


class Study(Format):
    """One published result. Texts as in the file; MISSING where the part of the source that was read does not say."""

    study: str
    topic: str
    trained: str
    tested: str
    measure: str
    result: str
    interval: str
    own: str
    needs: Literal["official", "labeller", "never"]
    comparable: str
    differs: str
    read: str
    source: str
    paper: str


class Area(Format):
    """One row of published AUCs. auc: by finding, or of their mean: the AUC, or the AUC with its 95 % interval."""

    labels: str
    policy: str
    n: int
    auc: dict[str, list[float]]


class Pair(Format):
    """A published AUC of one finding without and with generated X-rays."""

    finding: str
    without: float
    with_: float


class Published(Format):
    """What templates/benchmarks.toml holds."""

    studies: list[Study]
    areas: list[Area]
    pairs: list[Pair]


class Compares(StrEnum):
    """Whether this run's numbers compare with a published one, in the words of the page."""

    YES = "yes"
    SIMULATED = "no: simulated patients"
    LABELS = "no: other test labels"  # the same data set; or studies scored by the mean over their images
    OTHER = "no: other data or measure"


def published() -> Published:
    """The published results. Raises ValueError for a file that is not as Published says."""
    held = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    held["pairs"] = [{{"with": "with_"}.get(key, key): value for key, value in row.items()} for row in held["pairs"]]
    return Published.model_validate(held)


def benchmarks(run: Artefacts) -> dict:
    """The three tables: the studies, Irvin et al.'s AUCs by policy, and AUCs without and with generated X-rays.

    missing: the studies whose number was not in the part that was read.
    """
    held, scored = published(), standard(run).test
    rows = []
    for one in held.studies:
        row = one.model_dump(exclude={"own", "needs"}) | _own(run, one.own)
        rows.append(row | {"compares": compares(one, scored, run.study_scores)})
    return {
        "table": Table("benchmarks", rows),
        "areas": Table("benchmarks_policies", [*map(_area, held.areas), *_own_areas(run)]),
        "pairs": Table("benchmarks_pairs", _pairs(run, held.pairs), list(run.findings)),
        "missing": [one.study for one in held.studies if one.result.startswith(MISSING)],
        "compared": [row["study"] for row in rows if row["compares"] == Compares.YES],
        "simulated": scored == By.SIMULATED,
    }


def compares(one: Study, scored: By, way: str) -> Compares:
    """Whether a run's numbers compare with a study's. scored: who labelled its test images; way: max or mean."""
    if one.needs == "never":
        return Compares.OTHER
    if scored == By.SIMULATED:
        return Compares.SIMULATED
    if one.needs == "official":
        return Compares.YES if scored == By.RADIOLOGISTS and way == "max" else Compares.LABELS
    return Compares.YES if scored == By.LABELLER else Compares.LABELS


def _own(run: Artefacts, own: str) -> dict:
    """This run's AUC without and with generated X-rays and their difference; None where there is no such number."""
    row: dict[str, Estimate | None] = dict.fromkeys(("without", "with", "change"))
    if own == "five":
        by = run.rows("per_study", "unit", "model", "finding")
        return row | {key: _five(by["study", model, "five"]) for key, model in _models(run)}
    if own == "macro":
        by, pair = areas(run, "test"), run.rows("compare", "finding")["macro"]
        change = change_of(pair, FEW, TOTALS if pair["trainings"] > 1 else BOUNDS)
        return row | {key: auc_of(by[model, "macro"]) for key, model in _models(run)} | {"change": change}
    arm, _, control = own.partition("-")
    if not {arm, control} <= {"gan", "baseline", *run.arms} or not run.arms:
        return row
    found = run.rows("study_differences", "arm", "control", "finding")[arm, control, "rare"]
    return row | {"change": change_of(found, FEW, TOTALS if found["seeds"] > 1 else BOUNDS)}


def _models(run: Artefacts) -> list[tuple[str, str]]:
    return [("without", run.final_policy), ("with", "final")]


def _five(row: dict) -> Estimate:
    """The mean AUC of CheXpert's five findings, or why a run has none: a mean over fewer is another number."""
    if row["findings"] < len(FIVE):
        return Estimate(math.nan, why=f"{row['findings']:.0f} of {len(FIVE)} findings")
    return auc_of(row)


def _area(one: Area) -> dict:
    row = {"policy": one.policy, "labels": one.labels, "n": one.n}
    return row | {name: Estimate(*one.auc[name]) if name in one.auc else None for name in (*FIVE, "mean")}


def _own_areas(run: Artefacts) -> list[dict]:
    """This run's AUCs per study on its test set: the metadata baseline, the baseline and the final classifier."""
    by = run.rows("per_study", "unit", "model", "finding")
    rows = []
    for key, model in (("metadata", f"floor_{run.final_policy}"), ("baseline", run.final_policy), ("final", "final")):
        row = {"policy": f"this run: {key}", "labels": "test", "n": by["study", model, "five"]["n"]}
        row |= {name: auc_of(by["study", model, name]) for name in FIVE}
        rows.append(row | {"mean": _five(by["study", model, "five"])})
    return rows


def _pairs(run: Artefacts, pairs: list[Pair]) -> list[dict]:
    by, compare = areas(run, "test"), run.rows("compare", "finding")
    rows = []
    for one in sorted(pairs, key=lambda pair: FINDINGS.index(pair.finding)):
        pair = compare[one.finding]
        row = {"finding": one.finding, "published_without": one.without, "published_with": one.with_}
        row |= {"n": by["final", one.finding]["n"], "floor": auc_of(by[f"floor_{run.final_policy}", one.finding])}
        row |= {key: auc_of(by[model, one.finding]) for key, model in _models(run)}
        ends = TOTALS if pair["trainings"] > 1 else BOUNDS
        rows.append(row | {"change": change_of(pair, no_number(by["final", one.finding]), ends)})
    return rows
