"""What leaves the repository (the wheel) and what it stands on (the environment, other packages' public names)."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import pandas as pd
import pytest
import yaml

from cxr import __version__
from cxr.training import fingerprint
from stages.__main__ import STAGES, TOOLS
from tests.closure import ROOT
from tests.predict.conftest import make, predicted

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# sys.modules would do for one module; a finder refuses all of the package, as if it were not installed.
WITHOUT_DVC = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("dvc", "dvc_data", "dvc_objects", "dvclive"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
"""


@pytest.fixture(scope="module")
def cxr(tmp_path_factory):
    """A function that runs a program of a fresh environment in an empty folder. The environment holds the wheel, and
    sees this one's packages, but neither the checkout nor DVC.
    """
    folder = tmp_path_factory.mktemp("wheel")
    run = {"check": True, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, **run)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], **run)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel],
        cwd=folder,
        **run,
    )
    (packages / "without_dvc.pth").write_text("import without_dvc\n")
    (packages / "without_dvc.py").write_text(WITHOUT_DVC)
    empty = folder / "empty"
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["CXR_STATE"] = str(folder / "state")

    def call(program: str, *words: str) -> str:
        command = [folder / "venv" / "bin" / program, *words]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.mark.slow
def test_the_wheel_holds_one_package_with_its_template_and_types(cxr):
    code = "import importlib.metadata as m; print(*sorted(str(f) for f in m.files('cxr')), sep='\\n')"
    files = set(cxr("python", "-c", code).splitlines())
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cxr").rglob("*.j2")}
    assert templates and templates | {"cxr/py.typed", "cxr/stages/__main__.py"} <= files
    assert {name.split("/")[0] for name in files if not name.startswith("../")} == {
        "cxr", f"cxr-{cxr('cxr', '--version').strip()}.dist-info",
    }  # fmt: skip


@pytest.mark.slow
def test_every_command_of_the_wheel_explains_itself(cxr):
    listed = cxr("cxr", "--help")
    for name in (*STAGES, *TOOLS):
        assert re.search(rf"^  {name}  +[A-Z]", listed, re.M)
        assert f"cxr {name} [OPTIONS]" in cxr("cxr", name, "--help")


@pytest.mark.slow
def test_a_stage_of_the_wheel_works(cxr):
    words = ("--dataset", "chexpert", "--source", "phantom", "--chexpert_patients", "20", "--out", "data")
    assert "20 patients" in cxr("cxr", "download", *words)


@pytest.mark.slow
def test_a_training_has_the_same_fingerprint_of_code_in_the_wheel(cxr):
    code = (
        "from pathlib import Path; from cxr.stages import gan; from cxr.training import fingerprint\n"
        "print(*(f'{name} {digest}' for name, digest in fingerprint.code(Path(gan.__file__)).items()), sep='\\n')"
    )
    here = fingerprint.code(ROOT / "stages" / "gan.py")
    assert dict(line.split() for line in cxr("python", "-c", code).splitlines()) == here and "cxr/gan/train.py" in here


@pytest.mark.slow
def test_a_copied_predictor_predicts_the_same_on_a_machine_without_dvc(cxr, tmp_path):
    made = make(tmp_path / "made")
    names, here = sorted(path.as_posix() for path in (made / "files").rglob("*.png"))[:20], tmp_path / "here"
    (tmp_path / "list.txt").write_text("\n".join(names))
    predicted(made, tmp_path / "list.txt", here, fhir=True)
    (made / "predictor").rename(tmp_path / "copy")
    for name in ("model", "stores", "split", "state"):
        shutil.rmtree(made / name, ignore_errors=True)
    there = tmp_path / "there"
    assert "no DVC" in cxr("python", "-c", "try:\n import dvc.repo\nexcept ModuleNotFoundError: print('no DVC')")
    words = ("--out", str(there), "--precision", "32-true", "--processes", "2", "--fhir")
    said = cxr("cxr", "predict", str(tmp_path / "copy"), str(tmp_path / "list.txt"), *words)
    assert "20 of 20 files predicted" in said and (there / "predictions.html").is_file()
    ours, theirs = (pd.read_parquet(out / "predictions.parquet") for out in (here, there))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=False, atol=1e-6)
    assert ours["score.edema"].notna().all() and len(list((there / "fhir").iterdir())) == 20


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_exact_and_hold_no_host():
    assert requirements() and all(re.match(r"^[A-Za-z0-9_.\-\[\]]+==[\w.+]+( ; .*)?$", line) for line in requirements())


def test_requirements_leave_torchs_own_libraries_to_the_build_of_torch():
    """With them listed, `UV_TORCH_BACKEND=cpu make env` would download CUDA all the same."""
    assert not [line for line in requirements() if re.match(r"nvidia-|cuda-|triton", line)]


def test_requirements_hold_every_declared_dependency():
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in requirements()}
    extras = PROJECT["optional-dependencies"].values()
    declared = {re.match(r"[\w.-]+", d)[0].lower() for group in (PROJECT["dependencies"], *extras) for d in group}
    assert declared <= names, declared - names


def test_no_private_name_of_another_package_is_used():
    """torch, DVC and Fabric change what begins with _ without notice; their public names hold until the next major
    version, which pyproject.toml excludes.
    """
    private = []
    for path in [*(ROOT / "stages").glob("*.py"), *(ROOT / "cxr").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                owner = ast.unparse(node.value).split(".")[0]
                if owner in ("torch", "fabric", "machine", "dvc", "np", "pd", "nn", "functional", "typer", "pydicom"):
                    private.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not private


@pytest.mark.parametrize("name", ["torch", "dvc", "lightning-fabric"])
def test_the_next_major_version_is_excluded(name):
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["pipeline"]
    (line,) = [d for d in declared if re.match(rf"{name}[<>]", d)]
    assert re.search(r",<\d+$", line)


def test_torch_tells_what_the_processor_can_do():
    import torch

    assert isinstance(torch.cpu.get_capabilities().get("avx512_bf16", False), bool)


def test_no_x_ray_can_be_committed():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][-1]["hooks"]
    pattern = re.compile(next(hook["files"] for hook in hooks if hook["id"] == "no-patient-data"))
    for name in ("a.dcm", "data/x/view1_frontal.JPG", "b.jpeg", "c.npy", "scan.png", "data/a.png", "x.parquet"):
        assert pattern.search(name), name
    for name in ("docs/a.png", "reports/figures/roc.png", "cxr/data/decode.py", "README.md"):
        assert not pattern.search(name), name
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    assert not [name for name in tracked if pattern.search(name)]


def test_the_version_stands_once():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["version"] == __version__ and f"## {__version__}" in changes
