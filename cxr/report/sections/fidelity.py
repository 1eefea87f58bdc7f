"""The report's section on how good the generated X-rays are: each measure beside its floor, and the pairs of generated
and training X-rays that are most alike.

As cxr/report/sections/classifiers.py: the names that the template uses, nothing computed anew.
"""

from __future__ import annotations

import math

from cxr.core.files import read_json
from cxr.core.findings import finding
from cxr.fidelity.formats import Fidelity
from cxr.gan import generators
from cxr.report.inputs import Artefacts, image
from cxr.report.page import Column, Estimate, Picture, Table, xray_uri

COPIES = ("duplicates", "duplicates_low", "duplicates_high")  # a share with its interval, or None where not judged
SEEN = {
    "classifier": "the 1,024 before the last layer of the baseline classifier, which was trained on the real X-rays",
    "inception": "the 2,048 pooled ones of Inception v3 with torchvision's ImageNet weights, which saw no X-ray",
}
MEASURES = {
    "fid": ("FID", "lower is better"),
    "kid": ("KID", "lower is better"),
    "precision": ("precision", "share of generated X-rays that look real"),
    "recall": ("recall", "share of real X-rays that the generator covers"),
    "ms_ssim": ("MS-SSIM of pairs", "higher: less varied"),
}


def fidelity(run: Artefacts) -> dict:
    """One answer a finding, the table of measures, that of memorisation, the worst pairs. Nothing without findings."""
    answers, quality, memory, pairs, seen = [], [], [], [], set()
    for key in run.findings:
        name, stage = finding(key), f"fidelity@{generators.generator_of(key, run.generators)}"
        folder = generators.folder(run.fidelity, key, run.generators)
        found = read_json(folder / "fidelity.json", stage, Fidelity).model_dump()
        seen.add(found["features"])
        told = found["memorisation"]
        answers.append({"name": name, **found, "copies": _copies(told), **_answer(found)})
        quality += _measures(name, found)
        for space, row in told["spaces"].items():
            memory.append({"finding": name, "space": space, **row})
            memory[-1] |= {"generated": found["generated"], "held_out": found["held_out"]}
            auc = (row[f"membership_{part}"] for part in ("auc", "low", "high"))
            memory[-1]["membership"] = Estimate(*auc)
        shown = image(folder / "worst_pairs.png", stage)
        text = (
            f"{name}: generated X-rays (above) over the real training X-ray nearest to each (below), most alike first."
        )
        pairs.append(Picture(text, xray_uri(shown, 1600), f"Generated X-rays beside their nearest, {name}", xray=True))
    return {"answers": answers, "pairs": pairs} | {
        "quality": _quality(quality, seen) if quality else None,
        "memory": _memory(memory, seen) if memory else None,
    }


def _copies(told: dict) -> Estimate:
    if told["duplicates"] is None:
        return Estimate(math.nan, why="no held-out X-ray")
    return Estimate(*(told[key] for key in COPIES))


def _answer(found: dict) -> dict:
    """KID, its floor, and what they allow to say."""
    if "kid" not in found["quality"]:
        return {
            "kid": Estimate(math.nan, why="too few patients for two halves"),
            "floor": None,
            "verdict": "not known",
        }
    kid = found["quality"]["kid"]
    verdict = "can\u2019t be told from the floor"
    if kid["told_apart"]:
        worse = kid["difference"]["mean"] > 0
        verdict = "worse than real ones" if worse else "nearer to the real X-rays than those are to each other"
    return {"kid": _estimate(kid["generated"]), "floor": _estimate(kid["floor"]), "verdict": verdict}


def _estimate(spread: dict) -> Estimate:
    return Estimate(spread["mean"], spread["low"], spread["high"])


def _measures(name: str, found: dict) -> list[dict]:
    rows = []
    for key, (head, meaning) in MEASURES.items():
        row = {"finding": name, "measure": head, "meaning": meaning, "n": found["half"]}
        if measured := found["quality"].get(key):
            row |= {part: _estimate(measured[part]) for part in ("generated", "floor", "difference")}
            row["verdict"] = "told apart" if measured["told_apart"] else "not told from the floor"
        else:
            row["verdict"] = "too few patients"
        rows.append(row)
    return rows


def _quality(rows: list[dict], seen: set[str]) -> Table:
    columns = [
        Column("finding", "Finding"),
        Column("measure", "measure", "text"),
        Column("meaning", "", "text"),
        Column("n", "n", "count", "X-rays on each side"),
        Column("generated", "generated", "number", "against real X-rays"),
        Column("floor", "real: the floor", "number", "against real X-rays"),
        Column("difference", "difference", "number", "against real X-rays"),
        Column("verdict", "", "text"),
    ]
    notes = [
        "The real X-rays, all of training patients, are cut into random halves with no patient in both; n is the "
        "smallest half. The generated are compared with one half; the floor compares the other half with it. Means, "
        "and in brackets the middle 95 % over the halves, which is about the spread of another sample of patients.",
        f"Features: {'; '.join(SEEN[name] for name in sorted(seen))}. "
        "All of these measures depend on n: they compare with their floor and not with other publications.",
    ]
    return Table("fidelity", "Generated against real X-rays, beside real against real", columns, rows, notes)


def _memory(rows: list[dict], seen: set[str]) -> Table:
    columns = [
        Column("finding", "Finding"),
        Column("space", "nearest in", "text"),
        Column("generated", "generated", "count", "n"),
        Column("held_out", "held-out", "count", "n"),
        Column("generated_median", "generated", "number", "median distance to the nearest training X-ray"),
        Column("held_out_median", "held-out", "number", "median distance to the nearest training X-ray"),
        Column("duplicates", "generated", "share", "duplicates"),
        Column("held_out_duplicates", "held-out", "share", "duplicates"),
        Column("membership", "membership AUC, 95 % interval", "auc"),
    ]
    notes = [
        "A duplicate is less than half as far from a training X-ray as the median held-out one. Held-out: real X-rays "
        "of validation and test patients with the finding, used as this reference alone. The membership AUC is how "
        "well the distance to the nearest generated X-ray tells training from held-out X-rays: 0.5 gives nothing away."
    ]
    if "classifier" in seen:
        notes[0] += " In features it also holds what the classifier, trained on the same training X-rays, gives away."
    return Table("memorisation", "Do the generators replay training X-rays?", columns, rows, notes)
