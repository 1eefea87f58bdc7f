"""Several stages at a time: the order, what is left out, failures, signals, and that DVC then finds nothing to do."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cxr.core.files import usable_cores
from stages import job, repro
from stages.repro import affected, at_a_time, check_lists, on_this_machine, pipeline, run, ways, write_plan

ROOT = Path(__file__).resolve().parents[2]
GRAPH = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"c"}, "e": {"b", "d"}, "f": set()}


def test_what_did_not_change_is_left_out_unless_something_before_it_did():
    assert affected(GRAPH, set(GRAPH)) == set(GRAPH)
    assert affected(GRAPH, {"c"}) == {"c", "d", "e"}
    assert affected(GRAPH, {"f", "e"}) == {"e", "f"} and affected(GRAPH, set()) == set()


def test_the_longest_way_goes_first_and_among_equals_the_first_of_dvc_yaml(tmp_path):
    """The classifier becomes ready after the GANs, but stands before them."""
    assert ways(GRAPH) == {"a": 4, "b": 2, "c": 3, "d": 2, "e": 1, "f": 1}
    graph = {"split": set(), "label": {"split"}, "baseline": {"label"}, "gan": {"split"}, "end": {"baseline", "gan"}}
    write_plan(tmp_path, graph)
    priority = json.loads((tmp_path / "plan.json").read_text())["priority"]
    assert sorted(priority, key=priority.get, reverse=True) == ["split", "label", "baseline", "gan", "end"]


def test_only_what_no_unfinished_stage_has_a_longer_way_than_is_urgent(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "FOLDER", tmp_path)
    (tmp_path / "done").mkdir()
    way = ways(GRAPH)
    assert {name for name in GRAPH if job.is_urgent(name, way)} == {"a"}
    for name in "ac":
        (tmp_path / "done" / name).touch()
    assert {name for name in "bdef" if job.is_urgent(name, way)} == {"b", "d"}


@pytest.mark.parametrize(
    "named, gpus",
    [("2,5", "2 5"), (" GPU-a, 1", "GPU-a 1"), ("0,-1,1", "0")]
    + [(hidden, "") for hidden in ("", "-1", "NoDevFiles", "none")],
)
def test_gpus_are_those_that_a_training_may_use(monkeypatch, named, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    for name in ("CXR_SLOTS", "CXR_GPUS", "CXR_THREADS"):  # put back after
        monkeypatch.setenv(name, "")
    on_this_machine(1)
    assert os.environ["CXR_GPUS"] == ",".join(gpus.split())


def test_what_asks_for_the_gpus_starts_without_torch():
    code = "import sys, stages.repro; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "cores, devices, jobs",
    [(1, 0, 1), (8, 0, 2), (2, 1, 1), (8, 1, 4), (64, 1, 4), (16, 4, 8), (4, 8, 8)],
)
def test_several_trainings_share_a_gpu_that_has_cores_to_feed_them(monkeypatch, cores, devices, jobs):
    monkeypatch.setattr(repro, "usable_cores", lambda: cores)
    assert at_a_time([str(number) for number in range(devices)]) == jobs


@pytest.mark.slow
def test_a_stage_has_the_threads_that_the_user_set_and_else_its_share(project, monkeypatch):
    """Snakemake sets six variables for its shell; under `dvc repro` a stage sees the user's alone, and its last digits
    hang on them.
    """
    for name in job.THREADS:
        monkeypatch.delenv(name, raising=False)
    stage = {"cmd": "echo $OMP_NUM_THREADS,$MKL_NUM_THREADS,$OPENBLAS_NUM_THREADS > out", "outs": ["out"]}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"one": stage}}))
    assert reproduce("--jobs", "1", OMP_NUM_THREADS="3", MKL_NUM_THREADS="5").returncode == 0
    assert (project / "out").read_text() == "3,5,\n"
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"one": stage | {"cmd": stage["cmd"] + "; true"}}}))
    assert reproduce("--jobs", "1").returncode == 0
    assert (project / "out").read_text() == f"{usable_cores()},,\n"


@pytest.mark.slow
def test_stages_at_a_time_share_out_the_gpus(project):
    """Three slots on two GPUs: no slot is taken twice, and the first two have a GPU each."""
    stages = {name: {"cmd": f"echo $CUDA_VISIBLE_DEVICES > {name}; sleep 2", "outs": [name]} for name in "xyz"}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert reproduce("--jobs", "3", CUDA_VISIBLE_DEVICES="4,GPU-a").returncode == 0
    assert sorted((project / name).read_text().strip() for name in "xyz") == ["4", "4", "GPU-a"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Five stages of shell commands, one of a foreach, in a repository of its own."""
    stages = {
        "source": {"cmd": "echo 1 > source", "outs": ["source"]},
        "part": {
            "foreach": ["x", "y", "z"],
            "do": {"cmd": "sleep 0.3; cat source > ${item}", "deps": ["source"], "outs": ["${item}"]},
        },
        "whole": {"cmd": "cat x y z > whole", "deps": ["x", "y", "z"], "outs": ["whole"]},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "-q", "init"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reproduce(*words, **env):
    command = [sys.executable, "-m", "stages.repro", *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"} | env
    return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_dvc_finds_nothing_left_to_do(project):
    done = reproduce("--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert (project / "whole").read_text() == "1\n1\n1\n"
    after = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True)
    assert "Data and pipelines are up to date." in after.stdout + after.stderr
    locked = (project / "dvc.lock").read_bytes()
    assert reproduce().returncode == 0 and (project / "dvc.lock").read_bytes() == locked


@pytest.mark.parametrize(
    "value, shown, cure",
    [
        ("150", "150", "labels: [150]"),
        ("", "null", "labels: []"),
        ("u_zeroes", '"u_zeroes"', "labels: [u_zeroes]"),
        ("150, 300", '"150, 300"', "labels: [150, 300]"),
        ("true", "true", "labels: [true]"),
    ],
)
@pytest.mark.parametrize("loop", ["foreach: ${runs.labels}", "matrix: {labels: '${runs.labels}'}"])
def test_a_list_that_is_none_is_named_before_dvc_stumbles_over_it(project, value, shown, cure, loop):
    stages = (
        f"stages:\n  fixed:\n    foreach: [1]\n    do: {{cmd: 'true'}}\n  one:\n    {loop}\n    do: {{cmd: 'true'}}\n"
    )
    (project / "dvc.yaml").write_text(stages)
    (project / "params.yaml").write_text(f"runs:\n  labels: {value}\n")
    message = f"params.yaml: runs.labels is {shown}, must be a list, also of one: write {cure}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run()


def test_lists_and_what_dvc_can_judge_itself_pass(tmp_path):
    check_lists(ROOT / "dvc.yaml")
    (tmp_path / "dvc.yaml").write_text("stages: {a: {foreach: '${runs.labels}', do: {cmd: 'true'}}}")
    check_lists(tmp_path / "dvc.yaml")
    for params in ("runs: {labels: [150]}", "runs: {labels: {a: 1}}", "runs: {}", "other: 1", "runs: ["):
        (tmp_path / "params.yaml").write_text(params)
        check_lists(tmp_path / "dvc.yaml")
    (tmp_path / "dvc.yaml").write_text("- no stages")
    check_lists(tmp_path / "dvc.yaml")


def test_targets_take_what_they_need_and_no_more(project):
    graph, changed = pipeline(["part@y"])
    assert graph == {"source": set(), "part@y": {"source"}} and changed == set(graph)
    assert set(pipeline(["part"])[0]) == {"source", "part@x", "part@y", "part@z"}
    with pytest.raises(ValueError, match="nothing is no stage"):
        pipeline(["nothing"])


def test_a_stage_that_fails_is_named_and_earlier_results_stay(project):
    assert reproduce().returncode == 0
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace("echo 1 > source", "echo why >&2; exit 3"))
    done = reproduce()
    assert done.returncode == 1 and "why" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "repro: error: source failed, and what depends on it did not run; the lines above say why"
    )
    assert (project / "whole").read_text() == "1\n1\n1\n"


