"""In a copy of the code: a training continues after an edit that shapes no result, and starts anew after another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import sha256, write_table
from cxr.core.findings import FINDINGS
from cxr.core.records import COLUMNS
from cxr.core.store import write_store
from tests.closure import ROOT
from tests.make import write_split

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twelve patients of noise with pneumonia."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    ids = np.array([f"p{i:02d}" for i in range(12)], object)
    records = pd.DataFrame({"image_id": ids, "patient_id": ids, "projection": "frontal"} | dict.fromkeys(FINDINGS, 1.0))
    write_table(root / "records.parquet", records.reindex(columns=list(COLUMNS["chexpert"])))
    write_split(root, pd.DataFrame({"image_id": ids, "patient_id": ids, "split": "train"}))
    images = rng.integers(0, 256, (12, 16, 16), dtype=np.uint8)
    write_store(root / "stores" / "16", images, records[["image_id"]])
    return root


def train(code: Path, data: Path, folder: Path, epochs: int, *more: str) -> tuple[str, dict[str, str]]:
    """The gan stage of a copy of the code: what it prints, and the outs' sums."""
    words = (
        f"--epochs {epochs} --state {folder}/state --split {data} --generator pneumonia --size 16 --width 4 --batch 4 "
    )
    words += f"--records {data}/records.parquet --stores {data}/stores --model {folder}/model --report {folder}/report"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-m", "stages.gan", *words.split(), *more]
    done = subprocess.run(run, cwd=code, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = sorted(p for name in ("model", "report") for p in (folder / name).rglob("*") if p.is_file())
    return done.stderr, {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def copy(folder: Path) -> Path:
    for name in ("cxr", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def edit(code: Path, name: str, before: str, after: str) -> None:
    text = (code / name).read_text(encoding="utf-8")
    assert before in text, (name, before)
    (code / name).write_text(text.replace(before, after), encoding="utf-8")


def reword(code: Path) -> None:
    edit(code, "cxr/gan/train.py", '"""The DCGAN\'s training,', '"""How the DCGAN trains,')
    edit(code, "cxr/gan/formats.py", "GRID = 8  # a", "GRID = 8  # One")
    edit(code, "cxr/gan/settings.py", "length of the noise vector", "numbers in the noise vector")
    edit(code, "cxr/gan/settings.py", "ge=0.0, le=0.999,", "ge=0.1, le=0.99,")


def rename(code: Path) -> None:
    (code / "cxr/gan/selection.py").rename(code / "cxr/gan/a_watch.py")
    edit(code, "cxr/gan/train.py", "import diffaugment, losses, selection", "import a_watch, diffaugment, losses")
    edit(code, "cxr/gan/train.py", "selection.", "a_watch.")


def add_an_option(code: Path) -> None:
    edit(code, "cxr/gan/settings.py", "NEUTRAL = {", 'NEUTRAL = {\n    "noise": 0.0,')
    field = '    noise: float = Field(0.0, ge=0.0, description="added to the images")\n'
    edit(code, "cxr/gan/settings.py", "    seed: int", field + "    seed: int")
    edit(
        code,
        "cxr/gan/train.py",
        "        fake = self.model_g",
        "        if s.noise:\n            x = x + s.noise\n        fake = self.model_g",
    )


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> Path:
    return copy(tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="module")
def shorter(code, data, tmp_path_factory) -> Path:
    """Where the training was kept after one epoch."""
    folder = tmp_path_factory.mktemp("shorter")
    train(code, data, folder, 1)
    return folder


@pytest.fixture(scope="module")
def whole(code, data, tmp_path_factory) -> dict[str, str]:
    """The outs of two epochs in one go."""
    return train(code, data, tmp_path_factory.mktemp("whole"), 2)[1]


@pytest.mark.parametrize("change", [reword, rename, add_an_option])
def test_an_edit_that_shapes_no_result_continues_to_the_same_bytes(change, data, shorter, whole, tmp_path):
    shutil.copytree(shorter / "state", tmp_path / "state")
    edited = copy(tmp_path / "code")
    change(edited)
    printed, outs = train(edited, data, tmp_path, 2)
    assert "continues from step 3 " in printed
    described = {"model/generator.json", "model/discriminator.json"} if change is add_an_option else set()
    assert {name for name in outs.keys() | whole.keys() if outs.get(name) != whole.get(name)} == described


def test_a_changed_constant_and_a_used_option_start_anew(data, shorter, tmp_path):
    shutil.copytree(shorter / "state", tmp_path / "state")
    edited = copy(tmp_path / "code")
    edit(edited, "cxr/gan/nets.py", "nn.LeakyReLU(0.2, inplace=True)", "nn.LeakyReLU(0.1, inplace=True)")
    printed, _ = train(edited, data, tmp_path, 1)
    assert "starts anew: changed since" in printed and ": code.cxr/gan/nets.py\n" in printed
    printed, _ = train(copy(tmp_path / "other"), data, tmp_path, 1, "--average", "0.5")
    assert "starts anew: changed since" in printed and "params.average" in printed
