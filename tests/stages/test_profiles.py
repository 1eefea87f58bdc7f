"""profiles/: what each kind of stage asks of a cluster, against dvc.yaml; stages as jobs of services made up."""

import importlib.util
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
from tests.closure import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PROFILES = sorted(path.parent for path in (ROOT / "profiles").glob("*/config.yaml"))


def asked(profile: str) -> dict:
    return yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text(encoding="utf-8"))


def kinds(condition) -> set[str]:
    """The stages of dvc.yaml of which this holds, a stage that repeats counted once."""
    return {name for name, stage in STAGES.items() if condition(stage.get("do", stage))}


def test_what_runs_a_network_gets_a_gpu_and_cores_to_feed_it():
    """What trains or uses a network depends on cxr/training, and nothing else does."""
    networks = kinds(lambda stage: "cxr/training" in stage["deps"])
    for name in kinds(lambda stage: True):
        file = re.match(r"python -m stages\.(\w+)", STAGES[name].get("do", STAGES[name])["cmd"])[1]
        code = (ROOT / "stages" / f"{file}.py").read_text(encoding="utf-8")
        assert name in networks or not re.search(r"\b(fabric|device)\(|import torch", code), name
    needs = asked("stages")
    assert {name for name, resources in needs["set-resources"].items() if resources.get("gpu")} == networks
    assert networks <= set(needs["set-threads"])
    assert {needs["set-resources"][name]["gpu"] for name in networks} == {1}, "several GPUs are several trainings"


def test_what_reads_a_hospitals_images_gets_cores_and_time():
    packing = kinds(lambda stage: "${resize}" in stage["cmd"])
    assert packing == {"resize", "external_data", "extra_data"}
    for name in packing:
        assert asked("stages")["set-threads"][name] == 16 and asked("stages")["set-resources"][name]["runtime"] >= 480


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.name)
def test_a_profile_names_stages_of_dvc_yaml(profile):
    settings = asked(profile.name)
    assert set(settings.get("set-threads", {})) | set(settings.get("set-resources", {})) <= set(STAGES)


def jobs_of(profile: str):
    spec = importlib.util.spec_from_file_location(profile, ROOT / "profiles" / profile / "jobs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kubernetes_is_asked_for_a_gpu_as_a_limit_and_only_by_what_needs_one(monkeypatch):
    """Kubernetes refuses a GPU that is no limit. A Job's name holds no @."""
    monkeypatch.setenv("CXR_LOG", "tensorboard")
    jobs = jobs_of("kubernetes")
    job = jobs.manifest("gan@Lung_lesion+pneumonia-0", 4, 24000, 1, 1440, "/cxr/script")
    assert re.fullmatch(r"[a-z0-9-]+", job["metadata"]["generateName"])
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    wanted = {"cpu": "4", "memory": "24000M", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": wanted, "limits": wanted} and pod["tolerations"]
    assert {"name": "CXR_LOG", "value": "tensorboard"} in container["env"]
    assert job["spec"]["activeDeadlineSeconds"] == 86400 and Path(container["command"][1]).is_file()
    pod = jobs.manifest("label@u_zeroes", 1, 8000, 0, 60, "/cxr/script")["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"] and "tolerations" not in pod


def test_aws_batch_is_asked_for_a_gpu_only_by_what_needs_one():
    jobs = jobs_of("aws-batch")
    for gpus in (0, 1):
        request = jobs.request("gan@lung_lesion+pneumonia-0", 4, 24000, gpus, 60, "/cxr/script")
        needs = {need["type"]: need["value"] for need in request["containerOverrides"]["resourceRequirements"]}
        assert needs == {"VCPU": "4", "MEMORY": "24000"} | ({"GPU": "1"} if gpus else {})
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", request["jobName"])
        assert request["timeout"] == {"attemptDurationSeconds": 3600}


@pytest.mark.parametrize("profile", ["kubernetes", "aws-batch"])
@pytest.mark.parametrize(
    "answer, code, state",
    [
        ("", 1, "running"),
        ("j", 0, "running"),
        ("j FailureTarget", 0, "running"),
        ("j SuccessCriteriaMet Complete", 0, "success"),
        ("j FailureTarget Failed", 0, "failed"),
        ("", 0, "failed"),
    ],
)
def test_a_service_that_does_not_answer_ends_no_run(monkeypatch, profile, answer, code, state):
    jobs = jobs_of(profile)
    if profile == "aws-batch":
        words = {"j": "RUNNING", "j FailureTarget": "STARTING", "": "None"}
        answer = words.get(answer, "SUCCEEDED" if state == "success" else "FAILED")
    done = subprocess.CompletedProcess([], code, stdout=answer)
    monkeypatch.setattr(jobs, "kubectl" if profile == "kubernetes" else "batch", lambda *_, **__: done)
    assert jobs.status("j") == state


@pytest.mark.parametrize(
    "profile, program, said",
    [
        ("kubernetes", "kubectl", ["--namespace default delete job --ignore-not-found --wait=false j-1 j-2"]),
        ("aws-batch", "aws", [f"batch terminate-job --job-id j-{n} --reason cancelled" for n in (1, 2)]),
    ],
)
def test_ctrl_c_ends_the_jobs(tmp_path, profile, program, said):
    """Snakemake gives the cancel command no word but the jobs."""
    (tmp_path / program).write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/said\n")
    (tmp_path / program).chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([ROOT / "profiles" / profile / "jobs.py", "j-1", "j-2"], env=env, check=True)
    until = time.monotonic() + 10
    while not (file := tmp_path / "said").exists() or len(file.read_text().splitlines()) < len(said):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert sorted(file.read_text().splitlines()) == said


def test_a_containers_sigterm_reaches_the_whole_stage_which_ends_first(tmp_path):
    """Also what runs in the background of a shell that the signal ends."""
    train = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), open('saved', 'w'), "
        "sys.exit(1))); open('running', 'w'); time.sleep(60)"
    )
    (tmp_path / "script").write_text(f'{sys.executable} -c "{train}" && exit 0 || exit 1')
    with subprocess.Popen(["bash", ROOT / "profiles" / "container.sh", "script"], cwd=tmp_path) as process:
        until = time.monotonic() + 30
        while not (tmp_path / "running").exists():
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143 and (tmp_path / "saved").exists()
    (tmp_path / "script").write_text("exit 3")
    assert subprocess.run(["bash", ROOT / "profiles" / "container.sh", "script"], cwd=tmp_path).returncode == 3


