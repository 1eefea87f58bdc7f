"""diffusion: a diffusion model of all training patients' X-rays, conditioned on their labels, sex, age and view.

python -m stages.diffusion --records data/chexpert/records.parquet --stores data/stores/chexpert --split
data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from cxr.diffusion.settings import NEUTRAL, Settings

from .cli import main
from .options import RARE, CheckpointMinutes, Precision, Records, Repeat, SplitFolder, State, Stores, takes_settings
from .state import training_state


@takes_settings
def run(
    records: Records,
    stores: Stores,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for the generator")],
    report: Annotated[Path, Option(help="folder for history.csv, kept.json and the pictures")],
    settings: Settings,
    findings: Annotated[list[str], Option(help="slugs; a row of one picture for each, from the same noise")] = RARE,
    precision: Precision = "auto",
    repeat: Repeat = 0,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the diffusion model."""
    from PIL import Image

    from cxr.core.everybody import everybody
    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.guard import SPLIT
    from cxr.core.picture import grid
    from cxr.diffusion import run as diffusion
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    settings = settings.model_copy(update={"seed": settings.seed + repeat})
    label, store = f"diffusion@{repeat}", stores / str(settings.size)
    data, machine = everybody(records, split, settings.view, label), fabric(precision)
    inputs = {"records": records, "split": split / SPLIT, "store": store}
    sampling = {"epochs", "guidance", "sigma_max", "sigma_min", "sampler_steps"}  # these change no training
    params = settings.model_dump(exclude=sampling)
    checkpoints = training_state(__file__, label, machine, inputs, params, checkpoint_minutes, state, NEUTRAL)
    trained, real, made = diffusion.run(machine, data, store, checkpoints, settings, label)
    meta, kept = diffusion.reports(data, trained, settings, model.name)
    with atomic(model) as weights, atomic(report) as pictures:
        weights.mkdir()
        save(weights / "generator.safetensors", trained.net.state_dict(), meta)
        pictures.mkdir()
        write_table(pictures / "history.csv", trained.history)
        write_json(pictures / "kept.json", kept)
        rows = diffusion.rows(machine, trained, settings, findings)
        for name, picture in {"real": grid(real), "generated": grid(made), "rows": grid(rows)}.items():
            Image.fromarray(picture).save(pictures / f"{name}.png")


if __name__ == "__main__":
    main(run)
