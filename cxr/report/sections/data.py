"""The report's section on the data: cohorts, labels, ages, classes, splits, checks, rejected images.

As cxr/report/sections/classifiers.py: the names that the template uses, nothing computed anew. Paths and ids stay
out of it.
"""

from __future__ import annotations

import pandas as pd

from cxr import papers
from cxr.cohort.formats import SPLITS as PARTS
from cxr.cohort.formats import Summary
from cxr.core.files import read_json
from cxr.core.findings import FINDINGS, finding, slug
from cxr.data.formats import Manifest
from cxr.papers import DATASETS as NAMES
from cxr.report import figures
from cxr.report.inputs import Artefacts, csv
from cxr.report.page import Column, Counted, Table
from cxr.report.sections.classifiers import areas, plot, too_few

STATES = ("positive", "uncertain", "negative", "blank")
SPLITS = ("train", "valid", "test")


def data(run: Artefacts) -> dict:
    """Table 1 and figure 1 of the first paper, the classes of the second, and how the patients were split."""
    summary = read_json(run.explore / "summary.json", "explore", Summary).model_dump()
    manifests = {n: read_json(run.dataset(n) / "manifest.json", f"download@{n}", Manifest) for n in NAMES}
    kinds = {name: manifest.kind for name, manifest in manifests.items()}
    splits = {name: read_json(run.splits / name / "split.json", f"split@{name}", PARTS[name]) for name in NAMES}
    splits = {name: split.model_dump(exclude_unset=True) for name, split in splits.items()}
    rejected = {name: _rejected(run, name) for name in NAMES}
    table1 = csv(run.explore / "table1.csv", "explore", ("finding", *STATES, "remark"))
    bins = csv(run.explore / "age_by_sex.csv", "explore", ("age_from", "age_to", "F", "M"))
    bins = bins.dropna(subset=["age_from", "age_to"])
    return {
        "phantoms": [NAMES[name] for name, kind in kinds.items() if kind == "phantom"],
        "facts": {NAMES[name]: _facts(name, kinds[name], summary, splits[name], rejected[name]) for name in NAMES},
        "cohort": _cohort(summary),
        "labels": plot(
            figures.labels(table1, {state: state for state in STATES}),
            "Labels of the training images. Blank: the report does not mention the finding.",
            "Shares of positive, uncertain, negative and blank labels by finding",
            48,
        ),
        "ages": plot(
            figures.ages(bins),
            "Training patients by age (the paper\u2019s Figure 1).",
            "Histograms of age for women and men",
            48,
        ),
        "table1": _table1(table1),
        "rsna": _rsna(run),
        "splits": _splits(splits),
        "positives": _positives(splits["chexpert"]),
        "too_few": _too_few(run, splits["chexpert"]),
        "checks": _checks(run),
        "rejected": _rejections(rejected),
    }


def _facts(name: str, kind: str, summary: dict, split: dict, rejected: pd.DataFrame) -> list[tuple[str, str]]:
    parts = [summary["rsna"]] if name == "rsna" else list(summary["chexpert"].values())
    patients, images = (sum(s[key] for s in split["splits"].values()) for key in ("patients", "images"))
    source = "drawn by this pipeline (phantom)" if kind == "phantom" else f"X-rays read from a {kind} source"
    rows = [("source", source), ("images read", f"{images:,}"), ("images rejected", f"{len(rejected):,}")]
    if name == "chexpert":
        rows.append(("studies", f"{sum(p['studies'] for p in parts):,}"))
    shown = [f"{split['splits'][s]['patients']:,} {s}" for s in SPLITS if s in split["splits"]]
    patients_text = f"{patients:,}" if split["by"] == "patient" else f"{sum(p['patients'] for p in parts):,}"
    return [*rows, ("patients", patients_text), (f"patients by split, drawn by {split['by']}", ", ".join(shown))]


