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
    from cxr.classifier.trained import read_model, scores
    from cxr.cohort.policies import TEACHER, all_policies, relabelled, summary
    from cxr.core.files import read_table, write_table
    from cxr.core.findings import COLUMNS, in_view
    from cxr.core.guard import guard, read_split

    all_policies([TEACHER], [policy])
    label, baseline = instances_of(TEACHER, teacher.parent.name)
    rows = read_table(table, label, COLUMNS)
    splits, split_info = read_split(split, "chexpert")
    model = read_model(teacher, baseline, split_info.sha256)
    if model.classes != 2:
        raise ValueError(f"{teacher}: its model.json is not {TEACHER}'s; `dvc repro -f {baseline}` makes it again")
    train = in_view(rows[rows["split"] == "train"], model.view).reset_index(drop=True)
    guard(train, splits, by=split_info.by, what=str(table))

    result = relabelled(rows, train["image_id"], scores(teacher, model, stores, train["image_id"]))
    write_table(out, result)
    truth = train[[name for name in COLUMNS if name.startswith("truth.")]]
    count = int(truth.isna().sum().sum())
    print(
        f"relabel: {policy}: {count:,} uncertain labels of {len(train):,} training images; positive: {summary(result)}"
    )


if __name__ == "__main__":
    main(run)
