"""projection: a GAN of all training patients' X-rays, conditioned on their labels, sex, age and view.

python -m stages.projection --records data/chexpert/records.parquet --stores data/stores/chexpert --split
data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from cxr.gan.settings import NEUTRAL, Projection

from .cli import main
from .options import RARE, CheckpointMinutes, Precision, Records, Repeat, SplitFolder, State, Stores, takes_settings
from .state import training_state


@takes_settings
def run(
    records: Records,
    stores: Stores,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for generator and discriminator")],
    report: Annotated[Path, Option(help="folder for history.csv, kept.json and the pictures")],
    settings: Projection,
    findings: Annotated[list[str], Option(help="slugs; a row of one picture for each, from the same noise")] = RARE,
    precision: Precision = "auto",
    repeat: Repeat = 0,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the projection GAN."""
    from PIL import Image

    from cxr.core.everybody import everybody
    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.guard import SPLIT
    from cxr.gan import projection
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    settings = settings.model_copy(update={"seed": settings.seed + repeat})
    label, store = f"projection@{repeat}", stores / str(settings.size)
    data, machine = everybody(records, split, settings.view, label), fabric(precision)
    inputs = {"records": records, "split": split / SPLIT, "store": store}
    params = settings.model_dump(exclude={"epochs"})
    checkpoints = training_state(__file__, label, machine, inputs, params, checkpoint_minutes, state, NEUTRAL)
    trained, pictures = projection.run(machine, data, store, checkpoints, settings, findings, label)
    meta, kept = projection.reports(data, trained, settings, model.name)
    pictures |= {f"grid-{epoch:04d}": grid for epoch, grid in trained.grids.items()}
    with atomic(model) as weights, atomic(report) as folder:
        weights.mkdir()
        save(weights / "generator.safetensors", trained.g.state_dict(), meta)
        save(weights / "discriminator.safetensors", trained.d.state_dict(), meta)
        folder.mkdir()
        write_table(folder / "history.csv", trained.history)
        write_json(folder / "kept.json", kept)
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / f"{name}.png")


if __name__ == "__main__":
    main(run)
