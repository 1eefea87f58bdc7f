"""external: what the predictor says of another hospital's images, beside their truth; evaluate makes numbers of it.

python -m stages.external --predictor models/predictor --data data/external/nih --out models/predictions/external/nih
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from .cli import main
from .options import Precision

if TYPE_CHECKING:
    from cxr.data.formats import Manifest
    from cxr.predict.model import Predictor


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
    """Score an external data set, and its heat maps where there are boxes. Patients of the training and the validation
    are refused.
    """
    from cxr.core.files import atomic, read_json, read_table, write_json, write_table
    from cxr.core.store import open_store
    from cxr.data import boxes
    from cxr.data.formats import Chosen, Manifest
    from cxr.data.sources import registry
    from cxr.evaluation.formats import External
    from cxr.external import pointing, score, seen
    from cxr.predict.model import Predictor
    from cxr.training.machine import fabric

    chosen = read_json(data / "dataset.json", "external_data", Chosen)
    dataset = registry.find(chosen.dataset)
    records = registry.load(data / "records.parquet", dataset.name, "external_data")
    made = read_json(data / "manifest.json", "external_data", Manifest)
    model = Predictor(predictor, fabric(precision), predictor.name)
    store = open_store(data / "store" / str(chosen.size))
    if store.size != model.size:
        raise ValueError(f"{data}: images of {store.size} pixels, the model's have {model.size}; `dvc repro` mends it")
    whom = _seen(model, table, read_json(manifest, f"download@{trained_on}", Manifest), trained_on, extra_data)
    key = made.patient_key or "patient"
    kept = seen.refuse(records, registry.people_of(dataset, made), key, whom, chosen.name)
    readable = kept.rows[kept.rows["image_id"].isin(store.index["image_id"])]
    rows = score.of_view(readable, model.view, chosen.name)
    scored, meanings, unlike = score.table(model, rows, store, dataset)
    chosen_on = (
        f"{kept.chosen.images:,} images of {kept.chosen.patients:,} patients were refused: the model's epoch, scaling "
        f"and operating points were chosen on these patients"
    )
    info = External(
        name=chosen.name,
        title=dataset.title,
        data=made.kind,
        labelled_by=dataset.labelled_by,
        patient_key=key,
        images=len(scored),
        patients=scored["patient_id"].nunique(),
        trained_patients=kept.trained.patients,
        trained_images=kept.trained.images,
        other_view=len(readable) - len(rows),
        unreadable=len(kept.rows) - len(readable),
        unlike=unlike,
        notes=[*chosen.notes, *([chosen_on] if kept.chosen.images else [])],
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
        f"{kept.trained.images:,} images of {kept.trained.patients:,} trained-on and {kept.chosen.images:,} of "
        f"{kept.chosen.patients:,} validated-on patients refused; {unlike:.1%} unlike the training's"
    )


def _seen(
    model: "Predictor", table: Path, training: "Manifest", trained_on: str, extra_data: Path | None
) -> "Mapping[str, Mapping[str, str] | None]":
    """Whom a model has seen (cxr/external/seen.py): in its training and validation, in extra data, by its start."""
    from cxr.classifier.start import extras, starts
    from cxr.core.files import read_json, read_table
    from cxr.core.findings import COLUMNS
    from cxr.data.formats import Extra, Manifest
    from cxr.data.sources.registry import find, load, people_of
    from cxr.external import seen

    rows = read_table(table, None, COLUMNS)
    of_part = [rows.loc[rows["split"] == part, "patient_id"].dropna() for part in ("train", "valid")]
    whom: Mapping[str, Mapping[str, str] | None]
    whom = seen.seen_by(starts(model.meta, model.name), people_of(find(trained_on), training), *of_part)
    for name in extras(model.meta):
        if extra_data is None:
            raise ValueError(f"{model.name}: was trained on {name} as well, which needs --extra_data")
        other = read_json(extra_data / name / "dataset.json", f"extra_data@{name}", Extra)
        people = people_of(find(other.dataset), read_json(extra_data / name / "manifest.json", None, Manifest))
        patients = load(extra_data / name / "records.parquet", other.dataset, f"extra_data@{name}")["patient_id"]
        whom = seen.also(whom, people, patients, other.patient_key)
    return whom


if __name__ == "__main__":
    main(run)
