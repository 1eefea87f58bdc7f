"""arm: the training table, the extra images and the objective of one control arm of the GAN question
(cxr/synthesis/arms.py).

python -m stages.arm --arm oversampling --balanced data/balanced --gans models/gan --stores data/stores/chexpert --split
data/splits/chexpert --out data/arms/oversampling ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import main


def run(
    arm: Annotated[str, Option(help="of cxr/synthesis/arms.py")],
    balanced: Annotated[Path, Option(help="folder that balance wrote: table.parquet, plan.json, images/")],
    gans: Annotated[Path, Option(help="folder with one folder a generator")],
    generators: Annotated[list[str], Option(help="slugs, or several joined by + where findings share a generator")],
    stores: Annotated[Path, Option(help="the dataset's stores, one folder a size")],
    split: Annotated[Path, Option(help="the split's folder: split.parquet and split.json")],
    out: Annotated[Path, Option(help="folder for table.parquet, arm.json and, where there are any, images/")],
    size: Annotated[int, Option(min=32, max=1024, help="the classifier's image size")],
    gan_size: Annotated[int, Option(help="the GAN's image size")],
    gan_view: Annotated[Literal["frontal", "lateral", "all"], Option(help="projections that the GAN learnt from")],
    view: Annotated[Literal["frontal", "lateral", "all"], Option(help="the classifier's view")] = "all",
    seed: Annotated[int, Option(min=0, help="of balance")] = 0,
) -> None:
    """Make the table and the images of one control arm."""
    import numpy as np
    import pandas as pd

    from cxr.classifier.formats import Arm
    from cxr.classifier.objectives import BASELINE, objective
    from cxr.core.files import atomic, read_json, read_table, write_json, write_table
    from cxr.core.findings import COLUMNS, UNCERTAIN, columns_of, in_view
    from cxr.core.guard import guard, read_split
    from cxr.core.resize import resize
    from cxr.core.store import open_store, write_store
    from cxr.gan.generators import generator_of
    from cxr.synthesis import arms
    from cxr.synthesis.balance import prevalence
    from cxr.synthesis.formats import Plan
    from cxr.synthesis.generate import synthesise
    from cxr.training.machine import fabric

    arms.check_arm(arm)
    if arm == "blurred" and gan_size >= size:
        raise ValueError(
            f"study.arms has blurred, but gan.size = {gan_size} is not below classifier.size = {size}: nothing would "
            "be blurred and the arm would be oversampling; take it out of study.arms"
        )
    whole = read_table(balanced / "table.parquet", "balance", [*COLUMNS, "synthetic"])
    plan = read_json(balanced / "plan.json", "balance", Plan)
    splits, about = read_split(split, "chexpert")
    real, extra = whole[~whole["synthetic"]], whole[whole["synthetic"]].reset_index(drop=True)
    train = in_view(real[real["split"] == "train"], view)
    guard(train, splits, by=about.by, what=str(balanced / "table.parquet"))
    labels = plan.labels
    wanted = {name: part.generated for name, part in plan.findings.items()}
    learnt, seen = in_view(train, gan_view), in_view(extra, view)

    spec = BASELINE | {"arm": arm, "split_sha256": about.sha256}
    rows, images = real, None
    if arm != "baseline":
        spec["epoch_images"] = len(train) + len(seen)
    if arm in ("pos_weight", "auc_margin"):
        spec["objective"] = arm
    if arm == "pos_weight":
        enriched = pd.concat([train, seen])
        spec["shares"] = {
            name: float(np.average(enriched[f"target.{name}"], weights=enriched[f"weight.{name}"])) for name in wanted
        }
    # Refuses here, before an hour of other trainings, what this arm's training would refuse.
    objective(spec, columns_of(train, "target"), columns_of(train, "weight"), 3 if UNCERTAIN[0] in whole else 2)
    if arm == "oversampling":
        drawn = [arms.repeat_positives(name, n, learnt, seed) for name, n in wanted.items()]
        rows = pd.concat([real, *drawn], ignore_index=True)
    if arm in ("gan", "gan_untrained", "blurred", "pretrained"):
        rows, packed = whole, open_store(balanced / "images")
        images = (packed.images[i] for i in packed.rows(extra["image_id"]))
    if arm == "gan_untrained":
        made = (
            synthesise(
                fabric("32-true"), gans / generator_of(name, generators), name, n, labels, train, seed, trained=False
            )[0]
            for name, n in wanted.items()
        )
        images = (resize(image, size) for finding in made for image in finding)
    if arm == "blurred":
        source = open_store(stores / str(gan_size))
        chosen = pd.concat(
            [arms.repeat_positives(name, n, learnt, seed) for name, n in wanted.items()], ignore_index=True
        )
        images = (resize(source.images[i], size) for i in source.rows(chosen["image_id"]))
        if labels == "sampled":  # a real X-ray has labels of its own: another one's would make a worse control
            own = [name for name in extra if name.startswith(("target.", "weight.", "uncertain."))]
            rows = pd.concat([real, extra.assign(**{name: chosen[name] for name in own})], ignore_index=True)
    if arm == "pretrained":
        spec["lead"] = True
    if arm == "pretrained" and labels == "masked":
        # Alone, rows that are positive and nothing else teach only to say yes: each finding is the others' negative.
        if len(wanted) == 1:
            raise ValueError(
                f"study.arms has pretrained, but {next(iter(wanted))} is the one rare finding and balance.labels = "
                "masked: generated X-rays alone would teach only to say yes; set balance.labels to sampled or one_hot"
            )
        known = {f"weight.{name}": np.float32(1) for name in wanted}
        rows = pd.concat([real, extra.assign(**known)], ignore_index=True)
    spec["images"] = len(extra) if images is not None else 0
    with atomic(out) as folder:
        folder.mkdir()
        write_table(folder / "table.parquet", rows)
        if images is not None:
            write_store(folder / "images", images, extra[["image_id"]])
        write_json(folder / "arm.json", Arm(**spec))
    reached = ", ".join(f"{name} {prevalence(rows, name):.1%}" for name in wanted)
    print(f"arm: {arm}: {int((rows['split'] == 'train').sum()):,} training rows, {reached} positive")


if __name__ == "__main__":
    main(run)
