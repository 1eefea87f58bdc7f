"""explore: Table 1, Figure 1, the classes and the data checks, from the records alone.

python -m stages.explore --chexpert data/chexpert/records.parquet --rsna data/rsna/records.parquet
--rsna_manifest data/rsna/manifest.json --out reports/explore

The engine changes no number, so it is no parameter: --engine spark for tables that no machine's memory holds.
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import main
from .options import Engine, Master

SPLITS = ("train", "valid", "test")


def run(
    chexpert: Annotated[
        str, Option(help="CheXpert's records.parquet; with spark also a folder of such files, or s3://...")
    ],
    rsna: Annotated[str, Option(help="RSNA's, likewise")],
    rsna_manifest: Annotated[Path, Option(help="RSNA's manifest.json, which says whether patients are known")],
    out: Annotated[Path, Option(help="folder of the tables and figures")],
    engine: Engine = "local",
    master: Master = None,
) -> None:
    """Describe both datasets."""
    from cxr.cohort import checks, describe
    from cxr.core.records import load
    from cxr.spark import checks as spark_checks
    from cxr.spark import describe as spark_describe
    from cxr.spark import records as spark_records
    from cxr.spark.session import session

    if engine == "local":
        xpert = load(chexpert, "chexpert")
        parts = {split: xpert[xpert["official_split"] == split] for split in SPLITS}
        report(xpert, parts, load(rsna, "rsna"), rsna_manifest, out, describe, checks)
        return
    with session(master) as spark:
        table = spark_records.load(spark, chexpert, "chexpert")
        parts = {split: table.part(split) for split in SPLITS}
        pneumonia = spark_records.load(spark, rsna, "rsna")
        report(table, parts, pneumonia, rsna_manifest, out, spark_describe, spark_checks)


def report(xpert, parts: dict, pneumonia, rsna_manifest: Path, out: Path, describe, data_checks) -> None:
    """Write the tables and figures. xpert, its parts, pneumonia: tables of one engine; describe, data_checks: the
    modules that count them.
    """
    import pandas as pd

    from cxr.cohort.describe import STATES, beside_paper
    from cxr.cohort.formats import Summary
    from cxr.core.files import atomic, read_json, write_json, write_table
    from cxr.data.formats import Manifest
    from cxr.report.figures.data import ages, labels
    from cxr.report.figures.style import png

    key = read_json(rsna_manifest, "download@rsna", Manifest).patient_key or "image"
    table, bins = describe.table1(parts["train"]), describe.ages(parts["train"])
    checks = [
        data_checks.chexpert(xpert).assign(dataset="chexpert"),
        data_checks.rsna(pneumonia).assign(dataset="rsna"),
    ]
    checks = pd.concat(checks, ignore_index=True)
    tables = {
        "table1": beside_paper(table),
        "table1_valid": describe.table1(parts["valid"]),
        "cooccurrence": describe.cooccurrence(parts["train"]),
        "age_by_sex": bins,
        "rsna_classes": describe.rsna_classes(pneumonia),
        "checks": checks[["dataset", *checks.columns.drop("dataset")]],
    }
    summary = {split: describe.summary_chexpert(rows) for split, rows in parts.items() if split != "test" or len(rows)}
    drawn = {
        "labels": labels(table, {state: state for state in STATES}),
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
