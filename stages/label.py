"""label: CheXpert's four-valued labels as targets and weights under one policy, and the fixed truth that every policy
is scored against.

python -m stages.label --policy u_zeroes --records data/chexpert/records.parquet --split data/splits/chexpert.parquet
--out data/labels/u_zeroes.parquet
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from stages.cli import main


def run(
    policy: Annotated[str, Option(help="u_zeroes | u_ones | u_ignore")],
    records: Annotated[Path, Option()],
    split: Annotated[Path, Option()],
    out: Annotated[Path, Option()],
) -> None:
    """Apply one label policy."""
    from cxr.files import read_table, write_table
    from cxr.labels import SLUGS, table
    from cxr.records import load

    splits = read_table(split, "split@chexpert", ("image_id", "patient_id", "split"))
    result = table(load(records, "chexpert"), splits, policy)
    write_table(out, result)
    train = result[result["split"] == "train"]
    positives = ", ".join(f"{name} {int((train[f'target.{name}'] == 1).sum()):,}" for name in SLUGS)
    print(f"label: {policy}: training targets of {len(train):,} images: {positives}")


if __name__ == "__main__":
    main(run)
