"""external: what the predictor says of another hospital's images, beside their truth; evaluate makes numbers of it.

python -m stages.external --predictor models/predictor --data data/external/nih --out models/predictions/external/nih
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import main
from .options import Precision


def run(
    predictor: Annotated[Path, Option(help="folder that the stage calibrate wrote")],
    data: Annotated[Path, Option(help="folder that the stage external_data wrote")],
    table: Annotated[Path, Option(help="table that the model was trained on")],
    manifest: Annotated[Path, Option(help="manifest.json of the data set that it was trained on")],
    trained_on: Annotated[str, Option(help="that data set, by name")],
    out: Annotated[Path, Option(help="folder for predictions.parquet, external.json, pointing.parquet")],
    extra_data: Annotated[Path | None, Option(help="folder of the stage extra_data, in it a folder a data set")] = None,
    images: Annotated[int, Option(min=20, help="most images of a finding whose maps are compared with boxes")] = 200,
    precision: Precision = "auto",
) -> None:
    """Score an external data set, and its heat maps where there are boxes. Trained-on patients are refused."""
    from cxr.core.files import atomic, read_json, read_table, write_json, write_table
    from cxr.core.findings import COLUMNS
    from cxr.core.store import open_store
    from cxr.data import boxes
    from cxr.data.formats import Chosen, Extra, Manifest
    from cxr.data.sources import registry
    from cxr.evaluation.formats import External
    from cxr.external import pointing, score, seen
    from cxr.predict.model import Predictor
    from cxr.training.machine import fabric

    chosen = read_json(data / "dataset.json", "external_data", Chosen)
    dataset = registry.find(chosen.dataset)
    records = registry.load(data / "records.parquet", dataset.name, "external_data")
    made, training = (
        read_json(data / "manifest.json", "external_data", Manifest),
        read_json(manifest, f"download@{trained_on}", Manifest),
    )
    model = Predictor(predictor, fabric(precision), predictor.name)
    store = open_store(data / "store" / str(chosen.size))
    if store.size != model.size:
        raise ValueError(f"{data}: images of {store.size} pixels, the model's have {model.size}; `dvc repro` mends it")
    trained = read_table(table, None, COLUMNS).query("split == 'train'")
    whom = seen.seen_by(
        model.meta.weights, registry.people_of(registry.find(trained_on), training), trained["patient_id"].dropna()
    )
    key = made.patient_key or "patient"
    for name in model.meta.extra:
        if extra_data is None:
            raise ValueError(f"{predictor}: was trained on {name} as well, which needs --extra_data")
        other = read_json(extra_data / name / "dataset.json", f"extra_data@{name}", Extra)
        people = registry.people_of(
            registry.find(other.dataset), read_json(extra_data / name / "manifest.json", None, Manifest)
        )
        rows = registry.load(extra_data / name / "records.parquet", other.dataset, f"extra_data@{name}")
        whom = seen.also(whom, people, rows["patient_id"], other.patient_key)
    kept = seen.refuse(records, registry.people_of(dataset, made), key, whom, chosen.name)
    readable = kept.rows[kept.rows["image_id"].isin(store.index["image_id"])]
    rows = score.of_view(readable, model.view, chosen.name)
    scored, meanings, unlike = score.table(model, rows, store, dataset)
    info = External(
        name=chosen.name,
        title=dataset.title,
        data=made.kind,
        labelled_by=dataset.labelled_by,
        patient_key=key,
        images=len(scored),
        patients=scored["patient_id"].nunique(),
        trained_patients=kept.patients,
        trained_images=kept.images,
        other_view=len(readable) - len(rows),
        unreadable=len(kept.rows) - len(readable),
        unlike=unlike,
        notes=chosen.notes,
        labels=[one._asdict() for one in meanings],
        weights_sha256=model.calibration.weights_sha256,
    )
    points = None
    if (data / "boxes.parquet").is_file():
        drawn = read_table(data / "boxes.parquet", "external_data", boxes.COLUMNS)
        points = pointing.table(model.net, store, scored, drawn, meanings, images)
    with atomic(out) as folder:
        folder.mkdir()
        write_table(folder / "predictions.parquet", scored)
        write_json(folder / "external.json", info)
        if points is not None and len(points):
            write_table(folder / "pointing.parquet", points)
    print(
        f"external: {chosen.name}: scored on {len(scored):,} images of {info.patients:,} {key}s, "
        f"{kept.images:,} images of {kept.patients:,} trained-on patients refused; {unlike:.1%} unlike the training's"
    )


if __name__ == "__main__":
    main(run)
