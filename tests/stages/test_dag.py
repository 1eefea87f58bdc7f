"""The whole DAG at smoke size, in a copy of the repository: what runs, what does not run again, and what bad input
does.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.closure import ROOT

ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "OMP_NUM_THREADS": "1",  # the last digits of a training hang on it
}
STAGES = 24
pytestmark = pytest.mark.slow  # the fixture runs the whole DAG
LONG = pytest.mark.skipif("CXR_LONG" not in os.environ, reason="it takes minutes; set CXR_LONG=1")
ENVIRONMENT.pop("CXR_STATE", None)


def dvc(folder: Path, *words: str, fails: bool = False, module: str = "dvc", **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output[-5000:]
    return output


def ran(output: str) -> set[str]:
    """Names of the stages that DVC says it runs."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage ")}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A copy of the working tree, as a repository of its own, after `make repro`'s command on the smoke preset: several
    stages at a time.
    """
    folder = tmp_path_factory.mktemp("dag") / "repository"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.copy2(folder / "presets" / "smoke.yaml", folder / "params.yaml")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "smoke"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    subprocess.run(["git", "config", "user.name", "t"], cwd=folder, check=True)
    subprocess.run(["git", "config", "user.email", "t@example.org"], cwd=folder, check=True)
    output = dvc(folder, module="stages.repro", CXR_PROCESSES="2")
    assert len(ran(output)) == STAGES, ran(output)
    subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-qm", "run"], cwd=folder, check=True)
    return folder


def test_every_result_is_there_and_says_what_it_should(repository):
    metrics = json.loads((repository / "reports" / "metrics.json").read_text())
    assert set(metrics) >= {"baseline", "final", "adgm"}
    assert {"accuracy", "over_supervised"} <= set(metrics["adgm"]["2-4"])
    page = (repository / "reports" / "report.html").read_text(encoding="utf-8")
    assert "phantom" in page and len(page) > 100_000
    table = pd.read_parquet(repository / "data" / "balanced" / "0" / "table.parquet")
    plan = json.loads((repository / "data" / "balanced" / "0" / "plan.json").read_text())
    assert table["synthetic"].sum() == plan["synthetic_images"] > 0
    held_out = pd.read_parquet(repository / "data" / "splits" / "chexpert" / "split.parquet").query("split != 'train'")
    train = table[table["split"] == "train"]
    assert not set(train["patient_id"]) & set(held_out["patient_id"])
    baseline = pd.read_parquet(repository / "models" / "predictions" / "baseline" / "0" / "u_zeroes.parquet")
    final = pd.read_parquet(repository / "models" / "predictions" / "final" / "0.parquet")
    assert baseline["image_id"].equals(final["image_id"])


def test_nothing_runs_twice(repository):
    assert ran(dvc(repository, "repro")) == set()
    assert "up to date" in dvc(repository, "status")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout


def of_experiment(folder: Path, name: str, file: str) -> dict:
    (ref,) = git(folder, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").split()
    return yaml.safe_load(git(folder, "show", f"{ref}:{file}"))


@pytest.fixture(params=["folder", pytest.param("s3", marks=LONG)])
def remote(request, tmp_path):
    """The words that make a DVC remote known as `store`, and the environment that reaches it."""
    if request.param == "folder":
        yield [("add", "store", str(tmp_path / "remote"))], {}
        return
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "k", "AWS_DEFAULT_REGION": "us-east-1"}
    names = {"aws_access_key_id": "k", "aws_secret_access_key": "k", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **names).create_bucket(Bucket="cxr")
    yield [("add", "store", "s3://cxr/store"), ("modify", "store", "endpointurl", address)], keys | {"NO_PROXY": "*"}
    server.stop()


def test_a_clone_that_pulls_runs_nothing(repository, remote, tmp_path):
    commands, environment = remote
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    for folder in (repository, clone):
        for action, *words in commands:
            dvc(folder, "remote", action, "--local", "-f" if action == "add" else "-q", *words)
    dvc(repository, "push", "-r", "store", **environment)
    dvc(clone, "pull", "-r", "store", **environment)
    assert "up to date" in dvc(clone, "status")
    assert ran(dvc(clone, "repro")) == set()
    assert git(clone, "status", "--porcelain") == "" and not (clone / ".checkpoints").exists()
    assert (clone / "models" / "final" / "0" / "model.safetensors").is_file()


def clone_with_its_cache(repository: Path, folder: Path) -> Path:
    git(folder.parent, "clone", "-q", str(repository), str(folder))
    dvc(folder, "cache", "dir", "--local", str(repository / ".dvc" / "cache"))
    for key, value in (("cache.shared", "group"), ("core.hardlink_lock", "true")):
        dvc(folder, "config", "--local", key, value)
    return folder


def test_two_clones_with_one_cache_check_out_what_the_first_has_made(repository, tmp_path):
    """Both at the same time. They have the repository's dvc.lock, by git."""
    clones = [clone_with_its_cache(repository, tmp_path / name) for name in ("one", "two")]
    both = [subprocess.Popen([sys.executable, "-m", "dvc", "checkout"], cwd=clone, env=ENVIRONMENT) for clone in clones]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    for folder in (*clones, repository):
        assert ran(dvc(folder, "repro")) == set()


