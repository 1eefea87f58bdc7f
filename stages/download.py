"""download: a source -> records.parquet (cxr/core/records.py) and manifest.json. Image files stay where they are.

CheXpert also gets readers.parquet: what the benchmark radiologists said of the official test set, without a row where
the source has none. The engine changes no byte, so it is no parameter: --engine spark, or CXR_ENGINE=spark.

python -m stages.download --dataset chexpert --source phantom --out data/chexpert
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .cli import located, main, state_dir
from .options import Engine, Master, Source

if TYPE_CHECKING:
    from cxr.data.formats import Recipe
    from cxr.data.sources.archive import Tree
    from cxr.data.sources.dataset import Reading
    from cxr.spark.download import OnCluster


def run(
    dataset: Annotated[Literal["chexpert", "rsna"], typer.Option()],
    source: Source,
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
    engine: Engine = "local",
    master: Master = None,
) -> None:
    """Read the label tables of a data set as records. Download it, or draw the phantom, first."""
    from cxr.data.formats import Recipe
    from cxr.data.sources import registry
    from cxr.data.sources.address import open_source, read_patients
    from cxr.data.sources.dataset import Given
    from cxr.spark import download as spark_download
    from cxr.spark.session import session

    size = {"chexpert": chexpert_patients, "rsna": rsna_patients}[dataset]
    recipe = Recipe(patients=size, seed=seed) if source == "phantom" else None
    downloads = (state or state_dir()) / "downloads"
    tree, kind = open_source(located(source), dataset, downloads, recipe)
    mapping, more = None, {}
    if patients and dataset == "rsna":
        mapping, more["mapping"] = read_patients(located(patients), downloads)
    given = Given(labels if dataset == "chexpert" else "", mapping)
    if engine == "local":
        save(registry.read(registry.find(dataset), tree, given), out, tree, kind, recipe, more)
        return
    with session(master) as spark:
        save(spark_download.read(spark, registry.find(dataset), tree, given), out, tree, kind, recipe, more)


def save(
    reading: Reading | OnCluster, out: Path, tree: Tree, kind: str, recipe: Recipe | None, more: dict[str, str]
) -> None:
    """Write a data set as read, and say what it holds. The rest: as of address.describe."""
    from cxr.core.files import atomic, write_json, write_table
    from cxr.data.sources import schema
    from cxr.data.sources.address import describe

    with atomic(out / "records.parquet") as table, atomic(out / "manifest.json") as note:
        schema.write(table, reading.parts())
        manifest = describe(tree, kind, reading.tables, schema.paths(table), recipe, **more, **reading.manifest)
        write_json(note, manifest)
        for name, rows in reading.beside.items():
            write_table(out / name, rows)
    for line in reading.notes:
        print(f"download: {line}")
    if manifest.patient_key == "image":
        print(f"download: {manifest.images:,} images from a {kind} source")
        print(
            "download: RSNA's patientId names an image, and no mapping says whose image: one patient may stand in "
            "training and validation; data.rsna_patients gives the mapping (docs/how-to/own-data.md)"
        )
    else:
        print(f"download: {manifest.images:,} images of {reading.patients:,} patients from a {kind} source")


if __name__ == "__main__":
    main(run)
