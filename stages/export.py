"""export: a predictor as one ONNX file, checked against the predictor itself.

cxr export models/predictor --out predictor.onnx
"""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .cli import main


def run(
    predictor: Annotated[Path, Argument(help="folder of a predictor, as the stage calibrate writes it")],
    out: Annotated[Path, Option(help="file to write, ending in .onnx")],
) -> None:
    """Write a predictor as an ONNX file: network, calibration, limit for outliers. It is compared before it is kept."""
    from cxr.core.files import atomic
    from cxr.predict import export
    from cxr.predict.model import Predictor
    from cxr.training.machine import fabric

    if out.suffix != ".onnx":
        raise ValueError(f"{out}: give a file that ends in .onnx")
    model = Predictor(predictor, fabric("32-true"), predictor.resolve().name)
    with atomic(out) as temporary:
        export.write(model, temporary)
        gap = export.difference(model, temporary)
    print(f"export: {out}, {out.stat().st_size / 1e6:.1f} MB; its numbers are within {gap:.1g} of the predictor's")


if __name__ == "__main__":
    main(run)
