"""Several trainings on a Spark cluster, one an executor, by pyspark's TorchDistributor.

Several GPUs are several trainings: each process runs a command of its own, and none talks to another.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from cxr.spark.session import cause

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What torchrun sets for processes of one training; a command that found them would wait for the others.
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_", "GROUP_", "ROLE_", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_")


def run(spark: SparkSession, commands: Sequence[str], at_once: int, gpu: bool) -> None:
    """Run shell commands, `at_once` at a time, each in a process of an executor's task. gpu: each has one of its own.

    Raises ValueError with the command, its exit code and its last lines when one fails; the others of its turn end
    first, later turns do not start.
    """
    from pyspark.ml.torch.distributor import TorchDistributor

    assert spark.sparkContext is not None  # TorchDistributor takes the active session
    for start in range(0, len(commands), at_once):
        turn = list(commands[start : start + at_once])
        distributor = TorchDistributor(num_processes=len(turn), local_mode=False, use_gpu=gpu)
        try:
            failed = distributor.run(of_rank, turn)
        except Exception as error:  # its own, Py4J's and Spark's
            raise ValueError(f"{' | '.join(turn)}: {cause(error)}") from error
        if failed:
            raise ValueError(failed)


def of_rank(commands: Sequence[str]) -> str:
    """Run the command of this process's rank. Returns, to the driver, what failed on any; '' if nothing did."""
    import torch.distributed as group

    rank = int(os.environ["RANK"])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(TORCHRUN)}
    if gpus := environment.get("CUDA_VISIBLE_DEVICES"):  # of the executor; each process has one
        environment["CUDA_VISIBLE_DEVICES"] = gpus.split(",")[int(os.environ["LOCAL_RANK"])]
    words = ["/bin/sh", "-c", commands[rank]]  # what somebody typed, as in their own shell
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    last = " / ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
    ours = f"{commands[rank]}: exit {done.returncode}: {last}" if done.returncode else ""
    if len(commands) == 1:
        return ours
    group.init_process_group("gloo", timeout=timedelta(days=30))  # the first process speaks for all, after the last
    every: list = [None] * len(commands)
    group.all_gather_object(every, ours)
    group.destroy_process_group()
    return "; ".join(filter(None, every))
