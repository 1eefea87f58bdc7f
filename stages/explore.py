"""explore: Table 1, Figure 1, the classes and the data checks, from the records alone.

python -m stages.explore --chexpert data/chexpert/records.parquet --rsna data/rsna/records.parquet
--rsna_manifest data/rsna/manifest.json --out reports/explore
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import main


def run(
    chexpert: Annotated[Path, Option(help="CheXpert's records.parquet")],
    rsna: Annotated[Path, Option(help="RSNA's records.parquet")],
    rsna_manifest: Annotated[Path, Option(help="RSNA's manifest.json, which says whether patients are known")],
    out: Annotated[Path, Option(help="folder of the tables and figures")],
) -> None:
    """Describe both datasets."""
    import pandas as pd

    from cxr.cohort import checks as data_checks
    from cxr.cohort import describe
    from cxr.cohort.formats import Summary
    from cxr.core.files import atomic, read_json, write_json, write_table
    from cxr.core.records import load
    from cxr.data.formats import Manifest
    from cxr.report.figures.data import ages, labels
    from cxr.report.figures.style import png

    xpert, pneumonia = load(chexpert, "chexpert"), load(rsna, "rsna")
    key = read_json(rsna_manifest, "download@rsna", Manifest).patient_key or "image"
    parts = {split: xpert[xpert["official_split"] == split] for split in ("train", "valid", "test")}
    table, bins = describe.table1(parts["train"]), describe.ages(parts["train"])
    checks = [
        data_checks.chexpert(xpert).assign(dataset="chexpert"),
        data_checks.rsna(pneumonia).assign(dataset="rsna"),
    ]
    checks = pd.concat(checks, ignore_index=True)
    tables = {
        "table1": describe.beside_paper(table),
        "table1_valid": describe.table1(parts["valid"]),
        "cooccurrence": describe.cooccurrence(parts["train"]),
        "age_by_sex": bins,
        "rsna_classes": describe.rsna_classes(pneumonia),
        "checks": checks[["dataset", *checks.columns.drop("dataset")]],
    }
    summary = {split: describe.summary_chexpert(rows) for split, rows in parts.items() if split != "test" or len(rows)}
    drawn = {
        "labels": labels(table, {state: state for state in describe.STATES}),
        "age_by_sex": ages(bins.dropna().astype(int)),
    }
    with atomic(out) as folder:
        folder.mkdir()
        for name, rows in tables.items():
            write_table(folder / f"{name}.csv", rows)
        for name, figure in drawn.items():
            (folder / f"{name}.png").write_bytes(png(figure, dpi=200))
        write_json(folder / "summary.json", Summary(chexpert=summary, rsna=describe.summary_rsna(pneumonia, key)))
    for row in checks[~checks["severity"].isin(("ok", "note"))].itertuples():
        print(f"explore: {row.dataset}: {row.severity}: {row.check}: {row.count} ({row.advice}); {row.examples}")


if __name__ == "__main__":
    main(run)
