"""fidelity: how good the X-rays of one generator are, finding by finding, and whether they replay training images.

python -m stages.fidelity --generator models/gan/0/lung_lesion --records data/chexpert/records.parquet --stores
data/stores/chexpert --split data/splits/chexpert --classifier models/baseline/0/u_zeroes --report
reports/fidelity/gan/0/lung_lesion
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import instances_of, main
from .options import RARE, Records, Seed, SplitFolder, Stores


def run(
    generator: Annotated[Path, Option(help="folder of the generator")],
    records: Records,
    stores: Stores,
    split: SplitFolder,
    classifier: Annotated[Path, Option(help="folder of the classifier's model.safetensors")],
    report: Annotated[
        Path,
        Option(help="folder for fidelity.json, halves.csv and worst_pairs.png, or for one such folder per finding"),
    ],
    features: Annotated[
        Literal["classifier", "inception"],
        Option(help="net whose features are compared; inception: ImageNet's Inception v3"),
    ] = "classifier",
    findings: Annotated[
        list[str], Option(help="slugs to judge, for a generator of all training images; else its own are judged")
    ] = RARE,
    most: Annotated[
        int,
        Option(
            min=40, help="real images, at most, that a generator of all training images is compared with as a whole"
        ),
    ] = 1000,
    replicates: Annotated[int, Option(min=20, help="number of random halves of the real images")] = 100,
    permutations: Annotated[
        int, Option(min=39, help="random permutations of the labels in the test of generated against real images")
    ] = 199,
    seed: Seed = 0,
) -> None:
    """Compare generated with real X-rays, for each finding of the generator."""
    import pandas as pd
    from PIL import Image

    from cxr.core.files import atomic, sha256, write_json, write_table
    from cxr.core.guard import guard, read_split
    from cxr.core.records import load
    from cxr.core.store import open_store
    from cxr.fidelity.formats import Fidelity
    from cxr.fidelity.judge import Made, judge_findings, parts, real_rows
    from cxr.fidelity.measures import MEASURES, scales
    from cxr.gan.generators import kept_back
    from cxr.synthesis.samplers import open_sampler, stage_of
    from cxr.training.machine import device

    machine = device()
    sampler = open_sampler(generator, lambda net: net.to(machine))
    meta, findings = sampler.meta, findings if sampler.whole else sampler.findings
    splits, split_info = read_split(split, "chexpert")
    _check_split(generator, meta.split_sha256, split_info.sha256, stage_of(generator))
    embed = _features(features, classifier, split_info.sha256, machine)
    train, held_out = real_rows(load(records, "chexpert"), findings, meta.view, splits, sampler.whole)
    guard(train, splits, by=split_info.by, what=f"fidelity of {generator}")
    trained_on = ~kept_back(train["patient_id"], 0.0 if sampler.whole else meta.holdout, meta.seed)
    store = open_store(stores / str(meta.size))
    real = {p: store.images[store.rows(t["image_id"])] for p, t in (("train", train), ("held_out", held_out))}

    def images(rows, judged_by, *key):
        asked = sampler.beside(rows, judged_by, *key)
        made = sampler.sample(len(asked), sampler.encode(asked), *key)
        return Made(made, asked["patient_id"].to_numpy(object) if sampler.edits else None)

    origin = {"features": features, "generator_sha256": sha256(generator / "generator.safetensors")}
    origin |= {"split_sha256": split_info.sha256, "scales": scales(meta.size)}
    with atomic(report) as folder:
        folder.mkdir()
        names = list(parts(findings, train, held_out, sampler.whole, most, seed))
        samples = train, held_out, trained_on, real
        for judged in judge_findings(names, *samples, images, embed, replicates, permutations, seed):
            place = folder if len(names) == 1 else folder / judged.numbers["finding"]
            place.mkdir(exist_ok=True)
            numbers = Fidelity(**judged.numbers, **origin)
            write_json(place / "fidelity.json", numbers)
            halves = pd.DataFrame(judged.halves, columns=["replicate", "which", "n", *MEASURES])
            write_table(place / "halves.csv", halves)
            Image.fromarray(judged.picture).save(place / "worst_pairs.png")
            apart, copies = numbers.two_sample.told_apart, numbers.memorisation.duplicates
            print(summary(numbers.finding, numbers.generated, apart, copies))


def _features(features: str, classifier: Path, split_sha256: str, machine) -> Callable:
    """Images uint8 N x S x S -> N x D."""
    from cxr.classifier.formats import Model
    from cxr.core.files import read_json
    from cxr.fidelity.features import classifier_features, inception_features

    if features == "inception":
        return inception_features(machine)
    trainer = instances_of(classifier.name, classifier.parent.name)[1]
    model = read_json(classifier / "model.json", trainer, Model)
    _check_split(classifier, model.split_sha256, split_sha256, trainer)
    return classifier_features(classifier, model, machine)


def _check_split(folder: Path, trained_on: str, split_sha256: str, stage: str) -> None:
    if trained_on != split_sha256:
        raise ValueError(f"{folder}: was trained on another split; `dvc repro -f {stage}` makes it again")


def summary(finding: str, generated: int, apart: bool | None, duplicates: float | None) -> str:
    """The line printed for a finding. apart: of the two-sample test; duplicates: share of generated images."""
    verdict = {None: "not tested", True: "told apart", False: "not told apart"}[apart]
    copied = "not judged, no held-out image" if duplicates is None else f"{duplicates:.1%}"
    head = f"fidelity@{finding}: {generated:,} generated, {verdict} from real ones"
    return f"{head}, duplicates of training images: {copied}"


if __name__ == "__main__":
    main(run)
