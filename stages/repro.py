"""`dvc repro` with several stages at a time: those that don't wait for each other.

python -m stages.repro
python -m stages.repro --jobs 4 evaluate

A parameter that dvc.yaml repeats a stage over is checked to be a list.

DVC runs each stage (`dvc repro --single-item`), so that cache, lock file and run cache are as after `dvc repro`. DVC
itself runs one stage after the other, and a small training doesn't fill the cores: on two cores, two trainings of one
thread each at the same time take two thirds of the time that they take one after the other with two threads.

A stage gets its share of the cores as OMP_NUM_THREADS, where that isn't set: with another number of threads a training
ends with other last digits. It gets one GPU, or $CXR_DEVICES of them. Of the stages that are ready, the one with the
longest way to the end goes first. A stage with a shorter way gets a lower priority from the system: the demo took 9 min
37 s so, and 10 min 10 s without. After a failure the running stages end and no other starts. Ctrl-C reaches every
stage.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
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
    check_lists(Path("dvc.yaml"))
    devices = gpus()
    each = devices_each(len(devices))
    jobs = jobs or len(devices) // each or min(2, usable_cores())
    graph, changed = pipeline(targets or [])
    failed = schedule(graph, changed, jobs, lambda *one: reproduce(*one, jobs, devices, each))
    if failed:
        raise ValueError(f"{', '.join(failed)} failed, and what depends on it did not run; the lines above say why")


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    driver = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i in range(len(list(driver.iterdir())))] if driver.is_dir() else []


def devices_each(available: int) -> int:
    """The number of GPUs that one training uses: $CXR_DEVICES, as cxr/training/machine.py reads it."""
    wanted = os.environ.get("CXR_DEVICES", "1")
    if not wanted.isdecimal() or int(wanted) < 1 or (available and int(wanted) > available):
        raise ValueError(f"CXR_DEVICES = {wanted}: give a number of devices from 1 to {max(available, 1)}")
    return int(wanted)


def pipeline(targets: list[str]) -> tuple[Graph, set[str]]:
    """The stages that the targets need (all of them without a target), and which of these changed as DVC sees it.

    Raises ValueError for a target that is no stage, and for what DVC can't read.
    """
    with ThreadPoolExecutor(2) as pool:
        drawing, status = pool.map(_dvc, (["dag", "--dot"], ["status", "--json"]))
    whole: Graph = {name: set() for name in re.findall(r'^"([^"]+)";$', drawing, re.MULTILINE)}
    for before, after in re.findall(r'^"([^"]+)" -> "([^"]+)";$', drawing, re.MULTILINE):
        whole[after].add(before)
    wanted: set[str] = set()
    todo = [] if targets else list(whole)
    for target in targets:
        instances = [name for name in whole if name == target or name.startswith(f"{target}@")]
        if not instances:
            raise ValueError(f"{target} is no stage: `dvc stage list` names them")
        todo += instances
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo += whole[name]
    return {name: before for name, before in whole.items() if name in wanted}, set(json.loads(status)) & wanted


def check_lists(file: Path) -> None:
    """Raise ValueError for a parameter that dvc.yaml repeats a stage over and that is no list.

    DVC itself says "'Value' object is not iterable", without the key. What else is wrong in these files DVC says.
    """
    import yaml

    try:
        stages = yaml.safe_load(file.read_text()).get("stages", {}).values()
        params = yaml.safe_load(file.with_name("params.yaml").read_text())
    except (OSError, AttributeError, yaml.YAMLError):
        return
    loops = [
        loop for stage in stages if isinstance(stage, dict) for loop in (stage.get("foreach"), stage.get("matrix"))
    ]
    texts = [text for loop in loops for text in (loop.values() if isinstance(loop, dict) else [loop])]
    for text in texts:
        if isinstance(text, str) and (match := re.fullmatch(r"\$\{([\w.]+)\}", text.strip())):
            value = params
            for key in match[1].split("."):
                value = value.get(key, []) if isinstance(value, dict) else []
            if not isinstance(value, list | dict):
                key = match[1].rpartition(".")[2]
                cure = ", ".join(value.replace(",", " ").split()) if isinstance(value, str) else json.dumps(value)
                raise ValueError(
                    f"params.yaml: {match[1]} is {json.dumps(value, ensure_ascii=False)}, must be a list, also of one: "
                    f"write {key}: [{'' if value is None else cure}]"
                )


def _dvc(words: list[str]) -> str:
    """What a dvc command prints. Raises ValueError with its error message."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr.strip().removeprefix("ERROR: "))
    return done.stdout


def ways(graph: Graph) -> dict[str, int]:
    """For each stage the number of stages on the longest way from it to an end, itself included."""
    length = dict.fromkeys(graph, 1)
    for name in reversed(list(TopologicalSorter(graph).static_order())):
        for before in graph[name]:
            length[before] = max(length[before], 1 + length[name])
    return length


def schedule(graph: Graph, changed: set[str], jobs: int, work: Callable[[str, int, bool], bool]) -> list[str]:
    """Do the work of every stage that changed or depends on one that did, after those it waits for, at most `jobs` at a
    time. Of those that are ready the one with the longest way goes first; among equals the first in dvc.yaml, where the
    classifier stands before the GANs.

    work: (stage, worker's number, urgent: no other has a longer way) -> whether it succeeded. Returns the stages that
    failed; after a failure no other starts.
    """
    way, affected = ways(graph), set(changed)
    place = {name: number for number, name in enumerate(graph)}
    unfinished, free = set(graph), list(range(jobs))
    ready: list[str] = []
    failed: list[str] = []
    running: dict[Future[bool], tuple[str, int]] = {}
    order = TopologicalSorter(graph)
    order.prepare()
    with ThreadPoolExecutor(jobs) as pool:
        while order.is_active():
            ready += order.get_ready()
            if unchanged := [name for name in ready if name not in affected]:
                order.done(*unchanged)
                ready = [name for name in ready if name in affected]
                unfinished -= set(unchanged)
                continue
            ready.sort(key=lambda name: (-way[name], place[name]))
            while ready and free and not failed:
                name, worker = ready.pop(0), free.pop(0)
                urgent = way[name] == max(way[other] for other in unfinished & affected)
                running[pool.submit(work, name, worker, urgent)] = name, worker
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, worker = running.pop(future)
                free = sorted([*free, worker])
                unfinished.discard(name)
                if future.result():
                    order.done(name)
                    affected |= {after for after, before in graph.items() if name in before}
                else:
                    failed.append(name)
    return failed


def reproduce(name: str, worker: int, urgent: bool, jobs: int, devices: list[str], each: int) -> bool:
    """Have DVC run one stage, with its share of the cores and `each` of the GPUs. Its output is this process's."""
    env = {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs))} | os.environ
    if devices:
        first = worker % (len(devices) // each) * each
        env |= {"CUDA_VISIBLE_DEVICES": ",".join(devices[first : first + each])}
    command = [sys.executable, "-m", "dvc", "--quiet", "--wait-for-lock", "repro", "--single-item", name]
    with subprocess.Popen(command, env=env) as process:
        if not urgent and hasattr(os, "setpriority"):
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        return process.wait() == 0


if __name__ == "__main__":
    main(run)
