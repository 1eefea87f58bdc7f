"""FHIR R4: one DiagnosticReport of each study, with an Observation for each finding of each image.

Reports name no patient: whoever files them adds the subject. Their status is preliminary, since no person has seen
them. A finding is a text and a private code, because what a network calls a finding is not what SNOMED CT defines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from cxr import __version__
from cxr.core.files import atomic
from cxr.core.findings import FINDINGS
from cxr.predict import cards
from cxr.predict.cards import Bar
from cxr.predict.model import Predictor

SYSTEM = "urn:cxr:findings"  # of the private codes, F and the finding's place among the fourteen
NOTE = "Research only. Not a medical device. Not for diagnosis."
ANSWERS = {"yes": ("POS", "Positive"), "no": ("NEG", "Negative")}


def write(folder: Path, rows: Iterable[dict], models: Sequence[Predictor]) -> int:
    """Write <folder>/study-<number>.json for each study with a predicted image, and return how many.

    rows: as published, those of one study anywhere. Memory holds the probabilities of all predicted images.
    """
    quantiles, name = cards.population(models), ", ".join(model.name for model in models)
    simulated = any(model.calibration.data == "phantom" for model in models)
    accepted = sorted((row for row in rows if not row["reason"]), key=lambda row: (row["study"], row["number"]))
    folder.mkdir(parents=True, exist_ok=True)
    for study, images in groupby(accepted, key=lambda row: row["study"]):
        made = report(int(study), [(row["file"], cards.bars(row, quantiles)) for row in images], name, simulated)
        with atomic(folder / f"study-{study:06d}.json") as temporary:
            temporary.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return len({row["study"] for row in accepted})


def report(study: int, images: Sequence[tuple[str, Sequence[Bar]]], model: str, simulated: bool) -> dict:
    """A study's DiagnosticReport. images: (file name, its findings) of each; model: names of the models; simulated:
    whether they were trained on simulated patients.
    """
    observations = [
        _observation(f"image-{k}-{_code(bar)}", file, bar) for k, (file, bars) in enumerate(images, 1) for bar in bars
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


def _code(bar: Bar) -> str:
    return f"F{FINDINGS.index(bar.name):02d}"


def _observation(name: str, file: str, bar: Bar) -> dict:
    made = {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary",
        "code": {"coding": [{"system": SYSTEM, "code": _code(bar), "display": bar.name}], "text": bar.name},
        "valueQuantity": {
            "value": float(np.round(bar.value, 6)), "unit": "probability", "system": "http://unitsofmeasure.org",
            "code": "1",
        },
        "device": {"reference": "#device"},
        "derivedFrom": [{"display": file}],
    }  # fmt: skip
    if bar.positive:
        code, display = ANSWERS[bar.positive]
        system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
        made["interpretation"] = [{"coding": [{"system": system, "code": code, "display": display}]}]
    return made
