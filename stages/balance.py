"""balance: generates the synthetic images that bring each rare finding to the target prevalence; writes the enriched
training table.

python -m stages.balance --findings pneumonia --findings lung_lesion --table data/labels/u_zeroes.parquet --gans
models/gan/0 --out data/balanced/0 ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from cxr.core.views import View

from .cli import main
from .options import Generators, Precision, Repeat, Seed, SplitFolder


def run(
    findings: Annotated[list[str], Option(help="slugs of the findings to balance; each has a generator")],
    generators: Generators,
    table: Annotated[Path, Option(help="label table of the final model's policy")],
    gans: Annotated[Path, Option(help="folder with one folder a generator")],
    split: SplitFolder,
    fidelity: Annotated[Path, Option(help="folder of the fidelity stage, with one folder a generator")],
    out: Annotated[Path, Option(help="folder for table.parquet, plan.json and images/")],
    size: Annotated[int, Option(min=32, max=1024, help="the classifier's image size")],
    view: Annotated[View, Option(help="the classifier's view")] = "all",
    target_prevalence: Annotated[
        float,
        Option(min=0.0, max=1.0, help="share of the training images with each finding, synthetic images included"),
    ] = 0.1,
    labels: Annotated[
        Literal["masked", "one_hot", "sampled"], Option(help="the other 13 labels of a synthetic image")
    ] = "masked",
    max_duplicates: Annotated[
        float,
        Option(min=0.0, max=1.0, help="largest share of a generator's images that may be copies of training images"),
    ] = 0.05,
    precision: Precision = "32-true",
    seed: Seed = 0,
    repeat: Repeat = 0,
) -> None:
    """Plan, generate and write the enriched training table."""
    from cxr.core.files import atomic, read_json, read_table, sha256, write_json, write_table
    from cxr.core.findings import COLUMNS, finding, in_view, slug
    from cxr.core.guard import guard, read_split
    from cxr.core.store import write_store
    from cxr.fidelity.formats import Fidelity
    from cxr.gan.generators import folder as fidelity_folder
    from cxr.gan.generators import generator_of
    from cxr.synthesis import balance
    from cxr.synthesis.formats import Plan
    from cxr.synthesis.generate import enrich, read
    from cxr.training.machine import fabric

    findings = [slug(finding(name)) for name in findings]
    rows = read_table(table, columns=COLUMNS).assign(synthetic=False)
    splits, split_info = read_split(split, "chexpert")
    train = in_view(rows[rows["split"] == "train"], view)
    guard(train, splits, by=split_info.by, what=str(table))
    folders = {name: gans / generator_of(name, generators) for name in findings}
    gan = {name: read(folder) for name, folder in folders.items()}
    for name, meta in gan.items():
        g, path = folders[name], fidelity_folder(fidelity, name, generators) / "fidelity.json"
        instance = f"{g.name}-{g.parent.name}"
        if meta.split_sha256 != split_info.sha256:
            raise ValueError(
                f"{g}: was trained on another split, so held-out patients may be in it; run gan@{instance} again"
            )
        balance.check(labels, view, meta.mode, meta.view, g.name)
        judged, weights = read_json(path, f"fidelity@{instance}", Fidelity), g / "generator.safetensors"
        if judged.generator_sha256 != sha256(weights):
            cure = f"`dvc repro -f fidelity@{instance}` judges this one"
            raise ValueError(f"{path}: judges another generator than {weights}; {cure}")
        balance.check_copies(name, judged.memorisation.duplicates, judged.generated, path.parent, max_duplicates)

    counts = balance.wanted(train, findings, target_prevalence)
    generated = {name: n for name, (_, n) in counts.items()}
    enriched, images = enrich(fabric(precision), rows, train, folders, generated, labels, size, seed + repeat)
    index = enriched.loc[enriched["synthetic"], ["image_id"]].reset_index(drop=True)
    sizes = {name: {"gan_images": meta.images, "gan_epochs": meta.epochs} for name, meta in gan.items()}
    numbers = balance.plan(train, in_view(enriched, view), counts, sizes)
    plan = Plan(target_prevalence=target_prevalence, labels=labels, split_sha256=split_info.sha256, **numbers)
    with atomic(out) as folder:
        folder.mkdir()
        write_table(folder / "table.parquet", enriched)
        write_store(folder / "images", images, index)
        write_json(folder / "plan.json", plan)
    for name, part in plan.findings.items():
        change = f"{part.prevalence_before:.1%} -> {part.prevalence_after:.1%}"
        print(f"balance: {name}: {part.positives:,} real + {part.generated:,} generated, {change}")


if __name__ == "__main__":
    main(run)
