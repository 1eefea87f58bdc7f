"""`cxr repro` on a real SLURM of this machine: a job that is killed goes on, a node that is drained takes nothing new,
and DVC then finds nothing to do.

CXR_TEST_SLURM=smoke runs the whole smoke preset as well: nine minutes on two cores.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.closure import ROOT

SCRIPT = Path(__file__).with_name("slurm.sh")
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
MISSING = [name for name in NEEDED if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("CXR_LONG" not in os.environ, reason="it starts daemons and takes minutes; set CXR_LONG=1"),
    pytest.mark.skipif(bool(MISSING), reason=f"SLURM is not installed: no {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons are started as root"),
    pytest.mark.skipif(
        Path("/etc/slurm/slurm.conf").exists(), reason="this machine has a SLURM of its own: /etc/slurm/slurm.conf"
    ),
]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CXR_"))} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin",
    "DVC_NO_ANALYTICS": "1",
    "OMP_NUM_THREADS": "1",
}
# Counts to 30 and keeps its place at every step, as a training does. On SIGTERM it needs three seconds to save.
TRAIN = """import pathlib, signal, sys, time
def save(*_):
    time.sleep(3)
    pathlib.Path("saved-" + sys.argv[1]).touch()
    sys.exit(143)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, save)
state, out = pathlib.Path("state-" + sys.argv[1]), pathlib.Path(sys.argv[1])
started = int(state.read_text()) if state.exists() else 0
for step in range(started, 30):
    state.write_text(str(step))
    time.sleep(0.5)
out.write_text("30")
pathlib.Path("started-" + sys.argv[1]).write_text(str(started))
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", SCRIPT, "start", folder], env=ENVIRONMENT, check=True, timeout=120)
    yield
    subprocess.run(["bash", SCRIPT, "stop", folder], env=ENVIRONMENT, check=True)


def command(*words: str) -> str:
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60).stdout


def jobs() -> dict[str, tuple[str, str, str]]:
    """The comment (rule and instance) of each job that is not over -> (id, state, node)."""
    rows = [line.split("|") for line in command("squeue", "--noheader", "--format", "%k|%i|%T|%N").splitlines()]
    return {comment: (number, state, node) for comment, number, state, node in rows}


def until(condition, seconds: float = 240):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, jobs()
        time.sleep(0.5)
    return value


def profile(folder: Path) -> Path:
    """profiles/slurm, which asks SLURM more often than a cluster's users should."""
    settings = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    settings |= {"latency-wait": 10, "seconds-between-status-checks": 2, "slurm-init-seconds-before-status-checks": 2}
    settings["slurm-keep-successful-logs"] = True
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def start(folder: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "stages.repro", "--profile", str(profile(folder / "mine")), *words],
        cwd=folder, env=ENVIRONMENT | {"PYTHONPATH": str(folder if (folder / "stages").exists() else ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def clone_of(folder: Path, stages: dict, script: str) -> None:
    """A repository with these stages and train.py."""
    (folder / "train.py").write_text(script)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for words in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "-q", "init"]):
        subprocess.run(words, cwd=folder, env=ENVIRONMENT, check=True)
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    hardlink_lock = true\n")
    (folder / "profiles").symlink_to(ROOT / "profiles")


def test_a_job_that_holds_everything_saves_before_its_time_ends(slurm, tmp_path):
    """The script of docs/how-to/cluster.md, with two minutes: the signal comes 100 seconds before their end."""
    words = f"{sys.executable} train.py x"
    clone_of(tmp_path, {"train": {"cmd": words, "deps": ["train.py"], "outs": ["x"]}}, TRAIN.replace("30", "300"))
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
    script = re.search(r"^#!/bin/bash\n#SBATCH.*?(?=^```)", page, re.MULTILINE | re.DOTALL)[0]
    changes = {"gpus=4": "gpus=1", "task=32": "task=2", "time=24:00:00": "time=2", "TERM@120": "TERM@100"}
    for old, new in (changes | {".venv/bin/cxr repro": f"{sys.executable} -m stages.repro"}).items():
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "job").write_text(script)
    words = ["sbatch", "--parsable", f"--chdir={tmp_path}", f"--export=ALL,PYTHONPATH={ROOT}", str(tmp_path / "job")]
    number = command(*words).strip()
    try:
        until(lambda: (tmp_path / "saved-x").exists(), 110)
    except AssertionError:
        command("scancel", "--full", number)  # the other test needs the GPU
        raise
    until(lambda: not command("squeue", "--noheader", "--job", number, "--states", "RUNNING,COMPLETING").strip(), 20)
    state = command("scontrol", "show", "job", number)
    assert "TimedOut" not in state and "ExitCode=143:0" in state, state


