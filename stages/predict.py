"""predict: probabilities of the findings for X-rays of your own, with the folder that the stage calibrate wrote.

cxr predict models/predictor my_xrays/ --out predictions/
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from .cli import main
from .options import Precision


def run(
    predictor: Annotated[Path, Argument(help="folder of a predictor, as the stage calibrate writes it")],
    source: Annotated[str, Argument(help="image file, folder, .zip, list of files (.txt), or - for a list on stdin")],
    out: Annotated[Path, Option(help="folder for predictions.csv, .parquet and .html, and findings.csv")],
    model: Annotated[
        list[Path], Option(help="another predictor; may be repeated. Probabilities are then the mean")
    ] = (),
    pseudonyms: Annotated[bool, Option(help="number the files in every output in place of their names")] = False,
    cards: Annotated[int, Option(min=0, help="most X-rays on the page; the first of the list")] = 100,
    heat_maps: Annotated[
        Literal["grad_cam", "integrated_gradients", "none"],
        Option(help="of what is positive, on the page: grad_cam is fast, integrated_gradients finer"),
    ] = "grad_cam",
    dicom: Annotated[
        bool, Option(help="also DICOM Secondary Captures and Structured Reports, which name the patient")
    ] = False,
    fhir: Annotated[bool, Option(help="also a FHIR R4 DiagnosticReport of each study, without a patient")] = False,
    precision: Precision = "auto",
    processes: Annotated[
        int | None, Option(min=1, envvar="CXR_PROCESSES", help="decoding processes; default one per core")
    ] = None,
) -> None:
    """Predict the findings of X-rays: tables and a page. Exit code 3: some were refused or left out; 1: all, or an
    error."""
    import sys

    from cxr.core.files import usable_cores
    from cxr.predict.model import Predictor
    from cxr.predict.outputs import alone, check_earlier
    from cxr.predict.run import predict
    from cxr.predict.source import open_source
    from cxr.training.machine import fabric

    check_earlier(out, dicom=dicom, fhir=fhir)
    opened = open_source(source, sys.stdin.buffer.read() if source == "-" else b"", out)
    for one in opened.left_out:
        print(f"predict: left out: {one.said(named=not pseudonyms)}", file=sys.stderr)
    machine, folders = fabric(precision), [predictor, *model]
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{name}-{k}" for k, name in enumerate(names, 1)]
    models = [Predictor(folder, machine, name) for folder, name in zip(folders, names, strict=True)]
    with alone(out):
        counts = predict(
            models, opened, out, pseudonyms=pseudonyms, cards=cards, processes=processes or usable_cores(),
            heat_maps=None if heat_maps == "none" else heat_maps, dicom=dicom, fhir=fhir,
        )  # fmt: skip
    refused = ", ".join(f"{reason}: {n:,}" for reason, n in counts.refused.items())
    print(
        f"predict: {counts.accepted:,} of {counts.images:,} files predicted"
        + (f"; refused: {refused}" if refused else "")
    )
    if done := counts.dicom:
        print(
            f"predict: {done.captures:,} Secondary Captures, {done.uncaptured:,} images have none; "
            f"{done.reports:,} Structured Reports, {done.unreported:,} studies have none"
        )
    if counts.fhir is not None:
        print(f"predict: {counts.fhir:,} FHIR reports")
    if counts.refused or opened.missed:
        raise typer.Exit(3 if counts.accepted else 1)


if __name__ == "__main__":
    main(run)