def _cohort(summary: dict) -> Table:
    rows = []
    for name, part in (
        *((f"CheXpert, {split}", part) for split, part in summary["chexpert"].items()),
        ("RSNA 2018", summary["rsna"]),
    ):
        people, views = part["per_patient"], part["views"]
        row = {"cohort": name, "images": part.get("images", part["patients"]), "patients": part["patients"]}
        row |= {"studies": part.get("studies"), "AP": views["AP"], "PA": views["PA"], "lateral": part.get("lateral", 0)}
        row |= {sex: people["by_sex"][sex] for sex in ("F", "M", "unknown")}
        rows.append(row | {f"age_{sex}": people["mean_age"][sex] for sex in ("F", "M")})
    rows += [{"cohort": name, **row} for name, row in papers.COHORTS.items()]
    columns = [
        Column("cohort", "Cohort"),
        Column("images", "images", "count", "n"),
        Column("patients", "patients", "count", "n"),
        Column("studies", "studies", "count", "n"),
        Column("AP", "AP", "count", "images by view"),
        Column("PA", "PA", "count", "images by view"),
        Column("lateral", "lateral", "count", "images by view"),
        Column("F", "women", "count", "patients"),
        Column("M", "men", "count", "patients"),
        Column("unknown", "unknown", "count", "patients"),
        Column("age_F", "women", "number", "mean age, years"),
        Column("age_M", "men", "number", "mean age, years"),
    ]
    notes = [
        "The first paper counts 223,415 radiographs, the lines of train.csv with its header; there are 223,414. The "
        "second says 27,000 images; there are 26,684, in 30,227 rows.",
    ]
    return Table("cohort", "Who is in the data", columns, rows, notes)


def _table1(table: pd.DataFrame) -> Table:
    paper = ("paper_positive", "paper_uncertain", "paper_negative")
    common = table["remark"].mode()[0]  # what holds for most rows is said once, below the table
    rows = []
    for row in table.to_dict("records"):
        n = sum(row[state] for state in STATES)
        remark = row["remark"].removeprefix(common).removeprefix("; ") or None
        rows.append({**row, "n": n, "remark": remark} | {state: Counted(row[state], n) for state in STATES})
    columns = [
        Column("finding", "Finding"),
        *(Column(state, state, "count", "this run, training images") for state in STATES),
        Column("n", "n", "count", "this run, training images"),
        *(Column(key, key.removeprefix("paper_"), "count", "paper, as printed") for key in paper if key in table),
        Column("remark", "remark on the paper\u2019s row"),
    ]
    notes = [
        f"In every row of the paper but those remarked \u201cnot\u201d or \u201crotated\u201d: {common}. Its counts "
        "are of 223,414 images."
    ]
    return Table("table1", "Labels of the training images (the paper\u2019s Table 1)", columns, rows, notes)


def _rsna(run: Artefacts) -> Table:
    table = csv(run.explore / "rsna_classes.csv", "explore", ("class_name", "patients", "rows", "AP", "PA"))
    patients, lines = table["patients"].sum(), table["rows"].sum()
    rows = [
        {**row, "patients": Counted(row["patients"], patients), "rows": Counted(row["rows"], lines)}
        | {"paper": papers.RSNA_PATIENTS.get(row["class_name"])}
        for row in table.to_dict("records")
    ]
    columns = [
        Column("class_name", "Class"),
        Column("patients", "patients", "count", "this run"),
        Column("rows", "rows, one per box", "count", "this run"),
        Column("AP", "AP", "count", "this run"),
        Column("PA", "PA", "count", "this run"),
        Column("paper", "patients", "count", "full RSNA 2018"),
    ]
    notes = [
        "The paper says that its classes are of similar size. They are when rows are counted, of which a patient with "
        "several boxes has several.",
    ]
    return Table("rsna_classes", "Classes of RSNA 2018", columns, rows, notes)


