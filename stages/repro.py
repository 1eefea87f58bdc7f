"""`dvc repro` with several stages at a time: those that don't wait for each other. No stage of dvc.yaml itself.

python -m stages.repro
python -m stages.repro --jobs 4 evaluate

Each stage is run by DVC (`dvc repro --single-item`), so cache, lock file and run cache are as after `dvc repro`. DVC
itself runs one stage after the other, and small trainings don't fill the cores: on two, two trainings of one thread
each take two thirds of the time of one after the other on both. A stage gets its share of the cores as OMP_NUM_THREADS,
where that isn't set: with another number of threads a training ends with other last digits, and starts anew rather than
go on from a state. Of the GPUs it gets one, or $CXR_DEVICES. Of the stages that are ready the one with the longest way
to the end goes first, and one that others have a longer way than is nice to them. A stage that fails lets the running
ones end and starts no other; Ctrl-C is every stage's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from cxr.core.files import usable_cores

from .cli import main

NICE = 10  # about a tenth of a core where both want all of it
Graph = dict[str, set[str]]  # stage -> the stages that it waits for


def run(
    targets: Annotated[list[str] | None, Argument(help="stages, with all they depend on; none: everything")] = None,
    jobs: Annotated[
        int | None, Option(min=1, help="stages at a time; default: as many as GPUs, without one 2, of one core 1")
    ] = None,
) -> None:
    """Bring the pipeline up to date, several stages at a time."""
    devices = gpus()
    each = devices_each(len(devices))
    jobs = jobs or len(devices) // each or min(2, usable_cores())
    graph, changed = pipeline(targets or [])
    failed = schedule(graph, changed, jobs, lambda *one: reproduce(*one, jobs, devices, each))
    if failed:
        raise ValueError(f"{', '.join(failed)} failed, what depends on it did not run; the lines above say why")


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i in range(len(list(found.iterdir())))] if found.is_dir() else []


def devices_each(found: int) -> int:
    """How many of the GPUs found a training is spread over: $CXR_DEVICES, as cxr/training/machine.py reads it."""
    wanted = os.environ.get("CXR_DEVICES", "1")
    if not wanted.isdecimal() or int(wanted) < 1 or found and int(wanted) > found:
        raise ValueError(f"CXR_DEVICES = {wanted}: give a number of devices from 1 to {max(found, 1)}")
    return int(wanted)


def pipeline(targets: list[str]) -> tuple[Graph, set[str]]:
    """The stages that the targets need (all of them without a target), and which of these DVC says have changed.

    Raises ValueError for a target that is no stage, and for what DVC can't read.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            whole = {s.addressing: {d.addressing for d in repo.index.graph.successors(s)} for s in repo.index.graph}
            wanted: set[str] = set()
            todo = [] if targets else list(whole)
            for target in targets:
                named = [name for name in whole if name == target or name.startswith(f"{target}@")]
                if not named:
                    raise ValueError(f"{target} is no stage: `dvc stage list` names them")
                todo += named
            while todo:
                name = todo.pop()
                if name not in wanted:
                    wanted.add(name)
                    todo += whole[name]
            changed = set(repo.status(targets=sorted(wanted)))
    except DvcException as error:
        raise ValueError(str(error)) from error
    return {name: before & wanted for name, before in whole.items() if name in wanted}, changed & wanted


def schedule(graph: Graph, changed: set[str], jobs: int, work) -> list[str]:
    """Do the work of every stage that changed or follows one that did, each after those it waits for; at most `jobs` at
    a time. work: (stage, worker's number, urgent: no other has a longer way to the end) -> whether it succeeded.
    Returns the stages that failed.
    """
    after: Graph = {name: {other for other, before in graph.items() if name in before} for name in graph}
    way: dict[str, int] = {}

    def length(name: str) -> int:
        if name not in way:
            way[name] = 1 + max((length(other) for other in after[name]), default=0)
        return way[name]

    waiting, affected = sorted(graph, key=lambda name: -length(name)), set(changed)
    done: set[str] = set()
    failed: list[str] = []
    running: dict = {}
    free = list(range(jobs))
    with ThreadPoolExecutor(jobs) as pool:
        while True:
            for name in list(waiting):
                if graph[name] <= done and (free or name not in affected):
                    waiting.remove(name)
                    if name not in affected:
                        done.add(name)
                    elif not failed:
                        worker = free.pop(0)
                        left = [*waiting, *(other for other, _ in running.values())]
                        urgent = way[name] >= max((way[other] for other in left if other in affected), default=0)
                        running[pool.submit(work, name, worker, urgent)] = name, worker
            if running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    name, worker = running.pop(future)
                    free = sorted([*free, worker])
                    if future.result():
                        done.add(name)
                        affected |= after[name]
                    else:
                        failed.append(name)
            elif failed or not any(graph[name] <= done for name in waiting):
                return failed


def reproduce(name: str, worker: int, urgent: bool, jobs: int, devices: list[str], each: int) -> bool:
    """Run one stage by DVC, with its share of the cores and `each` of the GPUs. Its output is this process's."""
    env = {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs))} | os.environ
    if devices:
        mine = worker % (len(devices) // each) * each
        env |= {"CUDA_VISIBLE_DEVICES": ",".join(devices[mine : mine + each])}
    command = [sys.executable, "-m", "dvc", "--quiet", "--wait-for-lock", "repro", "--single-item", name]
    with subprocess.Popen(command, env=env) as process:
        if not urgent and hasattr(os, "setpriority"):
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        return process.wait() == 0


if __name__ == "__main__":
    main(run)