def test_two_clones_run_different_stages_at_once_as_one_clone_does(repository, tmp_path):
    """With one cache and one CXR_STATE. Each makes what they share, and a training of its own."""
    targets = "gan@pneumonia-0", "gan@lung_lesion-0"
    clones = [clone_with_its_cache(repository, tmp_path / name) for name in ("one", "two", "alone")]
    with contextlib.ExitStack() as stack:
        for clone in clones:
            dvc(clone, "checkout")
            stack.enter_context(changed(clone, gan__epochs=2, split__train_share=0.9))
        environment = ENVIRONMENT | {"CXR_STATE": str(tmp_path / "state"), "CXR_PROCESSES": "1"}
        both = [
            subprocess.Popen([sys.executable, "-m", "stages.repro", target], cwd=clone, env=environment)
            for clone, target in zip(clones, targets, strict=False)
        ]
        assert [process.wait(timeout=480) for process in both] == [0, 0]
        again = ran(dvc(clones[2], *targets, module="stages.repro", CXR_STATE=str(tmp_path / "other state")))
    assert again == {"split@chexpert", *targets}
    one, two, alone = (outs(clone) for clone in clones)
    for target, made in zip(targets, (one, two), strict=True):
        assert made[target] == alone[target] != outs(repository)[target]
        assert made["split@chexpert"] == alone["split@chexpert"] != outs(repository)["split@chexpert"]
    assert len(list((tmp_path / "state").glob("gan@*/*/fingerprint.json"))) == 2


@LONG
def test_everything_repeats_in_another_folder_with_another_number_of_processes(repository, tmp_path):
    """dvc.lock holds the hash of every out, and git the small outs themselves: neither changes. Nor does it matter that
    here one stage runs after the other.
    """
    clone = tmp_path / "another place" / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    assert len(ran(dvc(clone, "repro", "--force", CXR_PROCESSES="1"))) == STAGES
    assert git(clone, "status", "--porcelain") == ""
    dvc(clone, "repro", "--force", "--single-item", "gan@pneumonia-0", CXR_CHECKPOINT_MINUTES="0")
    assert git(clone, "status", "--porcelain") == ""


def test_queued_experiments_run_at_once_and_continue_the_repositorys_training(repository):
    before = git(repository, "status", "--porcelain")
    for epochs in (3, 4):
        dvc(repository, "exp", "run", "--queue", "-n", f"e{epochs}", "-S", f"gan.epochs={epochs}", "gan@pneumonia-0")
    dvc(repository, "queue", "start", "-j", "2")
    until = time.monotonic() + 240
    while "Running" in (status := dvc(repository, "queue", "status")) or "Queued" in status:
        assert time.monotonic() < until, status
        time.sleep(2)
    assert status.count("Success") == 2, status
    for epochs in (3, 4):
        assert "continues from step" in dvc(repository, "queue", "logs", f"e{epochs}")
        assert of_experiment(repository, f"e{epochs}", "params.yaml")["gan"]["epochs"] == epochs
    (training,) = (repository / ".checkpoints" / "gan@pneumonia-0").iterdir()
    assert list(training.glob("state-*.safetensors"))
    assert git(repository, "status", "--porcelain") == before


def test_a_relative_source_is_found_from_a_temporary_experiment(repository):
    """And what is recorded does not say where it was read from."""
    (archive,) = (repository / ".checkpoints" / "downloads").glob("phantom-rsna-*.zip")
    shutil.unpack_archive(archive, repository.parent / "rsna")
    setting = ("-S", "data.rsna=../rsna", "resize@rsna")
    assert ran(dvc(repository, "exp", "run", "--temp", "-n", "apart", *setting)) >= {"download@rsna", "resize@rsna"}
    apart = of_experiment(repository, "apart", "dvc.lock")["stages"]
    with changed(repository, data__rsna="../rsna"):
        dvc(repository, "repro", "--no-run-cache", "resize@rsna")
        here = yaml.safe_load((repository / "dvc.lock").read_text())["stages"]
    for stage in ("download@rsna", "resize@rsna"):
        assert apart[stage]["outs"] == here[stage]["outs"]
    git(repository, "checkout", "-q", "HEAD", "dvc.lock")  # DVC stages it
    dvc(repository, "checkout")


def test_dvc_shows_something_useful(repository):
    assert "macro_auc" in dvc(repository, "metrics", "show")
    assert "roc" in dvc(repository, "plots", "diff", "--json").lower()
    assert "gan.epochs" in dvc(repository, "exp", "show", "--csv")


def test_gan_epochs_touch_the_gan_and_what_follows(repository):
    output = dvc(repository, "exp", "run", "-S", "gan.epochs=2")
    rare = {f"{stage}@{name}-0" for stage in ("gan", "fidelity") for name in ("pneumonia", "lung_lesion")}
    arms = {"arm@oversampling-0"}  # its table stays as it was: no study@oversampling-0
    assert ran(output) == rare | arms | {"balance@0", "final@0", "explain", "calibrate", "evaluate", "report"}
    assert "gan.epochs" in dvc(repository, "params", "diff", "HEAD")
    dvc(repository, "metrics", "diff")


