"""balance: how many synthetic images bring each rare finding to the target prevalence; generates them and writes the
enriched table.

python -m stages.balance --findings pneumonia --findings lung_lesion --table data/labels/u_zeroes.parquet --gans
models/gan --out data/balanced ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import main


def run(
    findings: Annotated[list[str], Option(help="slugs of the findings to balance; each has a generator")],
    generators: Annotated[list[str], Option(help="slugs, or several joined by + where findings share a generator")],
    table: Annotated[Path, Option(help="label table of the final model's policy")],
    gans: Annotated[Path, Option(help="folder with one folder a generator")],
    split: Annotated[Path, Option(help="the split's folder: split.parquet and split.json")],
    fidelity: Annotated[Path, Option(help="folder with what fidelity found of each generator")],
    out: Annotated[Path, Option(help="folder for table.parquet, plan.json and images/")],
    size: Annotated[int, Option(min=32, max=1024, help="the classifier's image size")],
    view: Annotated[
        Literal["frontal", "lateral", "all"], Option(help="the classifier's view: N counts these images")
    ] = "all",
    target_prevalence: Annotated[
        float, Option(min=0.0, max=1.0, help="share of the training images with each finding, after")
    ] = 0.1,
    labels: Annotated[
        Literal["masked", "one_hot", "sampled"], Option(help="a synthetic image's other 13 labels")
    ] = "masked",
    max_duplicates: Annotated[
        float, Option(min=0.0, max=1.0, help="share of a generator's images that may be copies of training images")
    ] = 0.05,
    precision: Annotated[Literal["auto", "32-true", "bf16-mixed"], Option()] = "32-true",
    seed: Annotated[int, Option(min=0)] = 0,
) -> None:
    """Plan, generate and write the enriched training table."""
    import pandas as pd

    from cxr.core.files import Progress, atomic, read_table, write_json, write_table
    from cxr.core.findings import COLUMNS, in_view, slug
    from cxr.core.findings import finding as official
    from cxr.core.guard import guard, read_split
    from cxr.core.resize import resize
    from cxr.core.store import write_store
    from cxr.gan import generators as serving
    from cxr.synthesis import balance
    from cxr.synthesis.formats import Plan
    from cxr.synthesis.generate import read, synthesise
    from cxr.training.machine import fabric

    findings = [slug(official(name)) for name in findings]
    rows = read_table(table, columns=COLUMNS).assign(synthetic=False)
    splits, about = read_split(split, "chexpert")
    train = in_view(rows[rows["split"] == "train"], view)
    guard(train, splits, by=about.by, what=str(table))
    made_by = {name: serving.generator_of(name, generators) for name in findings}
    gan = {name: read(gans / g) for name, g in made_by.items()}
    for name, meta in gan.items():
        g = made_by[name]
        if meta.split_sha256 != about.sha256:
            raise ValueError(
                f"{gans / g}: was trained on another split, so held-out patients may be in it; run gan@{g} again"
            )
        balance.check(labels, view, meta.mode, meta.view, g)
        judged = serving.folder(fidelity, name, generators) / "fidelity.json"
        _refuse_memorisers(name, g, gans / g / "generator.safetensors", judged, max_duplicates)
    positives = {name: round(balance.prevalence(train, name) * len(train)) for name in findings}
    wanted = balance.solve(positives, len(train), target_prevalence)

    machine = fabric(precision)
    blocks, images = [rows], []
    with Progress("balance", sum(wanted.values())) as progress:
        for name, n in wanted.items():
            made, rows_made = synthesise(machine, gans / made_by[name], name, n, labels, train, seed)
            blocks.append(rows_made)
            for image in made:
                images.append(resize(image, size))
                progress.update(1)
    whole = pd.concat(blocks, ignore_index=True)
    index = whole.loc[whole["synthetic"], ["image_id"]].reset_index(drop=True)
    seen = in_view(whole, view)
    plan = {
        "target_prevalence": target_prevalence,
        "labels": labels,
        "train_images": len(train),
        "synthetic_images": len(index),
        "split_sha256": about.sha256,
        "findings": {
            name: {
                "positives": positives[name],
                "generated": wanted[name],
                "prevalence_before": round(balance.prevalence(train, name), 6),
                "prevalence_after": round(balance.prevalence(seen, name), 6),
                "gan_images": gan[name].images,
                "gan_epochs": gan[name].epochs,
            }
            for name in findings
        },
    }
    if index.empty:
        raise ValueError(
            f"every finding already has a prevalence of {target_prevalence:g}; "
            f"raise balance.target_prevalence: {positives} of {len(train):,}"
        )
    with atomic(out) as folder:
        folder.mkdir()
        write_table(folder / "table.parquet", whole)
        write_store(folder / "images", images, index)
        write_json(folder / "plan.json", Plan(**plan))
    for name, part in plan["findings"].items():
        print(
            f"balance: {name}: {part['positives']:,} real + {part['generated']:,} generated, "
            f"{part['prevalence_before']:.1%} -> {part['prevalence_after']:.1%}"
        )


def _refuse_memorisers(name: str, made_by: str, generator: Path, path: Path, most: float) -> None:
    """Raises ValueError when more than `most` of what the generator makes replays training images, or when what
    fidelity wrote is of another generator. A generator that could not be judged is named.
    """
    from cxr.core.files import read_json, sha256
    from cxr.fidelity.formats import Fidelity

    stage = f"fidelity@{made_by}"
    judged = read_json(path, stage, Fidelity)
    if judged.generator_sha256 != sha256(generator):
        raise ValueError(f"{path}: judges another generator than {generator}; `dvc repro -f {stage}` judges this one")
    share = judged.memorisation.duplicates
    if share is None:
        print(f"balance: {name}: not known whether its generator replays training images: no held-out X-ray of it")
    elif share > most:
        raise ValueError(
            f"{name}: {share:.1%} of {judged.generated:,} generated X-rays replay training images ({path.parent}), "
            f"more than balance.max_duplicates = {most:g}: train its GAN for fewer gan.epochs, take it out of "
            "rare.findings, or raise the limit"
        )


if __name__ == "__main__":
    main(run)
