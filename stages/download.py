"""download: a source -> records.parquet (cxr/core/records.py) and manifest.json. Image files stay where they are.

python -m stages.download --dataset chexpert --source phantom --out data/chexpert
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .cli import located, main, state_dir


def run(
    dataset: Annotated[Literal["chexpert", "rsna"], typer.Option()],
    source: Annotated[
        str, typer.Option(help="phantom | folder | .zip | http(s)://, s3:// of a .zip | kaggle:<handle>")
    ],
    out: Annotated[Path, typer.Option(help="folder for records.parquet and manifest.json")],
    state: Annotated[Path | None, typer.Option(help="folder that keeps downloads; default .checkpoints")] = None,
    chexpert_patients: Annotated[int, typer.Option(min=20, help="patients of the phantom CheXpert")] = 1500,
    rsna_patients: Annotated[int, typer.Option(min=20, help="patients of the phantom RSNA")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="seed of the phantom")] = 0,
) -> None:
    """Read the label tables of a data set as records. Download it, or draw the phantom, first."""
    from cxr.core.files import atomic, write_json, write_table
    from cxr.data.formats import Recipe
    from cxr.data.sources import chexpert, rsna
    from cxr.data.sources.address import describe, open_source

    reader = {"chexpert": chexpert, "rsna": rsna}[dataset]
    patients = {"chexpert": chexpert_patients, "rsna": rsna_patients}[dataset]
    recipe = Recipe(patients=patients, seed=seed) if source == "phantom" else None
    tree, kind = open_source(located(source), dataset, (state or state_dir()) / "downloads", recipe)
    records = reader.read(tree)
    manifest = describe(tree, kind, reader.tables(tree), list(records["path"]), recipe)
    with atomic(out / "records.parquet") as table, atomic(out / "manifest.json") as note:
        write_table(table, records)
        write_json(note, manifest)
    print(f"download: {len(records):,} images of {records['patient_id'].nunique():,} patients from a {kind} source")


if __name__ == "__main__":
    main(run)