def _splits(splits: dict) -> Table:
    rows = []
    for name, split in splits.items():
        for part in (s for s in SPLITS if s in split["splits"]):
            counts = split["splits"][part]
            classes = counts.get("classes", {})
            shown = "; ".join(f"{c} {n:,}" for c, n in classes.items())
            rows.append({"split": f"{NAMES[name]}, {part}", **counts, "classes": shown or None})
    columns = [
        Column("split", "Split"),
        Column("patients", "patients", "count"),
        Column("images", "images, n", "count"),
        Column("classes", "images by class"),
    ]
    return Table(
        "splits",
        "Patients, images and classes by split",
        columns,
        rows,
        [f"CheXpert was split by {splits['chexpert']['by']}."],
    )


def _positives(split: dict) -> Table:
    parts = [s for s in SPLITS if s in split["splits"]]
    rows = []
    for name in FINDINGS:
        row: dict = {"finding": name}
        for part in parts:
            counts = split["splits"][part]
            row[part] = Counted(counts["positives"][slug(name)], counts["images"])
        rows.append(row)
    columns = [
        Column("finding", "Finding"),
        *(Column(p, f"{p}, n = {split['splits'][p]['images']:,}", "count", "positive images") for p in parts),
    ]
    return Table("positives", "Positives by split (CheXpert)", columns, rows)


def _too_few(run: Artefacts, split: dict) -> list[str]:
    """'test: Fracture (3 positives), ...': the findings without an AUC, per split."""
    said = []
    for part in ("valid", "test"):
        of_final = {name: row for (model, name), row in areas(run, part)[1].items() if model == "final"}
        few = [f"{n} ({too_few(row)})" for n, row in of_final.items() if n != "macro" and pd.isna(row["auc"])]
        if few:
            said.append(f"{part}: {', '.join(few)}")
    if split["too_few"]:
        names = ", ".join(finding(name) for name in split["too_few"])
        said.append(f"left out of the mean that chooses the best epoch: {names}")
    return said


def _checks(run: Artefacts) -> Table:
    table = csv(run.explore / "checks.csv", "explore", ("dataset", "check", "count", "severity", "examples", "advice"))
    found = table[table["count"] > 0]
    order = {"error": 0, "warning": 1, "note": 2}
    found = found.sort_values("severity", key=lambda s: s.map(order).fillna(3), kind="stable")
    rows = []
    for row in found.to_dict("records"):
        examples = [e for e in str(row["examples"]).split(", ") if e in FINDINGS]  # other examples are ids
        rows.append(row | {"dataset": NAMES.get(row["dataset"], row["dataset"]), "which": ", ".join(examples) or None})
    columns = [
        Column("check", "Check"),
        Column("dataset", "dataset", "text"),
        Column("count", "n", "count"),
        Column("severity", "severity", "text"),
        Column("advice", "what to do about it", "text"),
        Column("which", "which", "text"),
    ]
    clean = len(table) - len(found)
    notes = [
        f"{clean} of {len(table)} checks found nothing. Examples with their paths are in explore\u2019s checks.csv."
    ]
    return Table("checks", "Oddities in the records", columns, rows, notes)


def _rejected(run: Artefacts, name: str) -> pd.DataFrame:
    return csv(run.stores / name / "rejected.csv", f"resize@{name}", ("image_id", "path", "reason"))


def _rejections(rejected: dict[str, pd.DataFrame]) -> Table:
    rows = []
    for name, table in rejected.items():
        # A reason may name its file, and a file its patient; the page must not.
        reasons = [str(r.reason).replace(str(r.path), "").strip(" :") for r in table.itertuples()]
        counts = pd.Series(reasons, dtype="str").value_counts(sort=False).sort_values(ascending=False, kind="stable")
        rows += [{"dataset": NAMES[name], "reason": reason, "n": int(n)} for reason, n in counts.items()]
    columns = [Column("dataset", "Dataset"), Column("reason", "reason", "text"), Column("n", "images, n", "count")]
    return Table("rejected", "Images that could not be read", columns, rows)
