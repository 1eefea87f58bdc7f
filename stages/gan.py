"""gan: a DCGAN for one rare finding, or for several, trained on training patients' certain positives (label 1) only.

python -m stages.gan --generator lung_lesion --records data/chexpert/records.parquet --stores data/stores/chexpert
--split data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import main
from .options import CheckpointMinutes, Precision, Records, Seed, SplitFolder, State, Stores, View
from .state import training_state

Mode = Literal["per_finding", "pooled", "conditional"]


def run(
    generator: Annotated[str, Option(help="a finding's slug, such as lung_lesion; several joined by + share one net")],
    records: Records,
    stores: Stores,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for generator and discriminator")],
    report: Annotated[Path, Option(help="folder for history.csv, kept.json and the pictures")],
    mode: Annotated[Mode, Option(help="how one net serves several findings")] = "per_finding",
    size: Annotated[int, Option(help="16, 32, 64, 128, 256 or 512")] = 128,
    epochs: Annotated[int, Option(min=1)] = 1000,
    batch: Annotated[int, Option(min=2)] = 64,
    lr: Annotated[float, Option(min=0.0)] = 2e-4,
    beta1: Annotated[float, Option(min=0.0, max=0.999)] = 0.5,
    z_dim: Annotated[int, Option(min=1)] = 100,
    width: Annotated[int, Option(min=1, help="channels of the widest maps; ngf = ndf of the DCGAN example")] = 64,
    channels: Annotated[Literal[1, 3], Option(help="3 is the paper's; X-rays are gray")] = 1,
    view: Annotated[View, Option(help="projections trained on")] = "frontal",
    flip: Annotated[float, Option(min=0.0, max=1.0)] = 0.0,
    sample_every: Annotated[int, Option(min=1, help="epochs between two looks at the generator")] = 50,
    average: Annotated[float, Option(min=0.0, max=0.9999, help="decay of G's running average; 0: none")] = 0.0,
    select: Annotated[Literal["last", "kid"], Option(help="which looked-at generator is kept")] = "last",
    holdout: Annotated[float, Option(min=0.0, max=0.5, help="share of patients kept back for select = kid")] = 0.0,
    patience: Annotated[int, Option(min=0, help="looks without a better KID before training stops; 0: never")] = 0,
    stop_diversity: Annotated[float, Option(min=0.0, max=1.0, help="least share of real diversity; 0: any")] = 0.0,
    label_smoothing: Annotated[float, Option(min=0.0, max=0.5, help="of the discriminator's real labels")] = 0.0,
    spectral_norm: Annotated[bool, Option(help="normalise the discriminator's weights")] = False,
    saturating: Annotated[bool, Option(help="G descends log(1 - D(G(z))), as printed, not -log D(G(z))")] = False,
    gain: Annotated[float, Option(min=0.0, help="mean of the batch-norm gains at the start")] = 1.0,
    diffaugment: Annotated[str, Option(help="none, or some of color,translation,cutout")] = "none",
    precision: Precision = "auto",
    seed: Seed = 0,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the DCGAN of one generator."""
    from PIL import Image

    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.guard import SPLIT
    from cxr.gan import nets
    from cxr.gan import run as gan
    from cxr.gan.train import Settings
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    nets.levels(size)
    settings = Settings(
        batch, lr, beta1, z_dim, width, channels, flip, seed, sample_every, average, patience if select == "kid" else 0,
        stop_diversity, label_smoothing, spectral_norm, saturating, gain, diffaugment,
    )  # fmt: skip
    data = gan.choose(
        records, split, generator=generator, mode=mode, view=view, select=select, holdout=holdout, seed=seed
    )
    facts = gan.described(data, settings, generator=generator, mode=mode, size=size, view=view)
    machine, label, store = fabric(precision), f"gan@{generator}", stores / str(size)
    inputs = {"records": records, "split": split / SPLIT, "store": store}
    params = {"sample_every": sample_every} | facts  # which decides which generators are looked at
    checkpoints = training_state(__file__, label, machine, inputs, params, checkpoint_minutes, state, gan.NEUTRAL)
    trained, real = gan.run(machine, data, store, checkpoints, settings, facts, label=label, epochs=epochs)
    if not machine.is_global_zero:
        return
    meta, kept = gan.reports(data, trained, facts, generator=generator, epochs=epochs)
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
