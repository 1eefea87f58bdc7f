"""classifier: paper 1's DenseNet121 on one label table: weights, history, and predictions of the held-out images.

Four stages of dvc.yaml run this command: baseline on a policy's labels, selftrain on the labels that relabel wrote,
final on the table with generated X-rays, and study on the table of a control arm. Only the table differs. selftrain's
net starts as every baseline does, not from its teacher's weights: Irvin et al. 2019 do not say which.

    python -m stages.classifier --table data/labels/u_zeroes.parquet --stores data/stores/chexpert --split
    data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import located, main
from .options import CheckpointMinutes, Precision, Seed, SplitFolder, State, Stores, View
from .state import training_state


def run(
    table: Annotated[Path, Option(help="label table, as the stage label writes it")],
    stores: Stores,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for model.safetensors and model.json")],
    predictions: Annotated[Path, Option(help="parquet of the validation and test images' scores")],
    history: Annotated[Path, Option(help="CSV with a row an epoch")],
    synthetic: Annotated[Path | None, Option(help="store of the table's synthetic images")] = None,
    arm: Annotated[Path | None, Option(help="JSON of a control arm: its objective and length")] = None,
    size: Annotated[int, Option(min=32, max=1024, help="pixels of an image's side")] = 224,
    epochs: Annotated[int, Option(min=1)] = 3,
    batch: Annotated[int, Option(min=2)] = 16,
    lr: Annotated[float, Option(min=0.0)] = 1e-4,
    average: Annotated[float, Option(min=0.0, max=0.9999, help="decay of the weights' running average; 0: none")] = 0.0,
    weights: Annotated[str, Option(help="imagenet | none | a .safetensors path")] = "imagenet",
    view: Annotated[View, Option(help="projections trained and tested on")] = "all",
    crop_min: Annotated[float, Option(min=0.05, max=1.0, help="least share of the area that a crop keeps")] = 0.8,
    flip: Annotated[float, Option(min=0.0, max=1.0, help="probability of a mirror image")] = 0.0,
    rotate: Annotated[float, Option(min=0.0, max=45.0, help="largest rotation in degrees")] = 5.0,
    precision: Precision = "auto",
    seed: Seed = 0,
    trial: Annotated[int | None, Option(min=0, help="replaces the seed; numbers the trainings of one arm")] = None,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the classifier on one label table and predict its validation and test images."""
    import dataclasses

    from cxr.classifier import objectives
    from cxr.classifier import run as classifier
    from cxr.classifier.net import build
    from cxr.classifier.train import Settings
    from cxr.core.files import atomic, write_table
    from cxr.core.guard import SPLIT
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    spec = objectives.read(arm) if arm else objectives.BASELINE
    inputs = {"table": table, "split": split / SPLIT, "store": stores / str(size)}
    inputs |= {"synthetic": synthetic} if synthetic and (spec["images"] or not arm) else {}
    machine = fabric(precision)
    folders = [inputs[name] for name in ("store", "synthetic") if name in inputs]
    data = classifier.load(table, split, view, folders, machine.device)
    settings = Settings(
        batch, lr, average, crop_min, flip, rotate, seed if trial is None else trial, data.split.select_on
    )
    start = weights if weights in ("imagenet", "none") else located(weights)
    net = build(start, settings.seed, data.classes)
    inputs |= {} if start in ("imagenet", "none") else {"weights": Path(start)}
    label = f"{model.parent.name}@{model.name}" if model.parent.name in ("baseline", "study") else model.name
    options = {"size": size, "view": view, "weights": weights}
    params = options | {"arm": spec} | dataclasses.asdict(settings)
    if spec["lead"] or spec["objective"] == "auc_margin":  # these depend on the training's length
        params["epochs"] = epochs
    checkpoints = training_state(
        __file__, label, machine, inputs, params, checkpoint_minutes, state, classifier.NEUTRAL
    )
    result = classifier.run(
        machine, net, data, checkpoints, settings, spec=spec, options=options, label=label, epochs=epochs
    )
    if not machine.is_global_zero:
        return
    with atomic(model) as folder, atomic(history) as curve, atomic(predictions) as scores:
        folder.mkdir()
        save(folder / "model.safetensors", result.net.state_dict(), result.meta)
        write_table(curve, result.history)
        write_table(scores, result.predictions)


if __name__ == "__main__":
    main(run)
