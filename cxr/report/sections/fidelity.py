"""How good the generated X-rays are: each measure beside real against real, and the nearest training X-rays."""

from __future__ import annotations

import math
from enum import StrEnum

from cxr.core.files import read_json
from cxr.core.findings import finding
from cxr.fidelity.formats import Fidelity, Measure, Memorisation, Spread
from cxr.gan import generators
from cxr.report.inputs import Artefacts, image
from cxr.report.page import Estimate, Table, xray

COUNTS = ("real", "patients", "generated", "held_out", "half")
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
        name, stage = finding(key), f"fidelity@{generators.generator_of(key, run.generators)}-{run.seeds[0]}"
        folder = generators.folder(run.fidelity, key, run.generators)
        judged = read_json(folder / "fidelity.json", stage, Fidelity)
        features.add(judged.features)
        kid = judged.quality.get("kid")
        answers.append({"name": name, **judged.model_dump(include=set(COUNTS)), "kid": kid and _spread(kid.generated)})
        answers[-1] |= {"real_kid": kid and _spread(kid.floor), "verdict": _verdict(kid)}
        answers[-1] |= {"duplicates": _duplicates(judged.memorisation)}
        quality += [_measure(name, key, judged) for key in MEASURES]
        counts = {"generated": judged.generated, "held_out": judged.held_out}
        for space, row in judged.memorisation.spaces.items():
            auc = Estimate(row.membership_auc, row.membership_low, row.membership_high)
            distances = row.model_dump(exclude={"membership_auc", "membership_low", "membership_high"})
            memory.append({"finding": name, "space": space, **counts, **distances, "membership": auc})
        pairs.append({"name": name, "picture": xray(image(folder / "worst_pairs.png", stage), 1600)})
    return {
        "answers": answers,
        "pairs": pairs,
        "features": [name for name in FEATURES if name in features],
        "quality": Table("fidelity", quality) if quality else None,
        "memory": Table("memorisation", memory) if memory else None,
    }


def _duplicates(memorised: Memorisation) -> Estimate:
    if memorised.duplicates is None:
        return Estimate(math.nan, why="no held-out X-ray")
    return Estimate(memorised.duplicates, memorised.duplicates_low, memorised.duplicates_high)


def _verdict(measure: Measure | None, name: str = "kid") -> Verdict:
    if measure is None:
        return Verdict.UNKNOWN
    if not measure.told_apart:
        return Verdict.NONE
    if name == "ms_ssim":
        return Verdict.DIFFERENT
    return Verdict.WORSE if (measure.difference.mean > 0) == (name in ("fid", "kid")) else Verdict.NEARER


def _spread(spread: Spread) -> Estimate:
    return Estimate(spread.mean, spread.low, spread.high)


def _measure(finding_name: str, key: str, judged: Fidelity) -> dict:
    row = {"finding": finding_name, "measure": MEASURES[key], "n": judged.half}
    if measure := judged.quality.get(key):
        row |= {part: _spread(getattr(measure, part)) for part in ("generated", "floor", "difference")}
    return row | {"verdict": str(_verdict(measure, key))}
