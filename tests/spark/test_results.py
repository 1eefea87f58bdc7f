"""What brings the results of trainings on a cluster home (docs/how-to/spark.md): afterwards `dvc repro` trains nothing.

Each training here is a line of shell, with outs such as those of dvc.yaml: kept when the stage runs again, reports not
in DVC's cache.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PIPELINE = """
stages:
  data:
    cmd: mkdir -p data && echo images > data/images
    outs:
    - data: {persist: true}
  gan:
    foreach: [a, b, c]
    do:
      cmd: >-
        echo ${item} >> $TRAININGS && mkdir -p models/${item} reports/${item} &&
        cp data/images models/${item}/weights && echo ${item} > reports/${item}/kept
      deps: [data]
      outs:
      - models/${item}: {persist: true}
      - reports/${item}: {cache: false, persist: true}
"""
TRAINING = "cd {clone} && dvc --wait-for-lock repro --single-item gan@{name}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A clone with the data pushed to a remote, nothing trained; git's remote is a folder too."""
    monkeypatch.setenv("TRAININGS", str(tmp_path / "trainings"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"NAME": "a", "EMAIL": "a@b"}.items():
        for who in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{who}_{name}", value)
    (tmp_path / "trainings").touch()
    shell(tmp_path, "git init -q --bare -b main git && git clone -q git home 2>&1")
    home = tmp_path / "home"
    (home / "dvc.yaml").write_text(PIPELINE)
    shell(
        home,
        "git checkout -q -b main && dvc init -q && dvc config core.analytics false && dvc config core.autostage true",
    )
    remote(home)
    shell(home, "dvc repro -q data && dvc push -q && git add -A . && git commit -qm data && git push -q -u origin main")
    return home


def remote(clone: Path) -> None:
    shell(
        clone,
        f"dvc remote add -q --local --default store {clone.parent}/store && dvc config --local core.hardlink_lock true",
    )


def shell(folder: Path, line: str) -> str:
    done = subprocess.run(["/bin/sh", "-c", line], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def trained(home: Path) -> list[str]:
    return sorted((home.parent / "trainings").read_text().split())


def check_home(home: Path) -> None:
    """What was trained is there, and does not run again. c was not trained on the cluster."""
    assert trained(home) == ["a", "b"]
    assert "up to date" in shell(home, "dvc repro gan@a gan@b")
    assert trained(home) == ["a", "b"]
    for name in ("a", "b"):
        assert (home / "models" / name / "weights").read_text() == "images\n"
        assert (home / "reports" / name / "kept").read_text() == f"{name}\n"


def test_one_clone_on_a_file_system_that_all_nodes_share(home):
    shell(home.parent, "git clone -q git shared")
    shared = home.parent / "shared"
    remote(shared)
    shell(shared, "dvc pull -q data")
    words = [["/bin/sh", "-c", TRAINING.format(clone=shared, name=name)] for name in ("a", "b")]
    both = [subprocess.Popen(command) for command in words]
    assert [process.wait() for process in both] == [0, 0]
    shell(shared, "dvc push -q gan@a gan@b && git add dvc.lock reports && git commit -qm Trainings && git push -q")
    shell(home, "git pull -q && dvc pull -q gan@a gan@b")
    check_home(home)


def test_a_clone_on_every_node(home):
    for name in ("a", "b"):
        clone = home.parent / f"node-{name}"
        shell(home.parent, f"git clone -q git {clone}")
        remote(clone)
        line = TRAINING.format(clone=clone, name=name).replace("&& dvc", "&& dvc pull -q data && dvc")
        line += f" && cp --recursive --parents models/{name} reports/{name} {home}"
        shell(home.parent, line)
        shutil.rmtree(clone)
    shell(home, "dvc commit -q --force gan@a gan@b")
    check_home(home)