# kubectl and aws in one: a job is a process of this machine, and its folder keeps its exit code.
SERVICE = """import json, os, subprocess, sys
from pathlib import Path
words, folder = sys.argv[1:], Path(__file__).parent / "jobs"
if "create" in words or "submit-job" in words:
    asked = json.load(sys.stdin) if "create" in words else json.loads(words[words.index("--cli-input-json") + 1])
    if "create" in words:
        (asked,) = asked["spec"]["template"]["spec"]["containers"]
    else:
        asked = asked["containerOverrides"]
    name = f"job-{len(list(folder.iterdir()))}"
    (folder / name).mkdir()
    (folder / name / "command").write_text(json.dumps(asked["command"]))
    run = f'{" ".join(asked["command"])} > {folder}/{name}/log 2>&1; echo $? > {folder}/{name}/code'
    env = {k: v for k, v in os.environ.items() if not k.startswith("CXR_")}
    env |= {pair["name"]: pair["value"] for pair in asked.get("env", asked.get("environment"))}
    subprocess.Popen(["bash", "-c", run], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL, start_new_session=True)
    print(name)
elif "get" in words or "describe-jobs" in words:
    name = next(word for word in words if word.startswith("job-"))
    code = folder / name / "code"
    text = code.read_text().strip() if code.exists() else ""
    print({"": name, "0": name + " Complete"}.get(text, name + " Failed") if "get" in words
          else {"": "RUNNING", "0": "SUCCEEDED"}.get(text, "FAILED"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("profile, program", [("kubernetes", "kubectl"), ("aws-batch", "aws")])
def test_snakemake_sends_and_watches_stages_by_the_profile(tmp_path, profile, program):
    pytest.importorskip("snakemake_executor_plugin_cluster_generic", reason="an executor that `cluster` doesn't bring")
    (tmp_path / "jobs").mkdir()
    (tmp_path / program).write_text(f"#!{sys.executable}\n{SERVICE}")
    (tmp_path / program).chmod(0o755)
    folder = tmp_path / "clone"
    folder.mkdir()
    stages = {
        "gan": {"foreach": ["x", "y"], "do": {"cmd": "echo $OMP_NUM_THREADS > ${item}", "outs": ["${item}"]}},
        "end": {"cmd": "cat x y > end", "deps": ["x", "y"], "outs": ["end"]},
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / "profiles").symlink_to(ROOT / "profiles")
    for words in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "-q", "init"]):
        subprocess.run(words, cwd=folder, check=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    env.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-m", "stages.repro", "--profile", f"profiles/{profile}"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + "".join(log.read_text() for log in (tmp_path / "jobs").glob("*/log"))
    threads = min(4, usable_cores())
    assert (folder / "end").read_text() == f"{threads}\n{threads}\n" and len(list((tmp_path / "jobs").iterdir())) == 3
