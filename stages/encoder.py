"""encoder: an encoder of X-rays, trained on RSNA's training images without their labels, and every image's features.

python -m stages.encoder --split data/splits/rsna --stores data/stores/rsna --model models/encoder/0 ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from cxr.encoder.settings import NEUTRAL, Settings

from .cli import main
from .options import CheckpointMinutes, Precision, Repeat, SplitFolder, State, Stores, takes_settings
from .state import training_state


@takes_settings
def run(
    stores: Stores,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for encoder.safetensors, encoder.json and features.parquet")],
    report: Annotated[Path, Option(help="folder for history.csv")],
    settings: Settings,
    precision: Precision = "auto",
    repeat: Repeat = 0,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the encoder of the ADGM's features, and encode every image."""
    from cxr.core.files import atomic, write_table
    from cxr.core.guard import SPLIT
    from cxr.encoder import run as encoder
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    settings = settings.model_copy(update={"seed": settings.seed + repeat})
    label, store = f"encoder@{repeat}", stores / str(settings.size)
    cohort, machine = encoder.load(split, store, settings), fabric(precision)
    inputs = {"split": split / SPLIT, "store": store}
    params = settings.model_dump(exclude={"epochs"})
    checkpoints = training_state(__file__, label, machine, inputs, params, checkpoint_minutes, state, NEUTRAL)
    trained, features = encoder.run(machine, cohort, checkpoints, settings, label)
    with atomic(model) as model_to, atomic(report) as report_to:
        model_to.mkdir()
        save(model_to / "encoder.safetensors", trained.net.state_dict(), encoder.about(cohort, trained, settings))
        write_table(model_to / "features.parquet", features)
        report_to.mkdir()
        write_table(report_to / "history.csv", trained.history)


if __name__ == "__main__":
    main(run)
