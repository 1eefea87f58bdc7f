"""relabel: U-SelfTrained's labels: the model trained without the uncertain labels predicts them.

Irvin et al. 2019 (CheXpert, section 3): each uncertain label of the training images becomes the probability that the
U-Ignore model gives it; no certain label changes, and validation and test images keep theirs.

python -m stages.relabel --policy u_selftrained --table data/labels/u_ignore.parquet
--teacher models/baseline/0/u_ignore --stores data/stores/chexpert --split data/splits/chexpert
--out data/labels/u_selftrained.parquet
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import instances_of, main
from .options import SplitFolder, Stores


def run(
    policy: Annotated[str, Option(help="u_selftrained")],
    table: Annotated[Path, Option(help="the teacher's label table")],
    teacher: Annotated[Path, Option(help="folder of the teacher's model.safetensors and model.json")],
    stores: Stores,
    split: SplitFolder,
    out: Annotated[Path, Option(help="label table to write, a parquet file")],
) -> None:
    """Give the uncertain labels of the training images the teacher's probabilities."""
    from cxr.classifier.formats import Model
    from cxr.classifier.net import predict
    from cxr.classifier.trained import open_trained
    from cxr.cohort.policies import TEACHER, all_policies, relabelled, summary
    from cxr.core.files import read_json, read_table, write_table
    from cxr.core.findings import COLUMNS, in_view
    from cxr.core.guard import guard, read_split
    from cxr.core.store import open_store
    from cxr.training.batches import Images
    from cxr.training.machine import fabric

    all_policies([TEACHER], [policy])
    label, baseline = instances_of(TEACHER, teacher.parent.name)
    rows = read_table(table, label, COLUMNS)
    model = read_json(teacher / "model.json", baseline, Model)
    splits, split_info = read_split(split, "chexpert")
    if model.split_sha256 != split_info.sha256:
        raise ValueError(f"{teacher}: was trained on another split; `dvc repro -f {baseline}` makes it again")
    if model.classes != 2:
        raise ValueError(f"{teacher}: its model.json is not {TEACHER}'s; `dvc repro -f {baseline}` makes it again")
    train = in_view(rows[rows["split"] == "train"], model.view).reset_index(drop=True)
    guard(train, splits, by=split_info.by, what=str(table))

    machine = fabric("32-true")
    net = open_trained(teacher, model).to(machine.device)
    images = Images([open_store(stores / str(model.size))], train["image_id"], machine.device)
    result = relabelled(rows, train["image_id"], predict(machine, net, images))
    write_table(out, result)
    truth = train[[name for name in COLUMNS if name.startswith("truth.")]]
    count = int(truth.isna().sum().sum())
    print(
        f"relabel: {policy}: {count:,} uncertain labels of {len(train):,} training images; positive: {summary(result)}"
    )


if __name__ == "__main__":
    main(run)
