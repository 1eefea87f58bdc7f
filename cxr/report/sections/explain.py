"""What the final classifier's heat maps are worth: do they point into the boxes that radiologists drew?"""

from __future__ import annotations

import math

from cxr.core.files import read_json
from cxr.core.findings import finding
from cxr.explain.formats import Explained
from cxr.report.inputs import Artefacts, image
from cxr.report.page import Estimate, Table, xray


def explain(run: Artefacts) -> dict:
    """An answer and a row for each method; a picture of examples where the boxes are of the phantom."""
    worth = read_json(run.explain / "explain.json", "explain", Explained)
    rows, answers = [], []
    for method, one in worth.methods.items():
        row = {"method": method}
        for measure in ("hit", "iou"):
            got = getattr(one, measure)
            row |= {measure: Estimate(got.value, got.low, got.high), f"{measure}_floor": got.floor}
            row[f"{measure}_gain"] = Estimate(got.value - got.floor, got.gain_low, got.gain_high)
        row["random"] = Estimate(math.nan, why="flat maps") if one.random is None else Estimate(one.random)
        rows.append(row)
        answers.append({"method": method, "hit": row["hit"], "floor": one.hit.floor, "beats": one.hit.beats})
    shown = worth.data == "phantom"
    examples = xray(image(run.explain / "examples.png", "explain"), 1600, 80) if shown else None
    counts = worth.model_dump(include={"images", "patients", "floor_images", "data"})
    return {
        "finding": finding(worth.finding),
        **counts,
        "answers": answers,
        "any": any(one["beats"] for one in answers),
        "methods": [one["method"] for one in answers],
        "table": Table("explain", rows),
        "elsewhere": _elsewhere(run),
        "examples": examples,
    }


def _elsewhere(run: Artefacts) -> dict:
    """The boxes of external data sets: a row for each finding and method, and what they say in sum.

    titles: of the data sets; empty, and alone, without boxes.
    """
    titles = {row["name"]: row["title"] for row in run.table("external_sets", "name").to_dict("records")}
    wanted = [one["name"] for one in run.params.get("external") or []]
    table = run.table("external_boxes", "name", "finding", "method", "measure")
    by = run.rows("external_boxes", "name", "finding", "method", "measure")
    rows, of_methods = [], table["gain"].notna()  # a floor has no gain
    for name, what, method in table.loc[of_methods, ["name", "finding", "method"]].drop_duplicates().to_numpy():
        if name not in wanted:
            continue
        hit = by[name, what, method, "hit"]
        row = {"title": titles[name], "finding": what, "answer": hit["answer"], "method": method}
        row |= {"images": hit["images"], "patients": hit["patients"]}
        for measure in ("hit", "iou"):
            got = by[name, what, method, measure]
            row[measure] = Estimate(got["value"], got["value_low"], got["value_high"])
            row[f"{measure}_floor"] = by[name, what, got["floor"], measure]["value"]
            row[f"{measure}_gain"] = Estimate(got["gain"], got["gain_low"], got["gain_high"])
        row["random"] = Estimate(hit["random"], why="flat maps")
        rows.append(row | {"beats": bool(hit["beats"])})
    if not rows:
        return {"titles": []}
    titled = list(dict.fromkeys(row["title"] for row in rows))
    better = list(dict.fromkeys(row["finding"] for row in rows if row["beats"]))
    return {
        "titles": titled,
        "findings": len({(row["title"], row["finding"]) for row in rows}),
        "better": better,
        "table": Table("external_boxes", rows),
    }
