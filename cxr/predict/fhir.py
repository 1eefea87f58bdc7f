"""FHIR R4: one DiagnosticReport of each study, with an Observation for each finding of each image.

Reports name no patient: whoever files them adds the subject. Their status is preliminary, since no person has seen
them. A finding without a probability is an Observation whose value is absent, with the reason. A finding is a text and
a private code, because what a network calls a finding is not what SNOMED CT defines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxr import __version__
from cxr.core.files import Progress, atomic
from cxr.predict import cards
from cxr.predict.cards import Bar, Without, private_code
from cxr.predict.model import Predictor
from cxr.predict.published import Published

SYSTEM = "urn:cxr:findings"  # of the private codes, F and the finding's place among the fourteen
NOTE = "Research only. Not a medical device. Not for diagnosis."
ABSENT = {
    "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
    "code": "unsupported",
    "display": "Unsupported",
}
ANSWERS = {"yes": ("POS", "Positive"), "no": ("NEG", "Negative")}


def write(folder: Path, rows: Published, models: Sequence[Predictor], images: int) -> int:
    """Write study-<number>.json for each study with a predicted image into `folder`, which replaces one of an earlier
    run, and return how many. images: number of predicted ones. Memory holds one study.
    """
    known, name = cards.known(models), ", ".join(model.name for model in models)
    simulated = any(model.calibration.data == "phantom" for model in models)
    count = 0
    with atomic(folder) as temporary, Progress("fhir", images) as progress:
        temporary.mkdir()
        for study in rows.studies():
            found = [(row["file"], cards.bars(row, known.quantiles)) for row in study]
            number = study[0]["study"]
            made = report(
                number, [(file, bars, cards.without(bars, known.statuses)) for file, bars in found], name, simulated
            )
            (temporary / f"study-{number:06d}.json").write_text(json.dumps(made) + "\n", encoding="utf-8")
            count += 1
            progress.update(len(study))
    return count


def report(
    study: int, images: Sequence[tuple[str, Sequence[Bar], Sequence[Without]]], model: str, simulated: bool
) -> dict:
    """A study's DiagnosticReport. images: (file name, its findings, those without a probability) of each; model: names
    of the models; simulated: whether they were trained on simulated patients.
    """
    observations = [
        _observation(f"image-{k}-{private_code(finding)}", file, finding)
        for k, (file, bars, without) in enumerate(images, 1)
        for finding in (*bars, *without)
    ]
    device = {
        "resourceType": "Device", "id": "device", "manufacturer": "cxr",
        "deviceName": [{"name": f"cxr predict: {model}", "type": "model-name"}], "version": [{"value": __version__}],
    }  # fmt: skip
    return {
        "resourceType": "DiagnosticReport",
        "id": f"study-{study:06d}",
        "contained": [device, *observations],
        "status": "preliminary",
        "code": {"text": "Chest X-ray, read by a neural network"},
        "result": [{"reference": f"#{one['id']}"} for one in observations],
        "conclusion": NOTE + " The network was trained on simulated patients." * simulated,
    }


def _observation(name: str, file: str, finding: Bar | Without) -> dict:
    made: dict = {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary",
        "code": {
            "coding": [{"system": SYSTEM, "code": private_code(finding), "display": finding.name}],
            "text": finding.name,
        },
        "device": {"reference": "#device"},
        "derivedFrom": [{"display": file}],
    }  # fmt: skip
    if isinstance(finding, Without):
        made["dataAbsentReason"] = {"coding": [ABSENT], "text": finding.status}
        return made
    made["valueQuantity"] = {
        "value": float(np.round(finding.value, 6)), "unit": "probability", "system": "http://unitsofmeasure.org",
        "code": "1",
    }  # fmt: skip
    if finding.positive:
        code, display = ANSWERS[finding.positive]
        system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
        made["interpretation"] = [{"coding": [{"system": system, "code": code, "display": display}]}]
    return made