@pytest.mark.slow
def test_what_others_have_a_longer_way_than_is_nice_to_them(project):
    (project / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {n: {"cmd": f"sleep 1; nice > {n}", "outs": [n]} for n in ("alone", "first")}
                        | {"last": {"cmd": "nice > last", "deps": ["first"], "outs": ["last"]}}})
    )  # fmt: skip
    assert reproduce("--jobs", "2").returncode == 0
    niceness = {name: int((project / name).read_text()) for name in ("first", "alone", "last")}
    assert niceness["alone"] == min(19, niceness["first"] + job.NICE) and niceness["last"] == niceness["first"]


POOL = """import os, time
from concurrent.futures import ProcessPoolExecutor
def work(_):
    open(f"worker-{os.getpid()}", "w")
    time.sleep(300)
if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
"""


def test_a_signal_reaches_the_stage_which_ends_before_the_command_does(project):
    """As a training does: it saves on SIGINT and SIGTERM, and takes its time. Meanwhile nobody else may start. A stage
    of several processes that handles no signal just ends. A shell starts what runs in its background with SIGINT
    ignored, as here.
    """
    script = """import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (time.sleep(1), open('saved', 'w'), sys.exit(1)))
open('running', 'w')
time.sleep(300)
"""
    (project / "train.py").write_text(script)
    (project / "resize.py").write_text(POOL)
    stages = {
        "train": {"cmd": f"{sys.executable} train.py", "deps": ["train.py"], "outs": ["out"]},
        "resize": {"cmd": f"{sys.executable} resize.py", "deps": ["resize.py"], "outs": ["store"]},
    }
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    env = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "stages.repro", "--jobs", "2"]
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, ignored)
    with process:
        until = time.monotonic() + 300
        while not (project / "running").exists() or len(list(project.glob("worker-*"))) < 2:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.1)
        other = reproduce()
        assert other.returncode == 1 and "another `cxr repro` runs in this clone" in other.stderr
        process.send_signal(signal.SIGTERM)
        errors = process.communicate()[1]
    assert (project / "saved").exists(), errors
    assert process.returncode == 128 + signal.SIGTERM, errors
    for worker in project.glob("worker-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker.name.partition("-")[2]), 0)
    (project / "resize.py").write_text("open('store', 'w')")
    (project / "train.py").write_text("open('out', 'w')")
    assert reproduce().returncode == 0, "no lock stays"


def test_a_stages_python_is_the_one_of_cxr(project):
    """In a container and after `.venv/bin/cxr repro`, no environment is activated."""
    command = plan_of(project, "import sys; open('out', 'w').write(sys.prefix)", "python")
    env = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", "PATH": "/usr/bin:/bin"}
    assert subprocess.run(command, env=env).returncode == 0
    assert (project / "out").read_text() == sys.prefix


def plan_of(folder: Path, script: str, python: str = sys.executable) -> list[str]:
    """The command of one stage's job, in a project whose only stage runs this script in Python."""
    (folder / "train.py").write_text(script)
    stages = {"train": {"cmd": f"{python} train.py", "deps": ["train.py"], "outs": ["out"]}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    with repro.alone(job.FOLDER):
        write_plan(job.FOLDER, {"train": set()})
    return [sys.executable, "-m", "stages.job", "train"]


# As a cluster ends a job: the signal goes to every process of it, and when the first process has ended, the rest is
# killed.
SAVES = """import os, signal, sys, time
def save(*_):
    time.sleep(1.5)
    open('half', 'w').write('whole')
    os.rename('half', 'saved')
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
open('running', 'w')
time.sleep(60)
"""
JUST_ENDS = "import time; open('running', 'w'); time.sleep(60)"


@pytest.mark.parametrize("script, saved", [(SAVES, True), (JUST_ENDS, False)], ids=["saves", "just ends"])
def test_a_cluster_that_ends_a_job_leaves_a_training_the_time_to_save(project, script, saved):
    """Without $SHELL, as in most jobs, DVC would take /bin/sh, which is dash on Debian."""
    env = {name: value for name, value in os.environ.items() if name != "SHELL"}
    env |= {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    command = plan_of(project, script)
    with subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (project / "running").exists():
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        code = process.wait(timeout=30)
        at_its_end = (project / "saved").exists()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        errors = process.stderr.read()
    assert at_its_end == saved, errors
    assert code not in (0, -signal.SIGTERM), "DVC saw the end of the stage, which failed"
    notes = project / ".dvc" / "tmp" / "rwlock"
    assert json.loads(notes.read_text() if notes.exists() else "{}") == {}, "nothing stays blocked"


def test_every_stages_command_is_one_that_the_shell_becomes():
    """A shell that has more to do than one program stays, and ends at SIGTERM before a training has saved."""
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        assert re.fullmatch(r"python -m stages\.[^;&|<>`()\n]+", stage.get("do", stage)["cmd"].strip()), name
