"""What the classifiers were trained on beside CheXpert: data sets of other hospitals (the stage extra_data)."""

from __future__ import annotations

from cxr.core.files import read_json
from cxr.core.findings import FINDINGS, SLUGS
from cxr.data.formats import Extra
from cxr.report.inputs import Artefacts
from cxr.report.page import Table
from cxr.report.sections.common import pick


def extra(run: Artefacts) -> dict:
    """sets: the data sets; where there are some also a table with a row for each finding that one labels."""
    names = run.params.get("classifier", {}).get("extra", [])
    sets, rows = [], []
    for name in names:
        assert run.extra_data is not None
        one = read_json(run.extra_data / name / "dataset.json", f"extra_data@{name}", Extra)
        counts = "images", "patients", "held_out_images", "held_out_patients", "unlabelled", "unreadable"
        known = one.model_dump(include={"name", "title", "data", "labelled_by", "patient_key", *counts})
        labelled = [
            {**pick(known, "name", "title"), "finding": finding, **one.findings[slug].model_dump()}
            for slug, finding in zip(SLUGS, FINDINGS, strict=True)
            if slug in one.findings
        ]
        sets.append(known | {"findings": [row["finding"] for row in labelled]})
        rows += labelled
    return {"sets": sets} | ({"table": Table("extra_data", rows)} if sets else {})
