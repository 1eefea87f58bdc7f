"""`dvc repro` with several stages at a time, on this machine or as jobs of a cluster: those that don't wait for each
other.

python -m stages.repro
python -m stages.repro --jobs 4 evaluate
python -m stages.repro --profile profiles/slurm

A parameter that dvc.yaml repeats a stage over is checked to be a list.

DVC says what changed. Snakemake runs that and what depends on it (stages/Snakefile), each stage by `dvc repro
--single-item` (stages/job.py), so that cache, lock file and run cache are as after `dvc repro`. DVC itself runs one
stage after the other, and a small training doesn't fill the cores: on two cores, two trainings of one thread each at
the same time take two thirds of the time that they take one after the other with two threads.

A stage gets its share of the cores as OMP_NUM_THREADS, where that isn't set: with another number of threads a training
ends with other last digits. It gets one GPU. Of the stages that are ready, the one with the longest way to the end goes
first. After a failure the running stages end and no other starts. Ctrl-C and SIGTERM reach every stage; a training
saves its state, and the same command continues.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from cxr.core.files import usable_cores
from cxr.training import gpu

from .cli import main
from .job import FOLDER, THREADS

CORES_EACH, MOST_EACH = 2, 4  # of the host's cores for a training on a GPU, and trainings at a time on one
LONGEST_SAVE = 120  # seconds
STAGE_NEEDS = Path("profiles/stages")  # threads, memory, GPU and time of each kind of stage
Graph = dict[str, set[str]]  # stage -> the stages that it waits for


def run(
    targets: Annotated[list[str] | None, Argument(help="stages, with all they depend on; none: everything")] = None,
    jobs: Annotated[
        int | None,
        Option(min=1, help="stages at a time; default: what GPUs and cores can feed, without a GPU 2, of one core 1"),
    ] = None,
    profile: Annotated[
        Path | None,
        Option(exists=True, file_okay=False, help="a folder of profiles/: each stage is a job of a cluster"),
    ] = None,
) -> None:
    """Bring the pipeline up to date, several stages at a time."""
    check_lists(Path("dvc.yaml"))
    if not Path(".dvc").is_dir():
        raise ValueError("no .dvc folder here: run it in the folder of dvc.yaml, in a clone")
    if not importlib.util.find_spec("dvc"):
        raise ValueError("DVC is not installed: pip install 'cxr[pipeline]'")
    with alone(FOLDER) as lock:  # first: DVC can't read the status of a stage that runs
        graph, changed = pipeline(targets or [])
        todo = affected(graph, changed)
        if not todo:
            print("Data and pipelines are up to date.")
            return
        if not importlib.util.find_spec("snakemake"):
            raise ValueError("Snakemake is not installed: pip install 'cxr[cluster]', or use `dvc repro`")
        write_plan(FOLDER, {name: graph[name] & todo for name in graph if name in todo})
        words = on_cluster(profile, jobs) if profile else on_this_machine(jobs or at_a_time(gpu.visible()))
        code = snakemake(words, lock)
        if code > 128:
            raise SystemExit(code)
        if failed := [path.name for path in sorted((FOLDER / "started").iterdir()) if not done(path.name)]:
            raise ValueError(f"{', '.join(failed)} failed, and what depends on it did not run; the lines above say why")
    if code:
        raise SystemExit(code)


def done(name: str) -> bool:
    return (FOLDER / "done" / name).exists()


def at_a_time(devices: list[str]) -> int:
    """Stages at a time. A training of a small network leaves most of a GPU idle, so that several share one."""
    if not devices:
        return min(2, usable_cores())
    return len(devices) * max(1, min(MOST_EACH, usable_cores() // len(devices) // CORES_EACH))


def pipeline(targets: list[str]) -> tuple[Graph, set[str]]:
    """The stages that the targets need (all of them without a target), and which of these changed as DVC sees it.

    Raises ValueError for a target that is no stage, and for what DVC can't read.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with contextlib.closing(Repo()) as repo:
            edges = repo.index.graph
            status = repo.status()
    except DvcException as error:
        raise ValueError(str(error)) from error
    whole: Graph = {stage.addressing: {before.addressing for before in edges.successors(stage)} for stage in edges}
    place = {stage.addressing: number for number, stage in enumerate(repo.index.stages)}
    whole = dict(sorted(whole.items(), key=lambda item: place[item[0]]))
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
    return {name: before for name, before in whole.items() if name in wanted}, set(status) & wanted


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


