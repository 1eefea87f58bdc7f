"""One stage of a plan, run by DVC: what Snakemake starts for `cxr repro`, on this machine or on a node of a cluster.

python -m stages.job STAGE

On this machine (CXR_SLOTS is set) it takes a free slot until it ends, and with it a GPU. A stage that others have a
longer way than leaves them the cores.

DVC runs in this process. Ctrl-C and a cluster's SIGTERM go to every process of a job. DVC waits at Ctrl-C until its
stage has ended, but SIGTERM would end it at once, the job with it, and a training in the middle of its save. Between
DVC and the stage is a shell. bash becomes the command that it is given; dash would wait for it, and end at SIGTERM too.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

FOLDER = Path(".dvc/tmp/repro")  # of the run in this clone: the plan, the markers, Snakemake's own files
# Snakemake sets all of these for its shell; a stage gets what the user set, as under `dvc repro`.
THREADS = (
    "OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)  # fmt: skip
NICE = 10  # about a tenth of a core where both want all of it


def take_slot(slots: int) -> int:
    """The number of a slot that no other stage has, held until this process ends. There are as many as stages at a
    time, but Snakemake may see an end a moment before the slot is free.
    """
    while True:
        for number in range(slots):
            held = os.open(FOLDER / f"slot-{number}", os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(held)
            else:
                return number
        time.sleep(0.05)


def is_urgent(stage: str, way: dict[str, int]) -> bool:
    """No stage that is not done has a longer way to the end. way: stage -> stages on its longest way."""
    return way[stage] >= max(way[other] for other in way if not (FOLDER / "done" / other).exists())


def end(*_) -> None:
    """SIGTERM for DVC: as Ctrl-C, which DVC ignores while its stage runs and which ends its own work cleanly. A stage
    doesn't inherit this: it saves and ends, or just ends, as it does itself.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        raise KeyboardInterrupt


def main(stage: str) -> int:
    """Run `dvc repro --single-item` with this stage's share of the machine; its exit code. Threads that are set stay:
    with another number a training ends with other last digits.
    """
    plan = json.loads((FOLDER / "plan.json").read_text(encoding="utf-8"))
    for name in THREADS:
        os.environ.pop(name, None)
    os.environ |= {"OMP_NUM_THREADS": os.environ.get("CXR_THREADS", "1")} | plan["threads"]
    if slots := int(os.environ.get("CXR_SLOTS", "0")):
        slot = take_slot(slots)
        if devices := os.environ.get("CXR_GPUS"):
            names = devices.split(",")
            os.environ["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
        if not is_urgent(stage, plan["way"]):
            os.nice(NICE)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # a stage's `python` is this
    os.environ["SHELL"] = shutil.which("bash") or os.environ.get("SHELL", "/bin/sh")  # Snakemake needs bash as well
    words = ["--quiet", "--wait-for-lock", "repro", "--single-item", stage]
    sys.argv = ["dvc", *words]  # DVC's notes in .dvc/tmp/rwlock name it
    from dvc.cli import main as dvc

    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a cluster's daemon ignores it
    signal.signal(signal.SIGTERM, end)
    return dvc(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
