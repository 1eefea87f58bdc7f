"""fidelity: how good the generated X-rays of one finding are, and whether they replay training images.

python -m stages.fidelity --finding lung_lesion --records data/chexpert/records.parquet --stores data/stores/chexpert
--split data/splits/chexpert.parquet --gan models/gan/lung_lesion --classifier models/baseline/u_zeroes --report
reports/fidelity/lung_lesion
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from stages.cli import main, read_split

NET = {"size": int, "split_sha256": str}
JUDGE = NET | {"classes": int}
GENERATOR = NET | dict.fromkeys(("z_dim", "width", "channels"), int) | {"view": str}
PAIRS = 10


def run(
    finding: Annotated[str, Option(help="a finding's slug, such as lung_lesion")],
    records: Annotated[Path, Option()],
    stores: Annotated[Path, Option(help="the dataset's stores, one folder a size")],
    split: Annotated[Path, Option()],
    gan: Annotated[Path, Option(help="folder of the finding's generator")],
    classifier: Annotated[Path, Option(help="folder of the model.safetensors whose features are compared")],
    report: Annotated[Path, Option(help="folder for fidelity.json, halves.csv and worst_pairs.png")],
    replicates: Annotated[int, Option(min=20, help="random halves of the real images")] = 100,
    seed: Annotated[int, Option(min=0)] = 0,
) -> None:
    """Compare generated with real X-rays of one finding."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    from cxr import dcgan, fidelity, labels, memorisation
    from cxr.classifier import build
    from cxr.features import features
    from cxr.files import atomic, read_json, sha256, write_json, write_table
    from cxr.policies import stages
    from cxr.records import load
    from cxr.runtime import fabric
    from cxr.splits import guard
    from cxr.store import open_store
    from cxr.weights import load_into

    name = labels.finding(finding)
    table = load(records, "chexpert")
    splits, about = read_split(split, "chexpert")
    meta = read_json(gan / "generator.json", f"gan@{finding}", GENERATOR)
    _, trainer = stages(classifier.name)
    judge = read_json(classifier / "model.json", trainer, JUDGE)
    for folder, made_with, stage in ((gan, meta, f"gan@{finding}"), (classifier, judge, trainer)):
        if made_with["split_sha256"] != about["sha256"]:
            raise ValueError(f"{folder}: was trained on another split; `dvc repro -f {stage}` makes it again")
    shown = table[(table[name] == 1) & ((table["projection"] == meta["view"]) | (meta["view"] == "all"))]
    shown = shown.merge(splits[["image_id", "split"]], on="image_id").sort_values("image_id", ignore_index=True)
    train, held_out = (
        shown[mine].reset_index(drop=True) for mine in (shown["split"] == "train", shown["split"] != "train")
    )
    # Under split.by = image a patient may be on both sides; a reference is of patients that the generator never saw.
    held_out = held_out[~held_out["patient_id"].isin(train["patient_id"])].reset_index(drop=True)
    guard(train, splits, by=about["by"], what=f"fidelity@{finding}")
    if len(train) < 2:
        raise ValueError(f"{finding}: {len(train)} real training images; take it out of rare.findings")

    machine = fabric("32-true")
    store = open_store(stores / str(meta["size"]))
    g, _ = dcgan.build(meta["size"], meta["z_dim"], meta["width"], meta["channels"], seed)
    load_into(g, gan / "generator.safetensors")
    net = build("none", seed, judge["classes"])
    load_into(net, classifier / "model.safetensors")
    g, net = g.to(machine.device), net.to(machine.device)
    images = {
        "train": store.images[store.rows(train["image_id"])],
        "held_out": store.images[store.rows(held_out["image_id"])],
        "made": dcgan.generate(g, len(train), meta["z_dim"], seed, 5, device=machine.device),
    }
    seen = {part: features(net, x, judge["size"]) for part, x in images.items()}
    spaces = {part: {"features": seen[part], "pixels": memorisation.pixels(x)} for part, x in images.items()}
    mirrored = memorisation.pixels(images["train"][:, :, ::-1])
    spaces["train"]["pixels"] = np.concatenate([spaces["train"]["pixels"], mirrored])

    rng = np.random.default_rng([seed, *finding.encode()])
    rows = fidelity.compare(
        seen["train"], seen["made"], images["train"], images["made"], train["patient_id"].to_numpy(object),
        replicates=replicates, rng=rng,
    )  # fmt: skip
    people = [part["patient_id"].to_numpy(object) for part in (train, held_out)]
    told, pairs = memorisation.judge(*spaces.values(), *people, rng)
    result = {
        "finding": finding,
        "generator_sha256": sha256(gan / "generator.safetensors"),
        "split_sha256": about["sha256"],
        "real": len(train),
        "patients": int(train["patient_id"].nunique()),
        "generated": len(images["made"]),
        "held_out": len(held_out),
        "held_out_patients": int(held_out["patient_id"].nunique()),
        "half": min((row["n"] for row in rows), default=0),
        "replicates": len(rows) // 2,
        "scales": fidelity.scales(meta["size"]),
        "quality": fidelity.summary(rows),
        "memorisation": told,
    }
    worst = pairs[:, :PAIRS]
    picture = dcgan.grid(np.concatenate([images["made"][worst[0]], images["train"][worst[1]]]), worst.shape[1])
    with atomic(report) as folder:
        folder.mkdir()
        write_json(folder / "fidelity.json", result)
        write_table(folder / "halves.csv", pd.DataFrame(rows, columns=["replicate", "which", "n", *fidelity.MEASURES]))
        Image.fromarray(picture).save(folder / "worst_pairs.png")
    copied = "not judged, no held-out image" if told["duplicates"] is None else f"{told['duplicates']:.1%}"
    print(f"fidelity@{finding}: {len(images['made']):,} generated, duplicates of training images: {copied}")


if __name__ == "__main__":
    main(run)
