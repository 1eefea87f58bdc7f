"""How good the generated X-rays are: whether a classifier tells them from real ones, each measure beside real against
real, and the nearest training X-rays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from cxr.core.files import read_json
from cxr.core.findings import finding
from cxr.fidelity.formats import EVERY, LEVEL, Fidelity, Memorisation, Spread, TwoSample
from cxr.gan import serving
from cxr.report.inputs import Artefacts, image
from cxr.report.page import Estimate, Table, xray
from cxr.report.sections.of_all import kinds

COUNTS = ("real", "patients", "generated", "held_out", "half")
FEATURES = ("classifier", "inception")
MEASURES = {"fid": "FID", "kid": "KID", "precision": "precision", "recall": "recall", "density": "density"}
MEASURES |= {"coverage": "coverage", "ms_ssim": "MS-SSIM of pairs"}


class Verdict(StrEnum):
    """What the two-sample test says of generated against real X-rays."""

    UNKNOWN = "unknown"  # too few patients
    NONE = "none"  # not told apart, which is no proof of likeness
    APART = "apart"


def fidelity(run: Artefacts) -> dict:
    """One answer a finding, the tables of the test, of measures and of duplicates, the nearest pairs. Empty without
    findings.
    """
    answers, tests, quality, memory, pairs, features = [], [], [], [], [], set()
    for name, folder, stage, of_all in _judgements(run):
        judged = read_json(folder / "fidelity.json", stage, Fidelity)
        features.add(judged.features)
        kid = judged.quality.get("kid")
        answers.append({"name": name, **judged.model_dump(include=set(COUNTS)), "apart": apart(judged.two_sample)})
        answers[-1] |= {"kid": _spread(kid and kid.generated), "real_kid": _spread(kid and kid.floor)}
        tests += [{"finding": name, **row} for row in answers[-1]["apart"]["spaces"]]
        answers[-1] |= {"duplicates": _duplicates(judged.memorisation), "of_all": of_all}
        quality += [_measure(name, key, judged) for key in MEASURES]
        counts = {"generated": judged.generated, "held_out": judged.held_out}
        for space, row in judged.memorisation.spaces.items():
            auc = Estimate(row.membership_auc, row.membership_low, row.membership_high)
            auc_fields = {"membership_auc", "membership_low", "membership_high"}
            distances = row.model_dump(exclude=auc_fields, exclude_unset=True)
            memory.append({"finding": name, "space": space, **counts, **distances, "membership": auc})
        pairs.append({"name": name, "picture": xray(image(folder / "worst_pairs.png", stage), 1600)})
    return {
        "answers": answers,
        "pairs": pairs,
        "features": [name for name in FEATURES if name in features],
        "tests": Table("two_sample", tests) if tests else None,
        "quality": Table("fidelity", quality) if quality else None,
        "memory": Table("memorisation", memory) if memory else None,
    }


def _judgements(run: Artefacts) -> Iterator[tuple[str, Path, str, str]]:
    """(name, folder, stage, kind of a generator of all training images or '') of each finding's judgement: of the DCGAN
    of the first seed, where one serves it, and of the first generator of each other kind.
    """
    seed = run.seeds[0]
    for key in run.findings if run.generators else ():
        generator = serving.generator_of(key, run.generators)
        folder = serving.folder(run.fidelity, key, run.generators)
        yield finding(key), folder, f"fidelity@{generator}-{seed}", ""
    for kind, (seed, *_) in kinds(run).items():
        folder, stage = run.fidelity.parent / str(seed) / kind, f"fidelity_of_{kind}@{seed}"
        for key in run.findings:
            yield f"{finding(key)}, {kind}", folder / key, stage, kind
        yield f"All X-rays, {kind}", folder / EVERY, stage, kind


def _duplicates(memorised: Memorisation) -> Estimate:
    if memorised.duplicates is None:
        return Estimate(math.nan, why="no held-out X-ray")
    return Estimate(memorised.duplicates, memorised.duplicates_low, memorised.duplicates_high)


def apart(test: TwoSample) -> dict:
    """The verdict of a two-sample test, its counts, and a row for each space.

    known: whether held-out real X-rays are told from training ones in this space as well.
    """
    verdict = {None: Verdict.UNKNOWN, False: Verdict.NONE, True: Verdict.APART}[test.told_apart]
    counts = test.model_dump(include={"n", "patients"})
    spaces = []
    for name, one in test.spaces.items():
        row = {"space": name, **counts, "auc": one.auc, "p": one.p, "floor": _spread(one.floor)}
        row |= {"held_out_auc": one.held_out and one.held_out.auc, "held_out_p": one.held_out and one.held_out.p}
        spaces.append(row | {"known": one.held_out is not None and one.held_out.p <= LEVEL})
    return {"verdict": verdict, **counts, "spaces": spaces}


def _spread(spread: Spread | None) -> Estimate:
    if spread is None:
        return Estimate(math.nan, why="too few patients for two halves")
    return Estimate(spread.mean, spread.low, spread.high)


def _measure(finding_name: str, key: str, judged: Fidelity) -> dict:
    row = {"finding": finding_name, "measure": MEASURES[key], "n": judged.half}
    if measure := judged.quality.get(key):
        row |= {part: _spread(getattr(measure, part)) for part in ("generated", "floor", "difference")}
    return row
