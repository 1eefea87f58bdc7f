"""download: a source -> records.parquet (cxr/core/records.py) and manifest.json. Image files stay where they are.

CheXpert also gets readers.parquet: what the benchmark radiologists said of the official test set, without a row where
the source has none.

python -m stages.download --dataset chexpert --source phantom --out data/chexpert
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .cli import located, main, state_dir

if TYPE_CHECKING:
    import pandas as pd

    from cxr.data.sources.archive import Tree


def run(
    dataset: Annotated[Literal["chexpert", "rsna"], typer.Option()],
    source: Annotated[
        str, typer.Option(help="phantom | folder | .zip | http(s)://, s3:// of a .zip | kaggle:<handle>")
    ],
    out: Annotated[Path, typer.Option(help="folder for records.parquet, manifest.json and readers.parquet")],
    labels: Annotated[
        str, typer.Option(help="CheXpert: table of the training images' labels, such as train_cheXbert.csv")
    ] = "train.csv",
    patients: Annotated[
        str,
        typer.Option(
            help="RSNA: the mapping of its images to patients: a .json, a folder or .zip that holds it, or an address; "
            "'' takes the one beside the tables, if there is one"
        ),
    ] = "",
    state: Annotated[Path | None, typer.Option(help="folder that keeps downloads; default .checkpoints")] = None,
    chexpert_patients: Annotated[int, typer.Option(min=20, help="patients of the phantom CheXpert")] = 1500,
    rsna_patients: Annotated[int, typer.Option(min=20, help="patients of the phantom RSNA, of 2.3 images each")] = 640,
    seed: Annotated[int, typer.Option(min=0, help="seed of the phantom")] = 0,
) -> None:
    """Read the label tables of a data set as records. Download it, or draw the phantom, first."""
    from cxr.core.files import atomic, write_json, write_table
    from cxr.data.formats import Recipe
    from cxr.data.sources.address import describe, open_source

    size = {"chexpert": chexpert_patients, "rsna": rsna_patients}[dataset]
    recipe = Recipe(patients=size, seed=seed) if source == "phantom" else None
    downloads = (state or state_dir()) / "downloads"
    tree, kind = open_source(located(source), dataset, downloads, recipe)
    records, tables, more = _chexpert(tree, labels, out) if dataset == "chexpert" else _rsna(tree, patients, downloads)
    manifest = describe(tree, kind, tables, list(records["path"]), recipe, **more)
    with atomic(out / "records.parquet") as table, atomic(out / "manifest.json") as note:
        write_table(table, records)
        write_json(note, manifest)
    if manifest.patient_key == "image":
        print(f"download: {len(records):,} images from a {kind} source")
        print(
            "download: RSNA's patientId names an image, and no mapping says whose image: one patient may stand in "
            "training and validation; data.rsna_patients gives the mapping (docs/how-to/own-data.md)"
        )
    else:
        print(f"download: {len(records):,} images of {records['patient_id'].nunique():,} patients from a {kind} source")


def _rsna(tree: Tree, given: str, downloads: Path) -> tuple[pd.DataFrame, list[str], dict[str, str]]:
    """The records, the names of the tables, and what the manifest says of the patients.

    given: the mapping's address, '' for the one beside the tables.
    """
    from cxr.data.sources import rsna, rsna_patients
    from cxr.data.sources.address import read_patients

    tables, patients, more = rsna.tables(tree), None, {}
    if given:
        patients, more["mapping"] = read_patients(located(given), downloads)
    elif name := rsna_patients.beside(tree, tables[0]):
        tables.append(name)
        patients = rsna_patients.parse(tree.read(name), name)
    more["patient_key"] = "patient" if patients else "image"
    return rsna.read(tree, patients), tables, more


def _chexpert(tree: Tree, labels: str, out: Path) -> tuple[pd.DataFrame, list[str], dict[str, str]]:
    """The records, the names of the tables, and the name of the labels for the manifest. Writes readers.parquet."""
    from cxr.core.files import write_table
    from cxr.data.sources import chexpert, chexpert_test

    records = chexpert.read(tree, labels)
    studies = records.loc[records["official_split"] == "test", "study_id"].drop_duplicates()
    write_table(out / "readers.parquet", chexpert_test.read_readers(tree, studies))
    for line in chexpert_test.read(tree)[1]:
        print(f"download: {line}")
    return records, chexpert.tables(tree, labels), {"labels": labels} if labels != chexpert.TABLES[0] else {}


if __name__ == "__main__":
    main(run)
