"""gan: a DCGAN for one rare finding, trained on training patients' certain positives (label 1) only.

python -m stages.gan --finding lung_lesion --records data/chexpert/records.parquet --stores data/stores/chexpert --split
data/splits/chexpert.parquet ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from stages.cli import main, read_split
from stages.training import training_state


def run(
    finding: Annotated[str, Option(help="a finding's slug, such as lung_lesion")],
    records: Annotated[Path, Option()],
    stores: Annotated[Path, Option(help="the dataset's stores, one folder a size")],
    split: Annotated[Path, Option()],
    model: Annotated[Path, Option(help="folder for generator and discriminator")],
    report: Annotated[Path, Option(help="folder for history.csv and the pictures")],
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
    sample_every: Annotated[int, Option(min=1, help="epochs between sample grids")] = 50,
    precision: Annotated[Literal["auto", "32-true", "bf16-mixed"], Option()] = "auto",
    seed: Annotated[int, Option(min=0)] = 0,
    checkpoint_minutes: Annotated[
        float, Option(min=0.0, envvar="CXR_CHECKPOINT_MINUTES", help="between two saves of the training state")
    ] = 5.0,
    state: Annotated[Path | None, Option(help="where training state survives; default .checkpoints")] = None,
) -> None:
    """Train the DCGAN of one finding."""
    import numpy as np
    from PIL import Image

    from cxr import dcgan, labels
    from cxr.batches import Images
    from cxr.files import atomic, write_table
    from cxr.records import load
    from cxr.runtime import fabric
    from cxr.splits import guard
    from cxr.store import open_store
    from cxr.weights import save

    name = labels.finding(finding)
    dcgan.levels(size)
    table = load(records, "chexpert")
    splits, about = read_split(split, "chexpert")
    training = splits.loc[splits["split"] == "train", "image_id"]
    chosen = table[table["image_id"].isin(training) & (table[name] == 1)]
    if view != "all":
        chosen = chosen[chosen["projection"] == view]
    if len(chosen) < 2:
        raise ValueError(
            f"{finding}: {len(chosen)} certain positives among the training patients' {view} images, "
            "a GAN needs some hundreds; "
            "take it out of rare.findings"
        )
    chosen = chosen.sort_values("image_id", ignore_index=True)
    guard(chosen, splits, by=about["by"], what=f"gan@{finding}")

    machine = fabric(precision)
    store = open_store(stores / str(size))
    images = Images([store], chosen["image_id"], machine.device)
    settings = {
        "batch": batch, "lr": lr, "beta1": beta1, "z_dim": z_dim, "width": width, "channels": channels, "flip": flip,
        "seed": seed,
    }  # fmt: skip
    # sample_every decides which pictures the state holds, so it is part of the fingerprint.
    params = {"size": size, "view": view, "finding": finding, "sample_every": sample_every} | settings
    inputs = {"records": records, "split": split, "store": store.folder}
    checkpoints = training_state(__file__, f"gan@{finding}", machine, inputs, params, checkpoint_minutes, state)
    g, d, curve, grids = dcgan.fit(
        machine, images, checkpoints, label=f"gan@{finding}", epochs=epochs, sample_every=sample_every, **settings
    )
    if not machine.is_global_zero:
        return
    meta = {"net": "DCGAN", "finding": finding, "size": size, "epochs": epochs, "view": view} | settings
    meta |= {"images": len(chosen), "patients": int(chosen["patient_id"].nunique()), "split_sha256": about["sha256"]}
    rows = store.rows(chosen["image_id"])
    real = np.sort(np.random.default_rng(seed).permutation(rows)[: dcgan.GRID**2])
    with atomic(model) as nets, atomic(report) as shown:
        nets.mkdir()
        save(nets / "generator.safetensors", g.state_dict(), meta)
        save(nets / "discriminator.safetensors", d.state_dict(), meta)
        shown.mkdir()
        write_table(shown / "history.csv", curve)
        Image.fromarray(dcgan.grid(store.images[real])).save(shown / "real.png")
        for epoch, picture in grids.items():
            Image.fromarray(picture).save(shown / f"grid-{epoch:04d}.png")


if __name__ == "__main__":
    main(run)
