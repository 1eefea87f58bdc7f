"""gan: a DCGAN for one rare finding, or for several, trained on training patients' certain positives (label 1) only.

python -m stages.gan --generator lung_lesion --records data/chexpert/records.parquet --stores data/stores/chexpert
--split data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from stages.cli import main
from stages.state import training_state


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
    import numpy as np
    from PIL import Image

    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.guard import SPLIT, guard, read_split
    from cxr.core.records import load
    from cxr.core.store import open_store
    from cxr.gan import diffaugment as augmentation
    from cxr.gan import generators, train
    from cxr.gan import nets as dcgan
    from cxr.gan.formats import Generator, Kept
    from cxr.training.batches import Images
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    findings = generators.check(generator, mode)
    dcgan.levels(size)
    augmentation.parse(diffaugment)
    if select == "kid" and not holdout:
        raise ValueError(
            "gan.select = kid needs X-rays to judge by: set gan.holdout, to 0.2 say, or gan.select to last"
        )
    if select == "last":  # nothing is kept back, and there is no best state to stop with
        holdout, patience = 0.0, 0
    table = load(records, "chexpert")
    splits, about = read_split(split, "chexpert")
    training = splits.loc[splits["split"] == "train", "image_id"]
    chosen = generators.positives(table[table["image_id"].isin(training)], findings, view)
    guard(chosen, splits, by=about.by, what=f"gan@{generator}")
    back = generators.kept_back(chosen["patient_id"], holdout, seed)
    if select == "kid" and back.sum() < 2:
        print(
            f"gan@{generator}: gan.holdout = {holdout:g} keeps back {back.sum()} of {len(back)} images, too few for a "
            "KID: trains on all and keeps the last state, as gan.select = last"
        )
        select, holdout, patience, back = "last", 0.0, 0, np.zeros_like(back)
    judged, chosen = (chosen[part].reset_index(drop=True) for part in (back, ~back))
    if len(chosen) < 2:
        raise ValueError(
            f"{generator}: {len(chosen)} certain positives among the training patients' {view} images, "
            "a GAN needs some hundreds; take it out of rare.findings and gan_runs.generators"
        )

    machine = fabric(precision)
    store = open_store(stores / str(size))
    images, reference = (Images([store], part["image_id"], machine.device) for part in (chosen, judged))
    settings = {
        "batch": batch, "lr": lr, "beta1": beta1, "z_dim": z_dim, "width": width, "channels": channels, "flip": flip,
        "seed": seed, "average": average, "patience": patience, "stop_diversity": stop_diversity,
        "label_smoothing": label_smoothing, "spectral_norm": spectral_norm, "saturating": saturating, "gain": gain,
    }  # fmt: skip
    facts = {"size": size, "view": view, "findings": findings, "mode": mode, "select": select, "holdout": holdout}
    facts |= {"diffaugment": diffaugment} | settings
    # sample_every decides which generators are looked at, so it is part of the fingerprint.
    params = {"sample_every": sample_every} | facts
    inputs = {"records": records, "split": split / SPLIT, "store": store.folder}
    checkpoints = training_state(__file__, f"gan@{generator}", machine, inputs, params, checkpoint_minutes, state)
    made = train.fit(
        machine, images, checkpoints, label=f"gan@{generator}", epochs=epochs, sample_every=sample_every,
        vectors=generators.vectors(chosen, findings) if mode == "conditional" else None,
        kept_back=reference if select == "kid" else None, augment=diffaugment, **settings,
    )  # fmt: skip
    if not machine.is_global_zero:
        return
    meta = {"net": "DCGAN", "generator": generator, "epochs": epochs} | facts
    meta |= {"images": len(chosen), "patients": int(chosen["patient_id"].nunique()), "split_sha256": about.sha256}
    kept = {"mode": mode, "select": select, "average": average, "epoch": made.epoch, "epochs": epochs}
    kept |= {"stopped_at": made.epochs if made.stopped else None, "why": made.stopped, "kept_back": len(judged)}
    meta |= {name: kept[name] for name in ("epoch", "stopped_at")}
    rows = store.rows(chosen["image_id"])
    real = np.sort(np.random.default_rng(seed).permutation(rows)[: dcgan.GRID**2])
    with atomic(model) as nets, atomic(report) as shown:
        nets.mkdir()
        save(nets / "generator.safetensors", made.g.state_dict(), Generator(**meta))
        save(nets / "discriminator.safetensors", made.d.state_dict(), Generator(**meta))
        shown.mkdir()
        write_table(shown / "history.csv", made.history)
        write_json(shown / "kept.json", Kept(**kept))
        Image.fromarray(dcgan.grid(store.images[real])).save(shown / "real.png")
        for epoch, picture in made.grids.items():
            Image.fromarray(picture).save(shown / f"grid-{epoch:04d}.png")


if __name__ == "__main__":
    main(run)
