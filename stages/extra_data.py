"""extra_data: another hospital's data set, to train the classifier on beside CheXpert: a label table and packed images.

python -m stages.extra_data --name padchest --dataset padchest --source /data/padchest --size 224
--out data/extra/padchest ...
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from .cli import located, main, state_dir
from .options import (
    Columns,
    DatasetName,
    Downloads,
    EntryName,
    LabelTable,
    Mapping,
    MaxRejected,
    PackedSize,
    Part,
    Patients,
    Processes,
    Seed,
    Site,
    Source,
    SplitFolder,
)

if TYPE_CHECKING:
    from cxr.external.extra import HeldOut


def run(
    name: EntryName,
    dataset: DatasetName,
    source: Source,
    size: PackedSize,
    split: SplitFolder,
    manifest: Annotated[Path, Option(help="CheXpert's manifest.json")],
    rsna_split: Annotated[Path, Option(help="folder of RSNA's split")],
    rsna_manifest: Annotated[Path, Option(help="RSNA's manifest.json")],
    external: Annotated[Path, Option(help="folder of the stage external_data, in it a folder a data set")],
    out: Annotated[Path, Option(help="folder for table.parquet, records.parquet, dataset.json and store/")],
    shared: Annotated[
        Literal["refuse", "leave_out"], Option(help="what happens where its patients are tested on elsewhere")
    ] = "refuse",
    labels: LabelTable = "",
    columns: Columns = (),
    part: Part = "all",
    mapping: Mapping = "",
    site: Site = 2,
    patients: Patients = 100,
    seed: Seed = 0,
    state: Downloads = None,
    max_rejected: MaxRejected = 0.01,
    processes: Processes = None,
) -> None:
    """Read a data set to train on beside CheXpert. Patients that are validated or tested on are refused."""
    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.guard import read_split
    from cxr.data.formats import Extra
    from cxr.data.pack import pack
    from cxr.data.sources.entry import Entry, read
    from cxr.data.sources.registry import people_of
    from cxr.external import extra

    entry = Entry("data.extra", name, dataset, located(source), labels, columns, part, mapping and located(mapping),
                  site, patients, seed)  # fmt: skip
    opened = read(entry, (state or state_dir()) / "downloads")
    whose = people_of(opened.dataset, opened.manifest)
    held_out = [
        _of_split("chexpert", "the classifier is validated and tested on", split, manifest),
        _of_split("rsna", "heat maps and the ADGM are tested on", rsna_split, rsna_manifest),
        *_external(external),
    ]
    kept = extra.keep(opened.records, whose, opened.patient_key, held_out, name, shared == "leave_out")
    table, meanings = extra.label_table(kept.rows, opened.dataset, name)
    rows = kept.rows.assign(image_id=f"{name}/" + kept.rows["image_id"].astype(str))
    rows = rows[rows["image_id"].isin(table["image_id"])]
    with atomic(out) as folder:
        folder.mkdir()
        rejected = pack(opened.tree, rows, [size], folder / "store", processes, max_rejected)
        table = table[~table["image_id"].isin(rejected["image_id"])].reset_index(drop=True)
        write_table(folder / "table.parquet", table)
        write_table(folder / "records.parquet", kept.rows)
        write_json(folder / "manifest.json", opened.manifest)
        write_json(
            folder / "dataset.json",
            Extra(
                name=name, dataset=opened.dataset.name, labels=labels, part=part, size=size, notes=opened.notes,
                title=opened.dataset.title, data=opened.manifest.kind, labelled_by=opened.dataset.labelled_by,
                patient_key=opened.patient_key, images=len(table), patients=table["patient_id"].nunique(),
                held_out_patients=kept.patients, held_out_images=kept.images,
                unlabelled=len(kept.rows) - len(rows), unreadable=len(rejected),
                findings=extra.counts(table, meanings), split_sha256=read_split(split, "chexpert")[1].sha256,
            ),
        )  # fmt: skip
    for line in opened.notes:
        print(f"extra_data: {name}: {line}")
    print(
        f"extra_data: {name}: {opened.size(len(opened.records))}; {len(table):,} to train on, {kept.images:,} of "
        f"{kept.patients:,} held-out patients, {len(kept.rows) - len(rows):,} without a label that counts, "
        f"{len(rejected):,} rejected; terms: {opened.dataset.terms}"
    )
    print(f"extra_data: {name}: it is trained on where classifier.extra names it")


def _of_split(dataset: str, what: str, split: Path, manifest: Path) -> "HeldOut":
    """The validation and test patients of CheXpert or RSNA."""
    from cxr.core.files import read_json
    from cxr.core.guard import read_split
    from cxr.data.formats import Manifest
    from cxr.data.sources.registry import find, people_of
    from cxr.external.extra import HeldOut

    made, (rows, _) = read_json(manifest, f"download@{dataset}", Manifest), read_split(split, dataset)
    key, cure = made.patient_key or "patient", "remove it from data.extra"
    if key == "image" and dataset == "rsna":
        cure = f"give data.rsna_patients, or {cure}"
    tested = frozenset(rows.loc[rows["split"] != "train", "patient_id"].astype(str))
    return HeldOut(what, people_of(find(dataset), made), key, tested, cure)


def _external(folder: Path) -> "list[HeldOut]":
    """The patients of every external data set."""
    from cxr.core.files import read_json
    from cxr.data.formats import Chosen, Manifest
    from cxr.data.sources.registry import find, load, people_of
    from cxr.external.extra import HeldOut

    found = []
    for file in sorted(folder.glob("*/dataset.json")):
        chosen, at = read_json(file, "external_data", Chosen), file.parent
        made, dataset = read_json(at / "manifest.json", "external_data", Manifest), find(chosen.dataset)
        rows = load(at / "records.parquet", dataset.name, "external_data")
        cure = f"take {chosen.name} out of external and delete {at}"
        people, key = people_of(dataset, made), made.patient_key or "patient"
        what = f"the model is tested on in external {chosen.name}"
        found.append(HeldOut(what, people, key, frozenset(rows["patient_id"].astype(str)), cure))
    return found


if __name__ == "__main__":
    main(run)
