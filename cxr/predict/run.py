"""One run of predict: files in, tables and page out. Memory holds a bounded number of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxr.core.files import Progress, write_table
from cxr.explain.maps import Method
from cxr.predict import capture, heat, tables, worth
from cxr.predict import fhir as reports
from cxr.predict.cards import write_page
from cxr.predict.decoding import Decoded, decoded
from cxr.predict.model import BATCH, Predictor
from cxr.predict.outputs import check_replaceable
from cxr.predict.part import Part, identity
from cxr.predict.published import Published
from cxr.predict.source import Source, printable
from cxr.predict.verdict import Asked, Studies, row


def predict(
    models: Sequence[Predictor],
    source: Source,
    out: Path,
    *,
    pseudonyms: bool,
    cards: int,
    processes: int,
    heat_maps: Method | None = None,
    dicom: bool = False,
    fhir: bool = False,
) -> tables.Counts:
    """Predict every file of the source and write predictions.csv, predictions.parquet, findings.csv and
    predictions.html into `out`.

    pseudonyms: files are called by their number, from 1, in every output. cards: most X-rays on the page. heat_maps:
    how those of what is positive are made, or None for none. dicom: write Secondary Captures and Structured Reports
    into `out`/dicom. fhir: write a DiagnosticReport of each study into `out`/fhir. Both folders replace those of an
    earlier run. A run that was interrupted continues. Raises ValueError where `out` holds a part of another run, where
    one of these folders holds anything else, and for pseudonyms with dicom.
    """
    if dicom and pseudonyms:
        raise ValueError("--dicom names the patient, which --pseudonyms shall not: leave one of them out")
    if dicom:
        capture.check_installed()
    for folder, wanted in {"dicom": dicom, "fhir": fhir}.items():
        if wanted:
            check_replaceable(out / folder, (source.tree.root / name for name in source.names))
    asked = Asked(
        tuple(model.name for model in models),
        tuple(model.view for model in models),
        np.stack([model.thresholds() for model in models]),
    )
    sizes, studies = [model.size for model in models], Studies()
    run = identity(
        [model.identity for model in models], source.names, called=list(asked.names), precision=models[0].precision
    )
    with Part(out, run) as part, Progress("predict", len(source.names)) as progress:
        progress.skip(len(part.done))
        waiting: list[tuple[Decoded, int]] = []
        for files in decoded(source.tree, source.names, part.done, sizes, processes):
            numbered = [(file, studies.number(file.header, part.done.get(file.number))) for file in files]
            waiting += [pair for pair in numbered if pair[0].number not in part.done]
            if len(waiting) >= BATCH:
                part.add(_rows(models, waiting, asked))
                progress.update(len(waiting))
                waiting = []
        if waiting:
            part.add(_rows(models, waiting, asked))
            progress.update(len(waiting))
    numbers = [f"image-{number:06d}" for number in range(1, len(source.names) + 1)]
    names = numbers if pseudonyms else printable(source.names)
    rows = Published(part.path, names, studies.mixed, worth.of_columns(models))
    counts = tables.write(out, rows, asked.names)
    findings = worth.findings(models)
    write_table(out / "findings.csv", findings)
    explained = heat.explainer(models, heat_maps)
    write_page(out / "predictions.html", rows, models, source, counts, findings, cards, explained)
    if dicom:
        made = capture.Made.of(models, source, explained[0])
        counts = counts._replace(dicom=capture.write(out / "dicom", rows, made, counts.accepted))
    if fhir:
        counts = counts._replace(fhir=reports.write(out / "fhir", rows, models, counts.accepted))
    part.remove()
    return counts


def _rows(models: Sequence[Predictor], files: Sequence[tuple[Decoded, int]], asked: Asked) -> list[dict]:
    """The rows of these files in their order."""
    accepted = [file for file, _ in files if not file.reason]
    judged = []
    if accepted:
        judged = [model.judge(np.stack([file.images[model.size] for file in accepted])) for model in models]
    place = {file.number: k for k, file in enumerate(accepted)}
    return [row(file, place.get(file.number, -1), judged, study, asked) for file, study in files]