@contextlib.contextmanager
def changed(folder: Path, **settings):
    """params.yaml with some values changed (section__key), put back after."""
    path = folder / "params.yaml"
    kept = path.read_bytes()
    params = yaml.safe_load(kept)
    for name, value in settings.items():
        section, key = name.split("__")
        params[section][key] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(kept)


def test_another_rare_finding_trains_one_gan_more(repository):
    names = ["pneumonia", "lung_lesion", "consolidation"]
    with changed(repository, rare__findings=names, gan_runs__generators=names, balanced_by__samplers=names):
        lock = (repository / "dvc.lock").read_bytes()
        again = {"split@chexpert", "label@u_zeroes"}  # both look at the rare findings, and write the same bytes
        assert ran(dvc(repository, "repro", "label@u_zeroes")) == again
        names = set(json.loads(dvc(repository, "status", "--json")))  # a dry repro stops at what is not made yet
    (repository / "dvc.lock").write_bytes(lock)
    assert {n for n in names if n.startswith(("gan@", "fidelity@"))} == {
        "gan@consolidation-0",
        "fidelity@consolidation-0",
    }
    assert not {name for name in names if name.startswith(("baseline", "adgm", "resize", "label"))}


@pytest.mark.parametrize(
    ("setting", "target", "message"),
    [
        ({"data__chexpert": "/no/such/place"}, "download@chexpert", "/no/such/place"),
        ({"arms__policies": ["u_zeroes", "u_maybe"]}, "label@u_maybe", "unknown policy 'u_maybe': choose from"),
        ({"gan_runs__generators": ["pneumonia", "dragon"]}, "gan@dragon-0", "unknown finding 'dragon': choose from"),
        ({"gan__mode": "pooled"}, "gan@pneumonia-0", "gan.mode = pooled, but gan_runs.generators has pneumonia alone"),
        ({"rare__findings": ["edema"]}, "balance@0", "edema, of which balanced_by.samplers has no generator"),
        ({"balance__target_prevalence": 0.6}, "balance@0", "can't be reached for 2 findings at once"),
        ({"balance__max_duplicates": 2}, "balance@0", "'--max-duplicates'"),
        ({"balance__labels": "guess"}, "balance@0", "'guess' is not one of"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_leaves_earlier_results(repository, setting, target, message):
    results = [p for folder in ("data", "models", "reports") for p in (repository / folder).rglob("*") if p.is_file()]
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in results}
    with changed(repository, **setting):
        output = dvc(repository, "repro", "-s", target, fails=True)
    errors = [line for line in output.splitlines() if ": error: " in line]
    assert len(errors) == 1 and message in errors[0], output
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in results} == before


@contextlib.contextmanager
def edited(folder: Path, name: str, old: str, new: str):
    """A file of the code with its first `old` replaced, in a repository that is up to date; put back after, with the
    lock.
    """
    dvc(folder, "repro")
    path, lock = folder / name, (folder / "dvc.lock").read_bytes()
    kept = path.read_text(encoding="utf-8")
    assert old in kept
    path.write_text(kept.replace(old, new, 1), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(kept, encoding="utf-8")
        (folder / "dvc.lock").write_bytes(lock)


def outs(folder: Path) -> dict:
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return {name: {out["path"]: out["md5"] for out in stage["outs"]} for name, stage in lock.items()}


def kinds(names: set[str]) -> set[str]:
    return {name.split("@")[0] for name in names}


def test_a_docstring_of_core_trains_nothing_anew(repository):
    """One training of each kind: the final classifier and the study's are trained by the baseline's code."""
    trainings = "baseline@u_zeroes-0", "gan@pneumonia-0", "adgm@corrected-2-4-0"
    with edited(repository, "cxr/core/files.py", '"""', '"""Another first line. '):
        before = outs(repository)
        output = dvc(repository, "repro", *trainings)
        assert ran(output) >= set(trainings)
        assert output.count("continues from step") == len(trainings) and "starts anew" not in output
        assert outs(repository) == before


@pytest.mark.parametrize(
    ("file", "runs", "targets"),
    [
        ("cxr/gan/train.py", {"gan"}, ["balance@0"]),
        pytest.param("cxr/data/decode.py", {"resize"}, [], marks=LONG),
        pytest.param("cxr/data/phantom/cohort.py", {"download", "resize"}, [], marks=LONG),
    ],
)
def test_an_edit_in_one_idea_runs_no_other(repository, file, runs, targets):
    """What has the same bytes as before stops the run there."""
    with edited(repository, file, "from __future__", "# a remark\nfrom __future__"):
        before = outs(repository)
        again = kinds(ran(dvc(repository, "repro", *targets)))
        assert runs <= again and not again & ({"baseline", "adgm", "final", "gan"} - runs)
        assert outs(repository) == before
