"""external_data: another hospital's data set, to test on alone: its records and its packed images.

python -m stages.external_data --name nih --dataset nih --source /data/nih --size 224 --out data/external/nih
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import located, main, state_dir


def run(
    name: Annotated[str, Option(help="what the page calls it")],
    dataset: Annotated[str, Option(help="chexpert, rsna, nih, mimic, padchest, vindr, table, or auto")],
    source: Annotated[str, Option(help="phantom | folder | .zip | http(s)://, s3:// of a .zip | kaggle:<handle>")],
    size: Annotated[int, Option(min=16, max=2048, help="side of the packed images, pixels: the model's")],
    out: Annotated[Path, Option(help="folder for records.parquet, manifest.json, dataset.json and store/")],
    labels: Annotated[str, Option(help="which of its label tables counts; '': the usual one")] = "",
    columns: Annotated[list[str], Option(help="table: <key>=<column of the CSV>; may be repeated")] = (),
    part: Annotated[Literal["all", "train", "valid", "test"], Option(help="which official part is read")] = "all",
    mapping: Annotated[str, Option(help="rsna: the mapping of images to patients; '': beside the tables")] = "",
    site: Annotated[int, Option(min=1, help="phantom: which hospital it simulates; 1 is the training's")] = 2,
    patients: Annotated[int, Option(min=20, help="phantom: patients")] = 100,
    seed: Annotated[int, Option(min=0, help="phantom: seed")] = 0,
    state: Annotated[Path | None, Option(help="folder that keeps downloads; default .checkpoints")] = None,
    max_rejected: Annotated[float, Option(min=0, max=1, help="largest share of unreadable images")] = 0.01,
    processes: Annotated[
        int | None, Option(min=1, envvar="CXR_PROCESSES", help="worker processes; default one per core")
    ] = None,
) -> None:
    """Read an external data set as records and pack its images; nothing is ever trained on them."""
    import re

    from cxr.core.files import atomic, write_json, write_table
    from cxr.data.formats import Chosen, Recipe
    from cxr.data.pack import pack
    from cxr.data.sources import registry
    from cxr.data.sources.address import describe, open_source, read_patients
    from cxr.data.sources.dataset import Given
    from cxr.data.sources.table import columns_of

    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"external: name = {name!r}: use letters, digits, _ and - alone")
    if source == "phantom" and dataset != "chexpert":
        raise ValueError(f"external {name}: the phantom is a chexpert, not a {dataset}: set dataset to chexpert")
    given = columns_of(columns)
    recipe = Recipe(patients=patients, seed=seed, site=site if site > 1 else None) if source == "phantom" else None
    downloads = (state or state_dir()) / "downloads"
    tree, kind = open_source(located(source), dataset, downloads, recipe)
    found = registry.find(dataset, tree)
    of_images, more = None, {}
    if mapping:
        of_images, more["mapping"] = read_patients(located(mapping), downloads)
    reading = registry.read(found, tree, Given(labels, of_images, given))
    records = reading.records
    if part != "all":
        records = records[records["official_split"] == part].reset_index(drop=True)
        if records.empty:
            raise ValueError(f"external {name}: {found.title} has no image of the official part {part!r} here")
    manifest = describe(tree, kind, reading.tables, list(records["path"]), recipe, **more, **reading.manifest)
    with atomic(out) as folder:
        folder.mkdir()
        rejected = pack(tree, records, [size], folder / "store", processes, max_rejected)
        write_table(folder / "records.parquet", records)
        write_json(folder / "manifest.json", manifest)
        write_json(
            folder / "dataset.json",
            Chosen(name=name, dataset=found.name, labels=labels, part=part, size=size, notes=list(reading.notes)),
        )
    for line in reading.notes:
        print(f"external_data: {name}: {line}")
    whose = f" of {records['patient_id'].nunique():,} patients" if manifest.patient_key != "image" else ""
    print(
        f"external_data: {name}: {len(records) - len(rejected):,} images{whose} of {found.title} from a {kind} source, "
        f"{len(rejected):,} rejected; terms: {found.terms}"
    )


if __name__ == "__main__":
    main(run)
