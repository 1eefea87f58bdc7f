"""audit: recomputes every number of both papers that the label tables can check. No image is read.

python -m stages.audit --chexpert data/chexpert/records.parquet --rsna data/rsna/records.parquet --out reports/audit
python -m stages.audit --chexpert CheXpert-v1.0-small/train.csv --rsna rsna/stage_2_train_labels.csv --out audit
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import main


def read(path: Path, dataset: str) -> tuple:
    """(records, kind of source, what patient_id names, the labels' table if not the published one) of a records.parquet
    with manifest.json beside it, or of the published CSV, with RSNA's mapping of images to patients where that lies
    beside it.
    """
    from cxr.core.files import read_json
    from cxr.core.records import load
    from cxr.data.formats import Manifest
    from cxr.data.sources import chexpert, rsna, rsna_patients
    from cxr.data.sources.archive import Folder

    if path.suffix == ".parquet":
        manifest = path.with_name("manifest.json")
        records, made = load(path, dataset), read_json(manifest, f"download@{dataset}", Manifest)
        return records, made.kind, made.patient_key or "image", made.labels
    wanted = {"chexpert": chexpert.TABLES[0], "rsna": rsna.LABELS}[dataset]
    if path.name != wanted:
        raise ValueError(f"{path}: give records.parquet, as download writes it, or the published {wanted}")
    for table in (wanted,) if dataset == "chexpert" else rsna.TABLES:
        if not path.with_name(table).is_file():
            raise ValueError(f"{path.with_name(table)}: no such file; give the place of the published {wanted}")
    tree = Folder(path.parent)
    if dataset == "chexpert":
        return chexpert.read_labels(tree, wanted), tree.kind, "patient", None
    name = rsna_patients.MAPPING
    patients = rsna_patients.parse(tree.read(name), name) if path.with_name(name).is_file() else None
    return rsna.read_labels(tree, *rsna.TABLES, patients), tree.kind, "patient" if patients else "image", None


def run(
    chexpert: Annotated[Path, Option(help="records.parquet of CheXpert, or its train.csv")],
    rsna: Annotated[
        Path,
        Option(help="records.parquet of RSNA, or stage_2_train_labels.csv; the classes beside it, and RSNA's mapping"),
    ],
    out: Annotated[Path, Option(help="folder of audit.csv and data.csv")],
) -> None:
    """Check the papers' numbers against the label tables."""
    import pandas as pd

    from cxr.audit import chexpert as audit_chexpert
    from cxr.audit import rsna as audit_rsna
    from cxr.audit import sheet
    from cxr.core.files import atomic, write_table

    sheets, data = [], []
    for dataset, path, paper in (("chexpert", chexpert, audit_chexpert), ("rsna", rsna, audit_rsna)):
        records, kind, key, labels = read(path, dataset)
        records = records[records["official_split"] == "train"]
        why = sheet.standing(dataset, len(records), kind)
        if labels and not why:
            why = f"the labels here are those of {labels}, the paper's those of train.csv"
        counted = None if why else paper.count(records, key) if dataset == "rsna" else paper.count(records)
        sheets.append(paper.sheet(counted, why))
        data.append({"dataset": dataset, "kind": kind, "n": len(records), "why": why})
    rows = sheet.table(*sheets)
    with atomic(out) as folder:
        folder.mkdir()
        write_table(folder / "audit.csv", rows)
        write_table(folder / "data.csv", pd.DataFrame(data))
    print(f"audit: {len(rows)} numbers: " + "; ".join(f"{verdict}: {n}" for verdict, n in sheet.tally(rows).items()))
    for why in (row["why"] for row in data if row["why"]):
        print(f"audit: {why}")


if __name__ == "__main__":
    main(run)
