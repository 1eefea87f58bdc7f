"""How good the generated X-rays are: each measure beside real against real, and the nearest training X-rays."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path

from cxr.core.files import read_json
from cxr.core.findings import finding
from cxr.gan import generators
from cxr.report.inputs import Artefacts, image
from cxr.report.page import Estimate, Table, xray
from cxr.report.sections.common import pick

SPREAD = dict.fromkeys(("mean", "low", "high"), float)
COUNTS = ("real", "patients", "generated", "held_out", "held_out_patients", "half", "replicates", "scales")
SPACE = dict.fromkeys(("generated_median", "held_out_median", "duplicates", "held_out_duplicates"), float)
SPACE |= dict.fromkeys(("membership_auc", "membership_low", "membership_high"), float)
DUPLICATES = ("duplicates", "duplicates_low", "duplicates_high")  # a share with its interval, or None
SHAPE = dict.fromkeys(COUNTS, int) | {
    "features": str,
    "quality": {...: {"generated": SPREAD, "floor": SPREAD, "difference": SPREAD, "told_apart": bool}},
    "memorisation": dict.fromkeys(DUPLICATES, object) | {"spaces": {...: SPACE}},
}
FEATURES = ("classifier", "inception")
MEASURES = {"fid": "FID", "kid": "KID", "precision": "precision", "recall": "recall", "ms_ssim": "MS-SSIM of pairs"}


class Verdict(StrEnum):
    """What a measure says of generated against real X-rays."""

    UNKNOWN = "unknown"  # too few patients for two halves
    NONE = "none"  # no difference found
    WORSE = "worse"  # further from real X-rays than these are from each other
    NEARER = "nearer"  # nearer to real X-rays than these are to each other
    DIFFERENT = "different"  # of a measure without a better side


def fidelity(run: Artefacts) -> dict:
    """One answer a finding, the tables of measures and of duplicates, the nearest pairs. Empty without findings."""
    answers, quality, memory, pairs, features = [], [], [], [], set()
    for key in run.findings:
        name, stage = finding(key), f"fidelity@{generators.generator_of(key, run.generators)}"
        folder = generators.folder(run.fidelity, key, run.generators)
        judged = _read(folder / "fidelity.json", stage)
        features.add(judged["features"])
        memorised = judged["memorisation"]
        kid = judged["quality"].get("kid")
        answers.append({"name": name, **pick(judged, *COUNTS), "kid": kid and _spread(kid["generated"])})
        answers[-1] |= {"real_kid": kid and _spread(kid["floor"]), "verdict": _verdict(kid)}
        answers[-1] |= {"duplicates": _duplicates(memorised)}
        quality += [_measure(name, key, judged) for key in MEASURES]
        counts = pick(judged, "generated", "held_out")
        for space, row in memorised["spaces"].items():
            auc = Estimate(*(row[f"membership_{part}"] for part in ("auc", "low", "high")))
            distances = pick(row, "generated_median", "held_out_median", "duplicates", "held_out_duplicates")
            memory.append({"finding": name, "space": space, **counts, **distances, "membership": auc})
        pairs.append({"name": name, "picture": xray(image(folder / "worst_pairs.png", stage), 1600)})
    return {
        "answers": answers,
        "pairs": pairs,
        "features": [name for name in FEATURES if name in features],
        "quality": Table("fidelity", quality) if quality else None,
        "memory": Table("memorisation", memory) if memory else None,
    }


def _read(path: Path, stage: str) -> dict:
    judged = read_json(path, stage, SHAPE)
    if judged["features"] not in FEATURES:
        features = judged["features"]
        raise ValueError(f"{path}: no features are called {features!r}; `dvc repro -f {stage}` makes it again")
    return judged


def _duplicates(memorised: dict) -> Estimate:
    if memorised["duplicates"] is None:
        return Estimate(math.nan, why="no held-out X-ray")
    return Estimate(*(memorised[key] for key in DUPLICATES))


def _verdict(measure: dict | None, name: str = "kid") -> Verdict:
    if measure is None:
        return Verdict.UNKNOWN
    if not measure["told_apart"]:
        return Verdict.NONE
    if name == "ms_ssim":
        return Verdict.DIFFERENT
    more = measure["difference"]["mean"] > 0
    return Verdict.WORSE if more == (name in ("fid", "kid")) else Verdict.NEARER


def _spread(spread: dict) -> Estimate:
    return Estimate(spread["mean"], spread["low"], spread["high"])


def _measure(finding_name: str, key: str, judged: dict) -> dict:
    row = {"finding": finding_name, "measure": MEASURES[key], "n": judged["half"]}
    measure = judged["quality"].get(key)
    if measure:
        row |= {part: _spread(measure[part]) for part in ("generated", "floor", "difference")}
    return row | {"verdict": str(_verdict(measure, key))}
