"""Several stages at a time: the order, what is left out, failures, and that DVC then finds nothing to do."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from stages.repro import NICE, check_lists, devices_each, gpus, pipeline, reproduce, run, schedule

ROOT = Path(__file__).resolve().parents[2]
GRAPH = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"c"}, "e": {"b", "d"}, "f": set()}


class Work:
    """Notes when each stage starts and ends; the stages in `fail` fail."""

    def __init__(self, fail=(), seconds=0.02):
        self.fail, self.seconds, self.events, self.now, self.most = fail, seconds, [], set(), 0
        self.workers, self.lock, self.urgent = set(), threading.Lock(), {}

    def __call__(self, name, worker, urgent):
        with self.lock:
            self.urgent |= {name: urgent}
            assert worker not in self.workers
            self.workers.add(worker)
            self.events.append(("start", name))
            self.most = max(self.most, len(self.workers))
        time.sleep(self.seconds)
        with self.lock:
            self.workers.remove(worker)
            self.events.append(("end", name))
        return name not in self.fail

    def started(self):
        return [name for event, name in self.events if event == "start"]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_stage_runs_once_after_what_it_waits_for(jobs):
    work = Work()
    assert schedule(GRAPH, set(GRAPH), jobs, work) == []
    assert sorted(work.started()) == sorted(GRAPH) and work.most <= jobs
    for name, before in GRAPH.items():
        for other in before:
            assert work.events.index(("end", other)) < work.events.index(("start", name))


def test_two_at_a_time_and_the_longest_way_first():
    work = Work()
    schedule(GRAPH, set(GRAPH), 2, work)
    assert work.most == 2
    assert work.started()[:3] == ["a", "f", "c"]  # c has d and e after it, b only e
    assert work.urgent == {"a": True, "f": False, "c": True, "b": False, "d": True, "e": True}


def test_what_others_have_a_longer_way_than_is_nice_to_them(project):
    (project / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {n: {"cmd": f"sleep 1; nice > {n}", "outs": [n]} for n in ("alone", "first")}
                        | {"last": {"cmd": "nice > last", "deps": ["first"], "outs": ["last"]}}})
    )  # fmt: skip
    assert repro("--jobs", "2").returncode == 0
    niceness = {name: int((project / name).read_text()) for name in ("first", "alone", "last")}
    assert niceness["alone"] == niceness["first"] + NICE and niceness["last"] == niceness["first"]


def test_what_did_not_change_is_left_out_unless_something_before_it_ran():
    work = Work()
    assert schedule(GRAPH, {"c"}, 2, work) == []
    assert work.started() == ["c", "d", "e"]
    work = Work()
    assert schedule(GRAPH, set(), 2, work) == [] and work.events == []


def test_a_failure_starts_nothing_new():
    work = Work(fail=("c",))
    assert schedule(GRAPH, set(GRAPH), 1, work) == ["c"]
    assert "d" not in work.started() and "e" not in work.started() and work.started()[-1] == "c"


def test_gpus_are_those_that_may_be_used(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []


def test_a_training_over_several_gpus_gets_them_and_wrong_numbers_are_one_line(monkeypatch):
    assert devices_each(4) == 1
    monkeypatch.setenv("CXR_DEVICES", "2")
    assert devices_each(4) == 2 and devices_each(2) == 2
    for wrong, found in (("4", 2), ("0", 2), ("all", 0)):
        monkeypatch.setenv("CXR_DEVICES", wrong)
        with pytest.raises(ValueError, match=f"CXR_DEVICES = {wrong}: give a number of devices from 1"):
            devices_each(found)


def test_workers_share_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr("stages.repro.sys.executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text(f'#!/bin/sh\necho "$CUDA_VISIBLE_DEVICES" >> {tmp_path}/seen\n')
    (tmp_path / "python").chmod(0o755)
    for worker in range(3):
        assert reproduce("any", worker, True, 2, ["0", "1", "4", "5"], 2)
    assert (tmp_path / "seen").read_text().split() == ["0,1", "4,5", "0,1"]


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


def repro(*words, **env):
    command = [sys.executable, "-m", "stages.repro", *words]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | env
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_dvc_finds_nothing_left_to_do(project):
    done = repro("--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert (project / "whole").read_text() == "1\n1\n1\n"
    after = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True)
    assert "Data and pipelines are up to date." in after.stdout + after.stderr
    locked = (project / "dvc.lock").read_bytes()
    assert repro().returncode == 0 and (project / "dvc.lock").read_bytes() == locked


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
    assert repro().returncode == 0
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace("echo 1 > source", "echo why >&2; exit 3"))
    done = repro()
    assert done.returncode == 1 and "why" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "repro: error: source failed, and what depends on it did not run; the lines above say why"
    )
    assert (project / "whole").read_text() == "1\n1\n1\n"


def test_among_equals_the_first_of_the_graph_goes_first():
    """The classifier becomes ready after the GANs, but stands before them."""
    graph = {"split": set(), "label": {"split"}, "baseline": {"label"}, "gan": {"split"}, "end": {"baseline", "gan"}}
    started = []
    assert not schedule(graph, set(graph), 1, lambda name, *_: started.append(name) or True)
    assert started == ["split", "label", "baseline", "gan", "end"]
