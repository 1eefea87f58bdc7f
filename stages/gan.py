"""gan: a DCGAN for one rare finding, or for several, trained on training patients' certain positives (label 1) only.

python -m stages.gan --generator lung_lesion --records data/chexpert/records.parquet --stores data/stores/chexpert
--split data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import main
from .state import training_state


def run(
    generator: Annotated[str, Option(help="a finding's slug, such as lung_lesion; several joined by + share one net")],
    records: Annotated[Path, Option()],
    stores: Annotated[Path, Option(help="the dataset's stores, one folder a size")],
    split: Annotated[Path, Option(help="the split's folder: split.parquet and split.json")],
    model: Annotated[Path, Option(help="folder for generator and discriminator")],
    report: Annotated[Path, Option(help="folder for history.csv, kept.json and the pictures")],
    mode: Annotated[
        Literal["per_finding", "pooled", "conditional"], Option(help="what several findings of one net mean to it")
    ] = "per_finding",
    size: Annotated[int, Option(help="16, 32, 64, 128, 256 or 512")] = 128,
    epochs: Annotated[int, Option(min=1)] = 1000,
    batch: Annotated[int, Option(min=2)] = 64,
    lr: Annotated[float, Option(min=0.0)] = 2e-4,
    beta1: Annotated[float, Option(min=0.0, max=0.999)] = 0.5,
    z_dim: Annotated[int, Option(min=1)] = 100,
    width: Annotated[int, Option(min=1, help="channels of the widest maps; ngf = ndf of the DCGAN example")] = 64,
    channels: Annotated[Literal[1, 3], Option(help="3 is the paper's; X-rays are gray")] = 1,
    view: Annotated[Literal["frontal", "lateral", "all"], Option(help="projections trained on")] = "frontal",
    flip: Annotated[float, Option(min=0.0, max=1.0)] = 0.0,
    sample_every: Annotated[int, Option(min=1, help="epochs between two looks at the generator")] = 50,
    average: Annotated[
        float, Option(min=0.0, max=0.9999, help="decay of the running average of the generator's weights; 0: none")
    ] = 0.0,
    select: Annotated[Literal["last", "kid"], Option(help="which looked-at generator is kept")] = "last",
    holdout: Annotated[
        float, Option(min=0.0, max=0.5, help="share of the training patients kept back for KID; of no use to last")
    ] = 0.0,
    patience: Annotated[int, Option(min=0, help="looks without a better KID before training stops; 0: never")] = 0,
    stop_diversity: Annotated[
        float, Option(min=0.0, max=1.0, help="share of the real X-rays' diversity below which it stops; 0: never")
    ] = 0.0,
    label_smoothing: Annotated[float, Option(min=0.0, max=0.5, help="of the discriminator's real labels")] = 0.0,
    spectral_norm: Annotated[bool, Option(help="of the discriminator's weights")] = False,
    saturating: Annotated[
        bool, Option(help="the generator descends log(1 - D(G(z))), as printed, in place of -log D(G(z))")
    ] = False,
    gain: Annotated[float, Option(min=0.0, help="mean of the batch-norm gains at the start")] = 1.0,
    diffaugment: Annotated[str, Option(help="none, or some of color,translation,cutout")] = "none",
    precision: Annotated[Literal["auto", "32-true", "bf16-mixed"], Option()] = "auto",
    seed: Annotated[int, Option(min=0)] = 0,
    checkpoint_minutes: Annotated[
        float, Option(min=0.0, envvar="CXR_CHECKPOINT_MINUTES", help="between two saves of the training state")
    ] = 5.0,
    state: Annotated[Path | None, Option(help="where training state survives; default .checkpoints")] = None,
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
