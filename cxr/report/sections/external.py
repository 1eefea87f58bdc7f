"""How the first final classifier does on other hospitals' patients: the drop, the operating point, the calibration."""

from __future__ import annotations

import math

from cxr.core.findings import FINDINGS
from cxr.report.inputs import Artefacts
from cxr.report.page import Estimate, Table
from cxr.report.sections.common import auc_of, pick, row_name, too_few


def external(run: Artefacts) -> dict:
    """sets: of each external data set that the parameters name, by name, its counts, answer and tables."""
    names = [one["name"] for one in run.params.get("external") or []]
    info = run.rows("external_sets", "name")
    return {"sets": {name: _one(run, info[name]) for name in names}}


def _one(run: Artefacts, info: dict) -> dict:
    name = info["name"]
    by, scaled = run.rows("external", "name", "finding"), run.rows("external_calibration", "name", "finding")
    labels = [row for row in run.table("external_labels", "name").to_dict("records") if row["name"] == name]
    meant = [row for row in labels if row["answer"] != "not the same"]
    there = [finding for finding in FINDINGS if any(row["finding"] == finding for row in meant)]
    macro = by[name, "macro"]
    order = (*there, "macro") if macro["findings"] else there
    drop = Estimate(macro["drop"], macro["drop_low"], macro["drop_high"])
    return {
        **pick(info, "name", "title", "data", "labelled_by", "images", "patients", "trained_patients", "other_view"),
        **pick(info, "trained_images", "unreadable", "unlike", "patient_key"),
        "notes": info["notes"] if isinstance(info["notes"], str) else "",
        "findings": int(macro["findings"]),
        "auc": auc_of(macro),
        "internal": Estimate(macro["internal"], macro["internal_low"], macro["internal_high"]),
        "drop": drop,
        "lost": drop.low > 0,
        "gained": drop.high < 0,
        "beats_floor": macro["above_low"] > 0,
        "floor": macro["floor"],
        "rates": pick(macro, "sensitivity", "specificity", "internal_sensitivity", "internal_specificity"),
        "local_labels": max((row["local_labels"] for row in _of(scaled, name, there)), default=0),
        "kept_apart": sorted({row["label"] for row in labels} - {row["label"] for row in meant}),
        "table": Table(f"external_{name}", [_row(by[name, finding]) for finding in order]),
        "calibration": Table(f"external_calibration_{name}", [_errors(row) for row in _of(scaled, name, order)]),
        "labels": Table(f"external_labels_{name}", [_texts(row) for row in labels]),
    }


def _texts(row: dict) -> dict:
    return {key: value if isinstance(value, str) else "" for key, value in row.items() if key != "name"}


def _of(by, name: str, findings) -> list[dict]:
    return [by[name, finding] for finding in findings]


def _estimate(row: dict, key: str, why: str) -> Estimate:
    return Estimate(row[key], row[f"{key}_low"], row[f"{key}_high"], why)


def _row(row: dict) -> dict:
    few = "" if row["finding"] == "macro" else too_few(row)
    inside = few or "too few internal test images"
    cells = {"finding": row_name(row), "answer": row["answer"] if isinstance(row["answer"], str) else ""}
    cells |= pick(row, "positives", "n") | {"auc": auc_of(row)}
    cells["internal"], cells["drop"] = (_estimate(row, key, inside) for key in ("internal", "drop"))
    cells["floor"] = Estimate(row["floor"], why=few)
    for key in ("above", "ap", "sensitivity", "specificity"):
        cells[key] = _estimate(row, key, few or "no operating point")
    return cells | pick(row, "prevalence", "chance", "internal_sensitivity", "internal_specificity")


def _errors(row: dict) -> dict:
    few = "" if row["finding"] == "macro" else too_few(row)
    cells = {"finding": row_name(row) if row["findings"] != 0 else "Mean"}
    cells |= pick(row, "positives", "n", "local_labels", "local_positives")
    for form in ("given", "local"):
        why = few if form == "given" or few else "too few local labels"
        cells[f"ece_{form}"] = Estimate(row[f"ece_{form}"], why="" if math.isfinite(row[f"ece_{form}"]) else why)
        for number in ("slope", "intercept", "brier", "perfect"):
            cells[f"{number}_{form}"] = _estimate(row, f"{number}_{form}", why or "the classes do not overlap")
    return cells
