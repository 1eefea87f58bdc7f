"""explain: what the final classifier's heat maps are worth: do they point into the boxes of radiologists?

python -m stages.explain --model models/final/0 --records data/rsna/records.parquet --source phantom
--out reports/explain ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import located, main, state_dir
from .options import Records, Seed, SplitFolder


def run(
    model: Annotated[Path, Option(help="folder of a trained classifier")],
    records: Records,
    manifest: Annotated[Path, Option(help="manifest.json beside it")],
    source: Annotated[str, Option(help="as given to the download stage")],
    split: SplitFolder,
    instance: Annotated[str, Option(help="the training's name in dvc.yaml, for messages")],
    out: Annotated[Path, Option(help="folder for explain.json, pointing.csv and, of the phantom, examples.png")],
    dataset: Annotated[str, Option(help="the data set with boxes")] = "rsna",
    finding: Annotated[str, Option(help="the finding whose maps are compared with the boxes")] = "lung_opacity",
    images: Annotated[int, Option(min=20, help="most test images, and most training images for the mean box")] = 200,
    replicates: Annotated[int, Option(min=1, max=100_000, help="replicates of the bootstrap over patients")] = 1000,
    confidence: Annotated[float, Option(min=0.5, max=0.999, help="confidence of every interval")] = 0.95,
    seed: Seed = 0,
    state: Annotated[Path | None, Option(help="folder that keeps downloads; default .checkpoints")] = None,
) -> None:
    """Compare a classifier's heat maps with boxes of radiologists, and with the maps of random weights."""
    from cxr.classifier.formats import Model
    from cxr.classifier.start import starts
    from cxr.classifier.trained import open_trained
    from cxr.core.files import atomic, read_json, sha256, write_json, write_table
    from cxr.core.findings import FINDINGS, slug
    from cxr.core.findings import finding as official
    from cxr.core.guard import read_split
    from cxr.core.records import load
    from cxr.data.formats import Manifest
    from cxr.data.sources.address import check_unchanged, open_source
    from cxr.evaluation import pointing
    from cxr.explain import boxed, worth
    from cxr.explain.formats import Explained
    from cxr.training.machine import device

    name = official(finding)
    meta = read_json(model / "model.json", instance, Model)
    made = read_json(manifest, f"download@{dataset}", Manifest)
    if made.kind != "phantom":
        for start in starts(meta, str(model)):
            boxed.check_start(start, dataset)
    table, (parts, _) = load(records, dataset), read_split(split, dataset)
    tree, _ = open_source(located(source), dataset, (state or state_dir()) / "downloads", made.recipe)
    check_unchanged(tree, made, dataset)
    table = table.merge(parts[["image_id", "split"]].drop_duplicates("image_id"), on="image_id")
    held_out = "test" if (table["split"] == "test").any() else "valid"
    test, train = (
        boxed.read(tree, boxed.sample(table[table["split"] == part], images), meta.size) for part in (held_out, "train")
    )
    net = open_trained(model, meta).to(device())
    scores, similar = worth.scores(net, FINDINGS.index(name), test, train)
    result = pointing.table(scores, worth.methods_of(scores), worth.FLOORS, replicates, confidence, seed)
    explained = Explained(
        data=made.kind,
        dataset=dataset,
        finding=slug(name),
        images=len(test.rows),
        patients=test.rows["patient_id"].nunique(),
        floor_images=len(train.rows),
        confidence=confidence,
        weights_sha256=sha256(model / "model.safetensors"),
        methods=worth.measured(result, similar),
    )
    with atomic(out) as folder:
        folder.mkdir()
        write_json(folder / "explain.json", explained)
        write_table(folder / "pointing.csv", result)
        if made.kind == "phantom":  # the terms of most data sets forbid publishing images
            worth.examples(net, FINDINGS.index(name), test).save(folder / "examples.png")
    for method, one in explained.methods.items():
        print(
            f"explain: {method} points into a box of {name} in {one.hit.value:.1%} of {explained.images} images, the "
            f"mean box in {one.hit.floor:.1%}"
        )


if __name__ == "__main__":
    main(run)
