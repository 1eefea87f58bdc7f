"""arm: the training table, the added images and the objective of one control arm (cxr/synthesis/arms.py).

python -m stages.arm --arm oversampling --balanced data/balanced/0 --gans models/gan/0 --stores data/stores/chexpert
--split data/splits/chexpert --out data/arms/0/oversampling ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from cxr.core.views import View

from .cli import instances_of, main
from .options import Records, Repeat, Samplers, SplitFolder, Stores


def run(
    arm: Annotated[str, Option(help="name of the arm, as in cxr/synthesis/arms.py")],
    balanced: Annotated[Path, Option(help="folder of balance: table.parquet, plan.json, images/")],
    gans: Annotated[Path, Option(help="folder of one seed's generators")],
    samplers: Samplers,
    baseline: Annotated[Path, Option(help="folder of the same seed's baseline under the final policy")],
    records: Records,
    manifest: Annotated[Path, Option(help="CheXpert's manifest.json, which says whether it is a phantom")],
    stores: Stores,
    split: SplitFolder,
    out: Annotated[Path, Option(help="folder for table.parquet, arm.json and, where there are any, images/")],
    size: Annotated[int, Option(min=32, max=1024, help="the classifier's image size")],
    gan_size: Annotated[int, Option(help="the GAN's image size")],
    gan_view: Annotated[View, Option(help="views that the GAN was trained on")],
    view: Annotated[View, Option(help="the classifier's view")] = "all",
    policy: Annotated[str, Option(help="label policy of the final classifier")] = "u_zeroes",
    seed: Annotated[int, Option(min=0, help="the seed of balance")] = 0,
    repeat: Repeat = 0,
) -> None:
    """Make the training table and the images of one control arm."""
    import functools

    import numpy as np

    from cxr.classifier.formats import Arm
    from cxr.classifier.objectives import BASELINE, objective
    from cxr.classifier.trained import read_model, scores
    from cxr.core.files import atomic, read_json, read_table, write_json, write_table
    from cxr.core.findings import COLUMNS, UNCERTAIN, columns_of
    from cxr.core.guard import guard, read_split
    from cxr.core.records import load
    from cxr.core.store import write_store
    from cxr.data.formats import Manifest
    from cxr.synthesis import arms, lesions, oracle
    from cxr.synthesis.balance import prevalence
    from cxr.synthesis.formats import Plan
    from cxr.synthesis.generate import Real, Wanted, synthesise
    from cxr.synthesis.samplers import folder_of, open_sampler
    from cxr.training.machine import fabric

    chosen, seed = arms.check_arm(arm), seed + repeat
    stage = f"balance@{balanced.name}"
    enriched = read_table(balanced / "table.parquet", stage, [*COLUMNS, "synthetic"])
    plan = read_json(balanced / "plan.json", stage, Plan)
    source = read_json(manifest, "download@chexpert", Manifest)
    splits, split_info = read_split(split, "chexpert")

    @functools.cache
    def everybody():
        return load(records, "chexpert").set_index("image_id")

    def untrained(name: str, part: Wanted):
        sampler = open_sampler(folder_of(gans, name, samplers), fabric("32-true").setup, trained=False)
        real = Real(inputs.train, everybody() if sampler.whole else None, plan.views)
        return synthesise(sampler, name, part, plan.labels, real, seed)[0]

    def phantom_seed() -> int:
        if source.recipe is None or gan_view != "frontal":
            raise ValueError(
                f"study.arms has {arm}, which draws frontal phantoms: take it out, or set data.chexpert to phantom "
                "and gan.view to frontal"
            )
        return source.recipe.seed

    def new_patients():
        theirs = phantom_seed() + oracle.APART * (1 + seed)
        rows, studies = oracle.draw(inputs.generated, policy, theirs)
        return rows, oracle.films(studies, size, theirs)

    def probabilities(image_ids):
        trained_by = instances_of(baseline.name, baseline.parent.name)[1]
        return scores(baseline, read_model(baseline, trained_by, split_info.sha256), stores, image_ids)

    generated = {name: Wanted(part.generated, part.negatives) for name, part in plan.findings.items()}
    inputs = arms.Inputs(
        enriched, generated, plan.labels, balanced, stores / str(gan_size), untrained,
        view=view, gan_view=gan_view, size=size, gan_size=gan_size, seed=seed,
        views=lambda: everybody()["view"], oracle=new_patients,
        outline=lambda image, name: lesions.outline(image, name, gan_size, phantom_seed()),
        baseline=probabilities,
        positives={name: part.positives for name, part in plan.findings.items()},
    )  # fmt: skip
    train = inputs.train
    guard(train, splits, by=split_info.by, what=str(balanced / "table.parquet"))
    spec = BASELINE | {"arm": arm, "split_sha256": split_info.sha256} | arms.training_settings(chosen, inputs)
    # An objective that this arm's training would refuse is refused here, before an hour of other trainings.
    classes = 3 if UNCERTAIN[0] in enriched else 2
    one_group = np.zeros(len(train), np.int64)
    objective(spec, columns_of(train, "target"), columns_of(train, "weight"), classes, one_group)
    inputs = arms.dosed(inputs, chosen.dose)
    rows = chosen.rows(inputs)
    spec["images"] = len(inputs.extra) if chosen.images else 0
    with atomic(out) as folder:
        folder.mkdir()
        write_table(folder / "table.parquet", rows)
        if chosen.images:
            write_store(folder / "images", chosen.images(inputs), inputs.extra[["image_id"]])
        write_json(folder / "arm.json", Arm(**spec))
    reached = ", ".join(f"{name} {prevalence(rows, name):.1%}" for name in generated)
    print(f"arm: {arm}: {int((rows['split'] == 'train').sum()):,} training rows, {reached} positive")


if __name__ == "__main__":
    main(run)
