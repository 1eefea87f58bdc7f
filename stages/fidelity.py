"""fidelity: how good the X-rays of one generator are, finding by finding, and whether they replay training images.

python -m stages.fidelity --generator lung_lesion --records data/chexpert/records.parquet --stores data/stores/chexpert
--split data/splits/chexpert --gan models/gan/lung_lesion --classifier models/baseline/u_zeroes --report
reports/fidelity/lung_lesion
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import instances_of, main

PAIRS = 10


def run(
    generator: Annotated[str, Option(help="a finding's slug, such as lung_lesion, or several joined by +")],
    records: Annotated[Path, Option()],
    stores: Annotated[Path, Option(help="the dataset's stores, one folder a size")],
    split: Annotated[Path, Option(help="the split's folder: split.parquet and split.json")],
    gan: Annotated[Path, Option(help="folder of the generator")],
    classifier: Annotated[Path, Option(help="folder of the model.safetensors whose features classifier means")],
    report: Annotated[
        Path, Option(help="folder for fidelity.json, halves.csv and worst_pairs.png, or one of each finding")
    ],
    features: Annotated[
        Literal["classifier", "inception"],
        Option(help="what images are compared in; inception: ImageNet's Inception v3"),
    ] = "classifier",
    replicates: Annotated[int, Option(min=20, help="random halves of the real images")] = 100,
    seed: Annotated[int, Option(min=0)] = 0,
) -> None:
    """Compare generated with real X-rays of each finding that the generator serves."""
    import pandas as pd
    from PIL import Image

    from cxr.classifier.formats import Model
    from cxr.classifier.net import build
    from cxr.core.files import atomic, read_json, sha256, write_json, write_table
    from cxr.core.guard import guard, read_split
    from cxr.core.records import load
    from cxr.core.store import open_store
    from cxr.fidelity import measures
    from cxr.fidelity.features import SIZE, Inception, penultimate
    from cxr.fidelity.formats import Fidelity
    from cxr.gan import generators, nets
    from cxr.synthesis import generate
    from cxr.training.machine import device
    from cxr.training.weights import load_into

    findings = generators.members(generator)
    table = load(records, "chexpert")
    splits, about = read_split(split, "chexpert")
    meta = generate.read(gan)
    made_under = [(gan, meta, f"gan@{generator}")]
    if features == "classifier":
        _, trainer = instances_of(classifier.name)
        judge = read_json(classifier / "model.json", trainer, Model)
        made_under.append((classifier, judge, trainer))
    for folder, made_with, stage in made_under:
        if made_with.split_sha256 != about.sha256:
            raise ValueError(f"{folder}: was trained on another split; `dvc repro -f {stage}` makes it again")
    shown = generators.positives(table, findings, meta.view)
    shown = shown.merge(splits[["image_id", "split"]], on="image_id").sort_values("image_id", ignore_index=True)
    train, held_out = (
        shown[mine].reset_index(drop=True) for mine in (shown["split"] == "train", shown["split"] != "train")
    )
    # Under split.by = image a patient may be on both sides; a reference is of patients that the generator never saw.
    held_out = held_out[~held_out["patient_id"].isin(train["patient_id"])].reset_index(drop=True)
    guard(train, splits, by=about.by, what=f"fidelity@{generator}")
    # Training patients that the GAN was selected by, not trained on: real X-rays, but no copies can come from them.
    train["seen"] = ~generators.kept_back(train["patient_id"], meta.holdout, meta.seed)
    vectors = generators.vectors(train, findings)
    for name, present in zip(findings, vectors.T, strict=True):
        if present.sum() < 2:
            raise ValueError(f"{name}: {int(present.sum())} real training images; take it out of rare.findings")

    machine = device()
    store = open_store(stores / str(meta.size))
    g = generate.generator(gan, meta)
    if features == "classifier":
        net, *shape = build("none", seed, judge.classes), judge.size, 64
        load_into(net, classifier / "model.safetensors")
    else:
        net, *shape = Inception(), SIZE, 16
    g, net = g.to(machine), net.to(machine)
    real = {
        part: store.images[store.rows(rows["image_id"])] for part, rows in (("train", train), ("held_out", held_out))
    }
    known = {part: penultimate(net, x, *shape) for part, x in real.items()}
    results = []
    for k, name in enumerate(findings):
        mine = vectors[:, k] == 1
        key = (seed, 5) if len(findings) == 1 else (seed, 5, k)
        y = vectors[mine] if meta.mode == "conditional" else None
        made = nets.generate(g, int(mine.sum()), meta.z_dim, *key, device=machine, labels=y)
        images = real | {"made": made}
        seen = known | {"made": penultimate(net, made, *shape)}
        results.append(_judged(name, train, mine, held_out, images, seen, replicates, seed))
        results[-1][0].update(
            features=features,
            generator_sha256=sha256(gan / "generator.safetensors"),
            split_sha256=about.sha256,
            scales=measures.scales(meta.size),
        )
    with atomic(report) as folder:
        folder.mkdir()
        for found, rows, picture in results:
            place = folder if len(findings) == 1 else folder / found["finding"]
            place.mkdir(exist_ok=True)
            write_json(place / "fidelity.json", Fidelity(**found))
            halves = pd.DataFrame(rows, columns=["replicate", "which", "n", *measures.MEASURES])
            write_table(place / "halves.csv", halves)
            Image.fromarray(picture).save(place / "worst_pairs.png")
    for found, *_ in results:
        told = found["memorisation"]["duplicates"]
        copied = "not judged, no held-out image" if told is None else f"{told:.1%}"
        print(f"fidelity@{found['finding']}: {found['generated']:,} generated, duplicates of training images: {copied}")


def _judged(name, train, mine, held_out, images, seen, replicates, seed) -> tuple[dict, list[dict], object]:
    """(what is said of one finding's generated images, rows of the random halves, the worst pairs as a picture).

    images, seen: pixels and features of train, held_out and made. Quality is judged against the finding's own training
    images (`mine`), copies against all that the generator was trained on.
    """
    import numpy as np

    from cxr.fidelity import copies, measures
    from cxr.gan import nets

    own, trained_on, made = np.flatnonzero(mine), train["seen"].to_numpy(), images["made"]
    rng = np.random.default_rng([seed, *name.encode()])
    rows = measures.compare(
        seen["train"][own], seen["made"], images["train"][own], made,
        train["patient_id"].to_numpy(object)[own], replicates=replicates, rng=rng,
    )  # fmt: skip
    images, seen = (parts | {"train": parts["train"][trained_on]} for parts in (images, seen))
    spaces = {part: {"features": seen[part], "pixels": copies.pixels(x)} for part, x in images.items()}
    mirrored = copies.pixels(images["train"][:, :, ::-1])
    spaces["train"]["pixels"] = np.concatenate([spaces["train"]["pixels"], mirrored])
    people = [part["patient_id"].to_numpy(object) for part in (train[trained_on], held_out)]
    told, pairs = copies.judge(*spaces.values(), *people, rng)
    worst = pairs[:, :PAIRS]
    picture = nets.grid(np.concatenate([made[worst[0]], images["train"][worst[1]]]), worst.shape[1])
    result = {
        "finding": name,
        "real": len(own),
        "patients": int(train["patient_id"].iloc[own].nunique()),
        "generated": len(made),
        "held_out": len(held_out),
        "held_out_patients": int(held_out["patient_id"].nunique()),
        "half": min((row["n"] for row in rows), default=0),
        "replicates": len(rows) // 2,
        "quality": measures.summary(rows),
        "memorisation": told,
    }
    return result, rows, picture


if __name__ == "__main__":
    main(run)
