"""label: CheXpert's four-valued labels -> targets and weights under one policy, and the truth that every policy is
scored against.

python -m stages.label --policy u_zeroes --records data/chexpert/records.parquet --split data/splits/chexpert
--out data/labels/u_zeroes.parquet
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from .cli import main
from .options import RARE, Records, Samplers, SplitFolder


def run(
    policy: Annotated[str, Option(help="name of a policy in cxr/cohort/policies.py")],
    records: Records,
    split: SplitFolder,
    out: Annotated[Path, Option()],
    policies: Annotated[list[str], Option(help="every policy of a baseline; checked here, before any training")] = (
        "u_zeroes",
        "u_ones",
    ),
    selftrained: Annotated[list[str], Option(help="[] or u_selftrained, whose teacher is one of the policies")] = (),
    final_policy: Annotated[str, Option(help="policy of the final classifier, one of these")] = "u_zeroes",
    findings: Annotated[list[str], Option(help="findings to balance; each needs a generator")] = RARE,
    samplers: Samplers = RARE,
    seed: Annotated[int, Option(min=0, help="seed of the targets that a policy draws")] = 0,
) -> None:
    """Apply one label policy."""
    from cxr.cohort.policies import all_policies, summary, table
    from cxr.core.files import write_table
    from cxr.core.guard import read_split
    from cxr.core.records import load
    from cxr.gan.serving import generator_of

    if final_policy not in all_policies(policies, selftrained):
        raise ValueError(f"final.policy = {final_policy} has no baseline to compare with: add it to arms.policies")
    for name in findings:
        generator_of(name, samplers)
    splits, _ = read_split(split, "chexpert")
    result = table(load(records, "chexpert"), splits, policy, seed)
    write_table(out, result)
    images = int((result["split"] == "train").sum())
    print(f"label: {policy}: positive training targets of {images:,} images: {summary(result)}")


if __name__ == "__main__":
    main(run)
