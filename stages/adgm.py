"""adgm: the auxiliary deep generative model (paper 2) on RSNA, of pixels or of features, or a control arm.

One run is one variant, one number of classes, one number of labels per class, and one draw of those labels.

    python -m stages.adgm --variant corrected --classes 2 --labels 100 --draw 0 --records data/rsna/records.parquet
    --store data/stores/rsna/225 ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from cxr.adgm.settings import NEUTRAL, Settings
from cxr.adgm.variants import FEATURES

from .cli import main
from .options import CheckpointMinutes, Precision, Records, SplitFolder, State, takes_settings
from .state import training_state


@takes_settings
def run(
    records: Records,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for model.safetensors and model.json")],
    predictions: Annotated[Path, Option(help="parquet: probabilities of the validation and test images")],
    report: Annotated[Path, Option(help="folder for history.csv, samples.png, samples.json")],
    settings: Settings,
    store: Annotated[
        Path | None, Option(help="RSNA's images, packed at this size; what variants of pixels read")
    ] = None,
    features: Annotated[
        Path | None, Option(help="the encoder's folder, with features.parquet; what others read")
    ] = None,
    precision: Precision = "auto",
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the ADGM or a control arm and predict the validation and test images."""
    import sys

    from PIL import Image

    from cxr.adgm import run as adgm
    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.guard import SPLIT
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    arm = (adgm.TRAININGS | adgm.FITTED)[settings.variant]
    settings = arm.settle(settings)
    of_features = settings.variant in FEATURES
    source = features if of_features else store
    if source is None:
        raise ValueError(f"variant {settings.variant} needs --{'features' if of_features else 'store'}")
    cohort, machine = adgm.load(records, split, source, settings), fabric(precision)
    inputs = {"records": records, "split": split / SPLIT}
    inputs |= {"features": source / "features.parquet"} if of_features else {"store": source}
    params = arm.shaping(settings)
    checkpoints = training_state(__file__, settings.name, machine, inputs, params, checkpoint_minutes, state, NEUTRAL)
    result = adgm.run(machine, cohort, settings, checkpoints)
    if result.warning:
        print(f"{settings.name}: {result.warning}", file=sys.stderr)
    with atomic(model) as model_to, atomic(report) as report_to, atomic(predictions) as predictions_to:
        model_to.mkdir()
        save(model_to / "model.safetensors", result.net.state_dict(), result.info)
        report_to.mkdir()
        write_table(report_to / "history.csv", result.history)
        if result.picture is not None and result.agreement is not None:
            Image.fromarray(result.picture).save(report_to / "samples.png")
            write_json(report_to / "samples.json", result.agreement)
        write_table(predictions_to, result.predictions)


if __name__ == "__main__":
    main(run)
