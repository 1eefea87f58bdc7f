"""baseline: paper 1's DenseNet121 on one label table; writes weights, history and the predictions for validation and
test patients.

stages/final.py is this same command on the enriched table: nothing but the table differs. stages/study.py is it on a
control arm's.

    python -m stages.baseline --table data/labels/u_zeroes.parquet --stores data/stores/chexpert --split
    data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from stages.cli import located, main
from stages.state import training_state


def run(
    table: Annotated[
        Path, Option(help="label table: image_id, patient_id, split, projection, target., weight., truth.<finding>")
    ],
    stores: Annotated[Path, Option(help="the dataset's stores, one folder a size")],
    split: Annotated[Path, Option(help="the split's folder: split.parquet and split.json")],
    model: Annotated[Path, Option(help="folder for model.safetensors and model.json")],
    predictions: Annotated[Path, Option()],
    history: Annotated[Path, Option()],
    synthetic: Annotated[Path | None, Option(help="store of the table's synthetic images")] = None,
    arm: Annotated[Path | None, Option(help="JSON of a control arm: its objective and length")] = None,
    size: Annotated[int, Option(min=32, max=1024)] = 224,
    epochs: Annotated[int, Option(min=1)] = 3,
    batch: Annotated[int, Option(min=2)] = 16,
    lr: Annotated[float, Option(min=0.0)] = 1e-4,
    average: Annotated[
        float, Option(min=0.0, max=0.9999, help="decay of the running average of the weights; 0: none, as in the paper")
    ] = 0.0,
    weights: Annotated[str, Option(help="imagenet | none | a .safetensors path")] = "imagenet",
    view: Annotated[Literal["frontal", "lateral", "all"], Option(help="projections trained and tested on")] = "all",
    crop_min: Annotated[
        float, Option(min=0.05, max=1.0, help="least share of the area that a random crop keeps")
    ] = 0.8,
    flip: Annotated[float, Option(min=0.0, max=1.0, help="probability of a mirror image")] = 0.0,
    rotate: Annotated[float, Option(min=0.0, max=45.0, help="degrees")] = 5.0,
    precision: Annotated[Literal["auto", "32-true", "bf16-mixed"], Option()] = "auto",
    seed: Annotated[int, Option(min=0)] = 0,
    trial: Annotated[int | None, Option(min=0, help="of several trainings of one arm: takes the seed's place")] = None,
    checkpoint_minutes: Annotated[
        float, Option(min=0.0, envvar="CXR_CHECKPOINT_MINUTES", help="between two saves of the training state")
    ] = 5.0,
    state: Annotated[Path | None, Option(help="where training state survives; default .checkpoints")] = None,
) -> None:
    """Train the classifier on one label table and predict its validation and test images."""
    import numpy as np
    import pandas as pd

    from cxr.classifier import net as classifier_net
    from cxr.classifier import objectives, train
    from cxr.classifier.formats import Model, SelectionSplit
    from cxr.core.files import atomic, read_table, write_table
    from cxr.core.findings import COLUMNS, SLUGS, in_view
    from cxr.core.guard import SPLIT, guard, read_split
    from cxr.core.store import open_store
    from cxr.training.batches import Images
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    seed = seed if trial is None else trial
    rows = in_view(read_table(table, columns=COLUMNS), view)
    splits, about = read_split(split, "chexpert", SelectionSplit)
    parts = {name: rows[rows["split"] == name].reset_index(drop=True) for name in ("train", "valid", "test")}
    for name, part in parts.items():
        if part.empty:
            raise ValueError(f"{table}: no {name} image with classifier.view = {view}; choose another view or split")
    guard(parts["train"], splits, by=about.by, what=str(table))

    spec = objectives.read(arm) if arm else objectives.BASELINE
    machine = fabric(precision)
    folders = [stores / str(size)] + ([synthetic] if synthetic and (spec["images"] or not arm) else [])
    opened = [open_store(folder) for folder in folders]
    images = {
        name: Images(opened if name == "train" else opened[:1], part["image_id"], machine.device)
        for name, part in parts.items()
    }
    start = weights if weights in ("imagenet", "none") else located(weights)
    try:
        outcomes = classifier_net.classes_of(rows)
    except ValueError as error:
        raise ValueError(f"{table}: {error}; `dvc repro -f label@u_multiclass` makes it again") from None
    net = classifier_net.build(start, seed, outcomes)
    settings = {
        "batch": batch, "lr": lr, "average": average, "crop_min": crop_min, "flip": flip, "rotate": rotate,
        "seed": seed, "select_on": about.select_on,
    }  # fmt: skip
    inputs = {"table": table, "split": split / SPLIT, "store": folders[0]}
    inputs |= {"synthetic": folders[1]} if folders[1:] else {}
    inputs |= {} if start in ("imagenet", "none") else {"weights": Path(start)}
    params = {"size": size, "view": view, "weights": weights, "arm": spec} | settings
    if spec["lead"] or spec["objective"] == "auc_margin":  # a schedule over the whole: another length starts afresh
        params["epochs"] = epochs
    label = f"{model.parent.name}@{model.name}" if model.parent.name in ("baseline", "study") else model.name
    checkpoints = training_state(__file__, label, machine, inputs, params, checkpoint_minutes, state)
    trained, curve, best = train.fit(
        machine,
        net,
        parts["train"],
        images["train"],
        parts["valid"],
        images["valid"],
        checkpoints,
        objective=objectives.objective(spec, *classifier_net.targets_and_weights(parts["train"]), outcomes),
        epoch_images=spec["epoch_images"],
        lead=np.flatnonzero(parts["train"]["synthetic"]) if spec["lead"] else None,
        label=label,
        epochs=epochs,
        **settings,
    )
    found = []
    for name in ("valid", "test"):
        scores = pd.DataFrame(
            classifier_net.predict(machine, trained, images[name]), columns=[f"score.{s}" for s in SLUGS]
        )
        head = parts[name][["image_id", "patient_id", "split"]]
        found.append(pd.concat([head, scores, parts[name][[f"truth.{s}" for s in SLUGS]]], axis=1))
    if not machine.is_global_zero:
        return
    meta = {
        "net": "DenseNet121",
        "findings": list(SLUGS),
        "classes": outcomes,
        "size": size,
        "view": view,
        "weights": weights,
        "epochs": epochs,
    }
    meta |= settings | {"best_epoch": best, "split_sha256": about.sha256, "train_images": len(parts["train"])}
    with atomic(model) as folder, atomic(history) as curve_file, atomic(predictions) as scores_file:
        folder.mkdir()
        save(folder / "model.safetensors", trained.state_dict(), Model(**meta))
        write_table(curve_file, curve)
        write_table(scores_file, pd.concat(found, ignore_index=True).assign(split_sha256=about.sha256))


if __name__ == "__main__":
    main(run)
