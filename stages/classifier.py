"""classifier: paper 1's classifier on one label table: weights, history, and predictions of the held-out images.

Four stages of dvc.yaml run this command: baseline on a policy's labels, selftrain on the labels that relabel wrote,
final on the table with generated X-rays, and study on the table of a control arm. Only the table differs. selftrain's
net starts as every baseline does, not from its teacher's weights: Irvin et al. 2019 do not say which.

    python -m stages.classifier --table data/labels/u_zeroes.parquet --stores data/stores/chexpert --split
    data/splits/chexpert ...
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from cxr.classifier.settings import NEUTRAL, STRONG, Settings

from .cli import located, main
from .options import CheckpointMinutes, Precision, Repeat, SplitFolder, State, Stores, takes_settings
from .state import training_state

if TYPE_CHECKING:
    from cxr.classifier.formats import Earlier


@takes_settings
def run(
    table: Annotated[Path, Option(help="label table, as the stage label writes it")],
    stores: Stores,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for model.safetensors and model.json")],
    predictions: Annotated[Path, Option(help="parquet of the validation and test images' scores")],
    history: Annotated[Path, Option(help="CSV with a row an epoch")],
    settings: Settings,
    extra_data: Annotated[Path | None, Option(help="folder of the stage extra_data, in it a folder a data set")] = None,
    synthetic: Annotated[Path | None, Option(help="store of the table's synthetic images")] = None,
    arm: Annotated[Path | None, Option(help="JSON of a control arm: its objective and length")] = None,
    real_alone: Annotated[
        float, Option(min=0.0, max=1.0, help="share of the steps, at the end, that see real images alone")
    ] = 0.0,
    precision: Precision = "auto",
    repeat: Repeat = 0,
    instance: Annotated[
        str, Option(help="the stage's name in dvc.yaml, under which the training's state is kept")
    ] = "classifier",
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the classifier on one label table and predict its validation and test images."""
    from cxr.classifier import extra_images, objectives
    from cxr.classifier import run as classifier
    from cxr.classifier.net import build, check_size
    from cxr.core.files import atomic, write_table
    from cxr.core.guard import SPLIT
    from cxr.training.machine import fabric
    from cxr.training.pretrained import is_file
    from cxr.training.weights import save

    spec = objectives.read(arm) if arm else objectives.BASELINE
    moves = STRONG if spec["augmentation"] == "strong" else {}
    settings = settings.model_copy(update={"seed": settings.seed + repeat} | moves)
    inputs = {"table": table, "split": split / SPLIT, "store": stores / str(settings.size)}
    inputs |= {"synthetic": synthetic} if synthetic and (spec["images"] or not arm) else {}
    machine = fabric(precision)
    folders = [inputs[name] for name in ("store", "synthetic") if name in inputs]
    if settings.extra:
        if extra_data is None:
            raise ValueError("classifier.extra needs --extra_data")
        data = classifier.load(table, split, settings.view, folders)
        real = len(data.parts["train"].table)
        data = extra_images.add(data, extra_data, settings.extra, settings.view, settings.size, machine.device)
        spec = extra_images.lengthened(spec, len(data.parts["train"].table) - real)
        for name in settings.extra:
            inputs[f"{name} table"] = extra_data / name / "table.parquet"
            inputs[f"{name} store"] = extra_data / name / "store" / str(settings.size)
    else:
        data = classifier.load(table, split, settings.view, folders, machine.device)
    start = located(settings.weights)
    before = _earlier(start, split, extra_data)
    inputs |= {"weights": Path(start)} if is_file(start) else {}
    net = build(start, settings.seed, data.classes, settings.backbone)
    check_size(net, settings.size)
    if settings.tune == "head":
        if start == "none":
            raise ValueError(
                "classifier.tune = head trains the last layer alone: choose classifier.weights for the others"
            )
        net.freeze()
    params = settings.model_dump() | {"arm": spec, "select_on": data.split.select_on, "real_alone": real_alone}
    if (
        not spec["lead"] and not real_alone and spec["objective"] != "auc_margin"
    ):  # the others depend on the training's length
        del params["epochs"]
    neutral = NEUTRAL | {"arm": objectives.BASELINE, "real_alone": 0.0}
    checkpoints = training_state(__file__, instance, machine, inputs, params, checkpoint_minutes, state, neutral)
    result = classifier.run(machine, net, data, checkpoints, settings, spec=spec, label=instance, real_alone=real_alone)
    with atomic(model) as folder, atomic(history) as curve, atomic(predictions) as scores:
        folder.mkdir()
        meta = result.meta.model_copy(update={"earlier": before}) if before else result.meta
        save(folder / "model.safetensors", result.net.state_dict(), meta)
        write_table(curve, result.history)
        write_table(scores, result.predictions)


def _earlier(start: str, split: Path, extra_data: Path | None) -> "list[Earlier]":
    """The trainings behind initial weights that are a file. Raises ValueError where the weights have seen images or
    patients that this split validates or tests on, and where nothing says so.
    """
    from cxr.classifier import extra_images
    from cxr.classifier.formats import StartSplit
    from cxr.classifier.start import check, earlier
    from cxr.core.guard import read_split
    from cxr.training.pretrained import is_file, trained_on

    found = []
    if is_file(start):
        found = earlier(Path(start), read_split(split, "chexpert")[1].sha256, extra_images.splits(extra_data))
    started = [start, *(one.weights for one in found)]
    if any(map(trained_on, started)):
        drawn_of = read_split(split, "chexpert", StartSplit)[1]
        check(started, "phantom" if drawn_of.phantom else "chexpert", drawn_of.official)
    return found


if __name__ == "__main__":
    main(run)
