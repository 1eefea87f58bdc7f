"""gan: a DCGAN for one rare finding, or for several, trained on training patients' certain positives (label 1) only.

python -m stages.gan --generator lung_lesion --records data/chexpert/records.parquet --stores data/stores/chexpert
--split data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from cxr.gan.settings import NEUTRAL, Settings

from .cli import main
from .options import CheckpointMinutes, Precision, Records, Repeat, SplitFolder, State, Stores, takes_settings
from .state import training_state


@takes_settings
def run(
    generator: Annotated[str, Option(help="a finding's slug, such as lung_lesion; several joined by + share one net")],
    records: Records,
    stores: Stores,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for generator and discriminator")],
    report: Annotated[Path, Option(help="folder for history.csv, kept.json and the pictures")],
    settings: Settings,
    precision: Precision = "auto",
    repeat: Repeat = 0,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the DCGAN of one generator."""
    from PIL import Image

    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.guard import SPLIT
    from cxr.gan import generators
    from cxr.gan import run as gan
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    settings = settings.model_copy(update={"seed": settings.seed + repeat})
    data = gan.choose(records, split, settings, generator)
    machine, label, store = fabric(precision), f"gan@{generator}-{repeat}", stores / str(settings.size)
    inputs = {"records": records, "split": split / SPLIT, "store": store}
    params = data.settings.model_dump(exclude={"epochs"}) | {"findings": generators.members(generator)}
    checkpoints = training_state(__file__, label, machine, inputs, params, checkpoint_minutes, state, NEUTRAL)
    trained, real = gan.run(machine, data, store, checkpoints, generator, label)
    meta, kept = gan.reports(data, trained, generator)
    with atomic(model) as weights, atomic(report) as pictures:
        weights.mkdir()
        save(weights / "generator.safetensors", trained.g.state_dict(), meta)
        save(weights / "discriminator.safetensors", trained.d.state_dict(), meta)
        pictures.mkdir()
        write_table(pictures / "history.csv", trained.history)
        write_json(pictures / "kept.json", kept)
        for name, picture in {"real": real, **{f"grid-{e:04d}": grid for e, grid in trained.grids.items()}}.items():
            Image.fromarray(picture).save(pictures / f"{name}.png")


if __name__ == "__main__":
    main(run)
