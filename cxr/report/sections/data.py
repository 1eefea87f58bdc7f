"""The data: cohorts, labels, ages, classes, splits, checks, rejected images. No path, no id of a patient or image."""

from __future__ import annotations

import pandas as pd

from cxr import papers
from cxr.cohort.formats import OFFICIAL, SPLITS, ChexpertPart, ChexpertSplit, RsnaPart, RsnaSplit, Summary
from cxr.core.files import read_json, read_table
from cxr.core.findings import FINDINGS, finding, slug
from cxr.papers import DATASETS
from cxr.report.figures import data as figures
from cxr.report.inputs import Artefacts
from cxr.report.page import Counted, Table, plot
from cxr.report.sections.common import areas, pick, reported, source_kind, too_few

STATES = ("positive", "uncertain", "negative", "blank")
PRINTED = ("paper_positive", "paper_uncertain", "paper_negative")
PARTS = ("train", "valid", "test")
SEVERITIES = ("error", "warning", "note")


def data(run: Artefacts) -> dict:
    """Table 1 and figure 1 of the first paper, the classes of the second, and how the patients were split."""
    summary = read_json(run.explore / "summary.json", "explore", Summary)
    kinds = {name: source_kind(run, name) for name in DATASETS}
    splits = {name: read_json(run.splits / name / "split.json", f"split@{name}", SPLITS[name]) for name in DATASETS}
    rejected = {name: _rejected(run, name) for name in DATASETS}
    table1 = read_table(run.explore / "table1.csv", "explore", ("finding", *STATES, "remark"))
    bins = read_table(run.explore / "age_by_sex.csv", "explore", ("age_from", "age_to"))
    return {
        "phantoms": [DATASETS[name] for name, kind in kinds.items() if kind == "phantom"],
        "facts": [_facts(name, kinds[name], summary, splits[name], rejected[name]) for name in DATASETS],
        "cohort": _cohort(summary),
        "labels": plot(figures.labels(table1, {state: state for state in STATES}), 48),
        "ages": plot(figures.ages(bins.dropna(subset=["age_from", "age_to"])), 48),
        "remark": table1["remark"].mode()[0],
        "table1": _table1(table1),
        "rsna": _rsna(run),
        "splits": _splits(splits),
        "by": splits["chexpert"].by,
        "rsna_by": splits["rsna"].by,
        "rsna_unit": _unit(splits["rsna"]),
        "rsna_shared": splits["rsna"].shared_patients,
        "nih": papers.NIH,
        "origin": {part: [OFFICIAL[name] for name in own] for part, own in splits["chexpert"].official.items()},
        "unused": getattr(splits["chexpert"].splits.get("unused"), "patients", 0),
        "anonymous": _anonymous(summary, splits["chexpert"]),
        "rsna_part": reported(splits["rsna"]),
        "positives": _positives(splits["chexpert"].splits),
        "parts": _images_by_part(splits["chexpert"].splits),
        "too_few": _too_few(run),
        "unselected": [finding(name) for name in splits["chexpert"].too_few],
        **_checks(run),
        "rejected": _rejections(rejected),
    }


def _facts(name: str, kind: str, summary: Summary, split: ChexpertSplit | RsnaSplit, rejected: pd.DataFrame) -> dict:
    own = [summary.chexpert.train, summary.chexpert.valid, summary.chexpert.test]
    parts = [summary.rsna] if name == "rsna" else [part for part in own if part]
    by_patient, owners = split.by == "patient", _unit(split)
    return {
        "name": DATASETS[name],
        "kind": kind,
        "images": sum(part.images for part in split.splits.values()),
        "rejected": len(rejected),
        "studies": sum(part.studies for part in parts) if name == "chexpert" else None,
        # A draw by image counts a patient in every part that has an image of that patient.
        "patients": sum(part.patients for part in (split.splits.values() if by_patient else parts))
        if owners == "patients"
        else None,
        "unit": owners,
        "by": split.by,
        "parts": {part: getattr(split.splits[part], owners) for part in PARTS if part in split.splits},
    }


def _unit(split: ChexpertSplit | RsnaSplit) -> str:
    """What the split's patient_id names and its intervals are over: patients, or images where patients are unknown."""
    return "images" if isinstance(split, RsnaSplit) and split.patient_key == "image" else "patients"


def _anonymous(summary: Summary, split: ChexpertSplit) -> bool:
    """Whether the test is the official one and says neither sex nor view of anybody."""
    test = summary.chexpert.test
    if split.official["test"] != ["test"] or test is None:
        return False
    return test.per_patient.by_sex.unknown == test.patients and test.views.unknown == test.images


