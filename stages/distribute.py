"""distribute: run trainings on a Spark cluster, one an executor; each command is a training of its own.

python -m stages.distribute --command "dvc repro --single-item gan@pneumonia-0"
--command "dvc repro --single-item gan@lung_lesion-0"
"""

from typing import Annotated

from typer import Option

from .cli import main
from .options import Master


def run(
    command: Annotated[
        list[str], Option(help="shell command of one training, as an executor runs it; may be repeated")
    ],
    at_once: Annotated[int | None, Option(min=1, help="commands at a time; default all")] = None,
    gpu: Annotated[bool, Option(help="each command has a GPU of its own")] = False,
    master: Master = None,
) -> None:
    """Run several trainings on a Spark cluster, one an executor."""
    from cxr.spark import train
    from cxr.spark.session import session

    with session(master) as spark:
        train.run(spark, command, at_once or len(command), gpu)
    print(f"distribute: {len(command)} commands done")


if __name__ == "__main__":
    main(run)