def affected(graph: Graph, changed: set[str]) -> set[str]:
    """The stages that changed, and those that depend on one that did."""
    result: set[str] = set()
    for name in TopologicalSorter(graph).static_order():
        if name in changed or graph[name] & result:
            result.add(name)
    return result


def ways(graph: Graph) -> dict[str, int]:
    """For each stage the number of stages on the longest way from it to an end, itself included."""
    length = dict.fromkeys(graph, 1)
    for name in reversed(list(TopologicalSorter(graph).static_order())):
        for before in graph[name]:
            length[before] = max(length[before], 1 + length[name])
    return length


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Hold this clone's run, in an empty folder; the lock's descriptor. Raises ValueError while another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                "another `cxr repro` runs in this clone: wait for its end, or use a clone for each"
            ) from error
        except OSError:
            pass  # a file system without locks
        shutil.rmtree(folder)
        for name in ("started", "done"):
            (folder / name).mkdir(parents=True)
        yield lock.fileno()


def write_plan(folder: Path, graph: Graph) -> None:
    """What stages/Snakefile and stages/job.py read. The longest way goes first; among equals the first in dvc.yaml,
    where the diffusion model stands before the classifier, and that before the GANs.
    """
    way = ways(graph)
    priority = {name: len(graph) * way[name] - place for place, name in enumerate(graph)}
    after = {name: sorted(before) for name, before in graph.items()}
    threads = {name: os.environ[name] for name in THREADS if name in os.environ}
    plan = {"repository": str(Path.cwd()), "after": after, "way": way, "priority": priority, "threads": threads}
    (folder / "plan.json").write_text(json.dumps(plan, indent=1), encoding="utf-8")


def on_this_machine(jobs: int) -> list[str]:
    """Snakemake's words for `jobs` stages at a time here; sets what stages/job.py shares out."""
    os.environ["CXR_SLOTS"], os.environ["CXR_GPUS"] = str(jobs), ",".join(gpu.visible())
    os.environ["CXR_THREADS"] = str(max(1, usable_cores() // jobs))
    return ["--cores", str(jobs), "--quiet", "all", "--workflow-profile", "none"]


def on_cluster(profile: Path, jobs: int | None) -> list[str]:
    """Snakemake's words for one job a stage."""
    for name in ("CXR_SLOTS", "CXR_GPUS", "CXR_THREADS"):  # a job's own scheduler shares out
        os.environ.pop(name, None)
    os.environ["CXR_PROFILE"] = str(profile.resolve())  # config.yaml names files beside it by this
    words = ["--profile", str(STAGE_NEEDS.resolve()), "--workflow-profile", str(profile.resolve())]
    return words + (["--jobs", str(jobs)] if jobs else [])


def snakemake(words: list[str], lock: int) -> int:
    """Run the plan; Snakemake's exit code, or 128 + the number of the signal that ended this process. Snakemake holds
    the lock too: it goes on when this process alone is killed.

    Ctrl-C and SIGTERM go on to every process of the run as SIGINT, at which DVC waits for its stage, a training saves
    its state, and Snakemake cancels a cluster's jobs.
    """
    here = Path(__file__).parent
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(here / "Snakefile"), "--directory", str(FOLDER)]
    command += ["--scheduler", "greedy", "--nolock", "--drop-metadata", "--rerun-triggers", "mtime", *words]
    caught: list[int] = []

    def forward(number: int, _frame) -> None:
        caught.append(number)
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)

    # Before Snakemake starts: what a shell started in the background ignores, it would ignore too.
    process: subprocess.Popen | None = None
    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    process = subprocess.Popen(command, start_new_session=True, pass_fds=[lock])
    if caught:
        os.killpg(process.pid, signal.SIGINT)
    code = process.wait()
    until = time.monotonic() + LONGEST_SAVE
    with contextlib.suppress(ProcessLookupError):  # a training that saves outlives Snakemake
        while caught and time.monotonic() < until:
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    for number, handler in before.items():
        signal.signal(number, handler)
    return 128 + caught[0] if caught else code


if __name__ == "__main__":
    main(run)