def _cohort(summary: Summary) -> Table:
    chexpert, rsna = summary.chexpert, summary.rsna
    counts = {
        "CheXpert, train": (chexpert.train, chexpert.train.model_dump(include={"images", "studies", "lateral"})),
        "CheXpert, valid": (chexpert.valid, chexpert.valid.model_dump(include={"images", "studies", "lateral"})),
        DATASETS["rsna"]: (rsna, {"images": rsna.images, "lateral": 0}),
    }
    if (test := chexpert.test) is not None:
        counts["CheXpert, official test set"] = (test, test.model_dump(include={"images", "studies", "lateral"}))
    rows = []
    for name, (part, count) in counts.items():
        people = part.per_patient or part.per_image  # RSNA's patients can be unknown
        row = {"cohort": name, "images": count["images"], "patients": part.patients, "studies": count.get("studies")}
        row |= {"AP": part.views.AP, "PA": part.views.PA, "lateral": count["lateral"], **people.by_sex.model_dump()}
        rows.append(row | {f"age_{sex}": age for sex, age in people.mean_age.model_dump().items()})
    return Table("cohort", rows + [{"cohort": name, **row} for name, row in papers.COHORTS.items()])


def _table1(table: pd.DataFrame) -> Table:
    common = table["remark"].mode()[0]  # the page says once what holds for most rows
    rows = []
    for row in table.to_dict("records"):
        n = sum(row[state] for state in STATES)
        counts = {state: Counted(row[state], n) for state in STATES}
        remark = row["remark"].removeprefix(common).removeprefix("; ") or None
        rows.append({"finding": row["finding"], **counts, "n": n, **pick(row, *PRINTED), "remark": remark})
    return Table("table1", rows)


def _rsna(run: Artefacts) -> Table:
    table = read_table(run.explore / "rsna_classes.csv", "explore", ("class_name", "images", "rows", "AP", "PA"))
    totals = table[["images", "rows"]].sum()
    rows = [
        {"class_name": row["class_name"]}
        | {key: Counted(row[key], totals[key]) for key in ("images", "rows")}
        | {**pick(row, "AP", "PA"), "paper": papers.RSNA_IMAGES.get(row["class_name"])}
        for row in table.to_dict("records")
    ]
    return Table("rsna_classes", rows)


def _splits(splits: dict[str, ChexpertSplit | RsnaSplit]) -> Table:
    rows = []
    for name, split in splits.items():
        for part in PARTS:
            if counts := split.splits.get(part):
                row = {"split": f"{DATASETS[name]}, {part}", "patients": counts.patients, "images": counts.images}
                rows.append(row | {"classes": "; ".join(f"{c} {n:,}" for c, n in _classes(counts).items()) or None})
    return Table("splits", rows)


def _classes(part: ChexpertPart | RsnaPart) -> dict[str, int]:
    return part.classes if isinstance(part, RsnaPart) else {}


def _images_by_part(splits: dict[str, ChexpertPart]) -> dict[str, int]:
    return {part: splits[part].images for part in PARTS if part in splits}


def _positives(splits: dict[str, ChexpertPart]) -> Table:
    parts = _images_by_part(splits)
    rows = [
        {"finding": name} | {part: Counted(splits[part].positives[slug(name)], n) for part, n in parts.items()}
        for name in FINDINGS
    ]
    return Table("positives", rows)


def _too_few(run: Artefacts) -> dict[str, list[str]]:
    """Split -> the findings without an AUC there, with what is too few: 'Fracture (3 positives)'."""
    few = {}
    for part in ("valid", "test"):
        final = {name: row for (model, name), row in areas(run, part).items() if model == "final" and name != "macro"}
        few[part] = [f"{name} ({too_few(row)})" for name, row in final.items() if pd.isna(row["auc"])]
    return few


def _checks(run: Artefacts) -> dict:
    columns = ("dataset", "check", "count", "severity", "examples", "advice")
    table = read_table(run.explore / "checks.csv", "explore", columns)
    order = {name: k for k, name in enumerate(SEVERITIES)}
    odd = table[table["count"] > 0]
    rows = []
    for row in odd.sort_values("severity", key=lambda s: s.map(order).fillna(3), kind="stable").to_dict("records"):
        findings = [e for e in str(row["examples"]).split(", ") if e in FINDINGS]  # other examples are ids
        which = {"dataset": DATASETS.get(row["dataset"], row["dataset"]), "which": ", ".join(findings) or None}
        rows.append(pick(row, "check", "dataset", "count", "severity", "advice") | which)
    return {
        "checks": Table("checks", rows, empty=("check", "dataset", "count", "severity", "advice", "which")),
        "checked": len(table),
        "clean": len(table) - len(rows),
    }


def _rejected(run: Artefacts, name: str) -> pd.DataFrame:
    return read_table(run.stores / name / "rejected.csv", f"resize@{name}", ("image_id", "path", "reason"))


def _rejections(rejected: dict[str, pd.DataFrame]) -> Table:
    rows = []
    for name, table in rejected.items():
        # A reason may name its file, and a file its patient; the page must not.
        reasons = [str(row.reason).replace(str(row.path), "").strip(" :") for row in table.itertuples()]
        counts = pd.Series(reasons, dtype="str").value_counts(sort=False).sort_values(ascending=False, kind="stable")
        rows += [{"dataset": DATASETS[name], "reason": reason, "n": int(n)} for reason, n in counts.items()]
    return Table("rejected", rows, empty=("dataset", "reason", "n"))
