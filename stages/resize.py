"""resize: image files -> one packed store per size (cxr/core/store.py). Unreadable images go to rejected.csv.

python -m stages.resize --dataset chexpert --source phantom --records data/chexpert/records.parquet \
    --manifest data/chexpert/manifest.json --size 224 --size 128 --out data/stores/chexpert

The engine changes no byte of a store, so it is no parameter: --engine spark, or CXR_ENGINE=spark under `dvc repro`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .cli import located, main, state_dir
from .options import Engine, Master, Records


def run(
    dataset: Annotated[Literal["chexpert", "rsna"], typer.Option()],
    source: Annotated[str, typer.Option(help="as given to the download stage")],
    records: Records,
    manifest: Annotated[Path, typer.Option(help="manifest.json beside it")],
    size: Annotated[list[int], typer.Option(min=16, max=2048, help="side of the square, pixels; may be repeated")],
    out: Annotated[str, typer.Option(help="folder for a store per size and rejected.csv; with spark also s3://...")],
    state: Annotated[Path | None, typer.Option(help="folder that keeps downloads; default .checkpoints")] = None,
    max_rejected: Annotated[float, typer.Option(min=0, max=1, help="largest share of unreadable images")] = 0.01,
    processes: Annotated[
        int | None, typer.Option(min=1, envvar="CXR_PROCESSES", help="worker processes; default one per core")
    ] = None,
    engine: Engine = "local",
    master: Master = None,
) -> None:
    """Decode every image once, scale it to each size, and pack the stores."""
    import time

    from cxr.core.files import read_json
    from cxr.core.records import load
    from cxr.data.formats import Manifest
    from cxr.data.pack import pack
    from cxr.data.sources.address import check_unchanged, open_source
    from cxr.spark import resize as spark_resize
    from cxr.spark.session import session

    if engine == "local" and spark_resize.is_address(out):
        raise ValueError(f"--out {out}: only --engine spark writes to an address; give a folder, and copy it")

    table = load(records, dataset)
    made = read_json(manifest, f"download@{dataset}", Manifest)
    if source == "phantom" and made.recipe is None:
        raise ValueError(f"{manifest}: 'recipe' is missing; `dvc repro -f download@{dataset}` makes it again")
    tree, _ = open_source(located(source), dataset, (state or state_dir()) / "downloads", made.recipe)
    check_unchanged(tree, made, dataset)
    if engine == "spark":
        with session(master) as spark:
            started = time.monotonic()
            rejected = spark_resize.pack(spark, tree, table, size, out, max_rejected)
    else:
        started = time.monotonic()
        rejected = pack(tree, table, size, out, processes, max_rejected)
    rate = len(table) / (time.monotonic() - started)
    sides = ", ".join(map(str, sorted(set(size))))
    print(
        f"resize: {len(table) - len(rejected):,} images at {sides} px, {rate:,.0f} images/s, {len(rejected):,} rejected"
    )


if __name__ == "__main__":
    main(run)
