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
        "examples": examples,
    }
