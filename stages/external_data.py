"""external_data: another hospital's data set, to test on alone: its records and its packed images.

python -m stages.external_data --name nih --dataset nih --source /data/nih --size 224 --out data/external/nih
"""

from pathlib import Path
from typing import Annotated

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
)


def run(
    name: EntryName,
    dataset: DatasetName,
    source: Source,
    size: PackedSize,
    out: Annotated[
        Path,
        Option(help="folder for records.parquet, boxes.parquet, dataset.json, manifest.json, store/"),
    ],
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
    """Read an external data set as records and pack its images; nothing is ever trained on them."""
    from cxr.core.files import atomic, write_json, write_table
    from cxr.data import boxes
    from cxr.data.formats import Chosen
    from cxr.data.pack import pack
    from cxr.data.sources.entry import Entry, read

    entry = Entry("external", name, dataset, located(source), labels, columns, part, mapping and located(mapping),
                  site, patients, seed)  # fmt: skip
    opened = read(entry, (state or state_dir()) / "downloads")
    drawn, note = None, ""
    if opened.dataset.boxes:
        drawn, note = boxes.relative(opened.tree, opened.records, opened.dataset.boxes(opened.records))
    notes = [*opened.notes, *([note] if note else [])]
    with atomic(out) as folder:
        folder.mkdir()
        rejected = pack(opened.tree, opened.records, [size], folder / "store", processes, max_rejected)
        write_table(folder / "records.parquet", opened.records)
        if drawn is not None and len(drawn):
            write_table(folder / "boxes.parquet", drawn)
        write_json(folder / "manifest.json", opened.manifest)
        write_json(
            folder / "dataset.json",
            Chosen(name=name, dataset=opened.dataset.name, labels=labels, part=part, size=size, notes=notes),
        )
    for line in notes:
        print(f"external_data: {name}: {line}")
    print(
        f"external_data: {name}: {opened.size(len(opened.records) - len(rejected))}, {len(rejected):,} rejected; "
        f"terms: {opened.dataset.terms}"
    )


if __name__ == "__main__":
    main(run)