def test_a_killed_job_goes_on_and_a_drained_node_takes_nothing(slurm, tmp_path):
    train = {"cmd": f"{sys.executable} train.py ${{item}}", "deps": ["train.py"], "outs": ["${item}"]}
    end = {"cmd": "cat x y > end; echo $SLURMD_NODENAME > node", "deps": ["x", "y"], "outs": ["end"]}
    clone_of(tmp_path, {"gan": {"foreach": ["x", "y"], "do": train}, "end": end}, TRAIN)
    with start(tmp_path) as process:
        for name in "xy":
            state = tmp_path / f"state-{name}"
            until(lambda state=state: state.exists() and int(state.read_text() or 0) >= 4)
        ((number, _, node),) = [job for comment, job in jobs().items() if "@x" in comment]
        ((other, *_),) = [job for comment, job in jobs().items() if "@y" in comment]
        command("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
        command("scancel", "--signal=KILL", "--full", number)
        command("scancel", other)
        output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output[-4000:]
    assert "Trying to restart job" in output
    assert (tmp_path / "saved-y").exists(), "SIGTERM leaves time to save"
    for name in "xy":
        assert int((tmp_path / f"started-{name}").read_text()) >= 4, "it continued"
    assert (tmp_path / "end").read_text() == "3030"
    assert (tmp_path / "node").read_text().strip() not in ("", node)
    command("scontrol", "update", f"nodename={node}", "state=resume")
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert "up to date" in status.stdout, status.stdout + status.stderr


@pytest.mark.skipif(os.environ.get("CXR_TEST_SLURM") != "smoke", reason="CXR_TEST_SLURM=smoke runs the smoke preset")
def test_the_smoke_preset_with_a_killed_job_has_the_lock_of_dvc_repro(slurm, tmp_path):
    folder, clone = tmp_path / "one", tmp_path / "other"
    names = command("git", "-C", str(ROOT), "ls-files", "-z").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith("reports/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.copy2(folder / "presets" / "smoke.yaml", folder / "params.yaml")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "smoke"]):
        command(*git, *words)
    command("git", "clone", "-q", str(folder), str(clone))
    subprocess.run([sys.executable, "-m", "dvc", "-q", "repro"], cwd=clone, env=ENVIRONMENT, check=True)
    with start(folder, "--jobs", "2") as process:
        (training, *_) = until(lambda: list(folder.glob(".checkpoints/gan@*/*/fingerprint.json")), 3600)
        name = training.parts[-3]  # gan@...: this stage trains
        (number,) = [job[0] for comment, job in jobs().items() if name.removeprefix("gan") in comment]
        command("scancel", number)
        output = process.communicate(timeout=3600)[0]
    assert process.returncode == 0 and "Trying to restart job" in output, output[-4000:]
    logs = {
        log.stem: log.read_text()
        for log in (folder / ".dvc/tmp/repro/.snakemake/slurm_logs").glob("rule_gan/*/*.log")
        if log.parent.name == name.removeprefix("gan")
    }
    assert "stopped by SIGTERM" in logs.pop(number) and "continues from step" in "".join(logs.values()), logs
    one, other = (yaml.safe_load((place / "dvc.lock").read_text(encoding="utf-8")) for place in (folder, clone))
    assert one == other and len(one["stages"]) > 20  # DVC writes the stages in the order in which they end
