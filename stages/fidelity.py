"""fidelity: how good the X-rays of one generator are, finding by finding, and whether they replay training images.

python -m stages.fidelity --generator lung_lesion --records data/chexpert/records.parquet --stores data/stores/chexpert
--split data/splits/chexpert --gan models/gan/0/lung_lesion --classifier models/baseline/0/u_zeroes --report
reports/fidelity/0/lung_lesion
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import instances_of, main
from .options import Records, Seed, SplitFolder, Stores


def run(
    generator: Annotated[str, Option(help="a finding's slug, such as lung_lesion, or several joined by +")],
    records: Records,
    stores: Stores,
    split: SplitFolder,
    gan: Annotated[Path, Option(help="folder of the generator")],
    classifier: Annotated[Path, Option(help="folder of the classifier's model.safetensors")],
    report: Annotated[
        Path,
        Option(help="folder for fidelity.json, halves.csv and worst_pairs.png, or for one such folder per finding"),
    ],
    features: Annotated[
        Literal["classifier", "inception"],
        Option(help="net whose features are compared; inception: ImageNet's Inception v3"),
    ] = "classifier",
    replicates: Annotated[int, Option(min=20, help="number of random halves of the real images")] = 100,
    permutations: Annotated[
        int, Option(min=39, help="random permutations of the labels in the test of generated against real images")
    ] = 199,
    seed: Seed = 0,
) -> None:
    """Compare generated with real X-rays, for each finding of the generator."""
    import pandas as pd
    from PIL import Image

    from cxr.classifier.formats import Model
    from cxr.core.files import atomic, read_json, sha256, write_json, write_table
    from cxr.core.guard import guard, read_split
    from cxr.core.records import load
    from cxr.core.store import open_store
    from cxr.fidelity.features import classifier_features, inception_features
    from cxr.fidelity.formats import Fidelity
    from cxr.fidelity.judge import judge_findings, real_rows
    from cxr.fidelity.measures import MEASURES, scales
    from cxr.gan import generators, nets
    from cxr.synthesis import generate
    from cxr.training.machine import device

    findings, meta = generators.members(generator), generate.read(gan)
    splits, split_info = read_split(split, "chexpert")
    trained = [(gan, meta, f"gan@{generator}-{gan.parent.name}")]
    if features == "classifier":
        trainer = instances_of(classifier.name, classifier.parent.name)[1]
        model = read_json(classifier / "model.json", trainer, Model)
        trained.append((classifier, model, trainer))
    for folder, made_with, stage in trained:
        if made_with.split_sha256 != split_info.sha256:
            raise ValueError(f"{folder}: was trained on another split; `dvc repro -f {stage}` makes it again")
    train, held_out = real_rows(load(records, "chexpert"), findings, meta.view, splits)
    guard(train, splits, by=split_info.by, what=f"fidelity@{generator}")
    trained_on = ~generators.kept_back(train["patient_id"], meta.holdout, meta.seed)
    store, machine = open_store(stores / str(meta.size)), device()
    real = {p: store.images[store.rows(t["image_id"])] for p, t in (("train", train), ("held_out", held_out))}
    if features == "classifier":
        embed = classifier_features(classifier, model, machine)
    else:
        embed = inception_features(machine)
    g = generate.generator(gan, meta).to(machine)

    def images(labels, *key):
        y = labels if meta.mode == "conditional" else None
        return nets.generate(g, len(labels), meta.z_dim, *key, device=machine, labels=y)

    origin = {"features": features, "generator_sha256": sha256(gan / "generator.safetensors")}
    origin |= {"split_sha256": split_info.sha256, "scales": scales(meta.size)}
    with atomic(report) as folder:
        folder.mkdir()
        samples = train, held_out, trained_on, real
        for judged in judge_findings(findings, *samples, images, embed, replicates, permutations, seed):
            place = folder if len(findings) == 1 else folder / judged.numbers["finding"]
            place.mkdir(exist_ok=True)
            numbers = Fidelity(**judged.numbers, **origin)
            write_json(place / "fidelity.json", numbers)
            halves = pd.DataFrame(judged.halves, columns=["replicate", "which", "n", *MEASURES])
            write_table(place / "halves.csv", halves)
            Image.fromarray(judged.picture).save(place / "worst_pairs.png")
            apart, copies = numbers.two_sample.told_apart, numbers.memorisation.duplicates
            print(summary(numbers.finding, numbers.generated, apart, copies))


def summary(finding: str, generated: int, apart: bool | None, duplicates: float | None) -> str:
    """The line printed for a finding. apart: of the two-sample test; duplicates: share of generated images."""
    verdict = {None: "not tested", True: "told apart", False: "not told apart"}[apart]
    copied = "not judged, no held-out image" if duplicates is None else f"{duplicates:.1%}"
    head = f"fidelity@{finding}: {generated:,} generated, {verdict} from real ones"
    return f"{head}, duplicates of training images: {copied}"


if __name__ == "__main__":
    main(run)
