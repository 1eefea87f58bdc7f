"""The download and resize stages as commands: what they write, that it repeats, and how they fail."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.files import sha256
from cxr.labels import FINDINGS
from cxr.sources import phantom
from cxr.store import open_store
from stages import download, resize
from stages.cli import main


def write_tree(path, *, patients, seed, processes=None):
    """A stand-in for the phantom: a CheXpert of small noise images in a zip, the last image of train cut short."""
    rng = np.random.default_rng(seed)
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
    with zipfile.ZipFile(path, "w") as archive:
        for split, ids in (("train", range(patients - 1)), ("valid", [patients - 1])):
            rows = [",".join(columns)]
            for i in ids:
                name = f"CheXpert-v1.0-small/{split}/patient{i:05}/study1/view1_frontal.jpg"
                stream = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (40, 50)).astype(np.uint8)).save(stream, "JPEG")
                archive.writestr(zipfile.ZipInfo(name), stream.getvalue()[: 400 if i == patients - 2 else None])
                rows.append(f"{name},Female,50,Frontal,AP" + "," * 14)
            archive.writestr(zipfile.ZipInfo(f"CheXpert-v1.0-small/{split}.csv"), "\n".join(rows))


@pytest.fixture
def stage(tmp_path, monkeypatch, capfd):
    """Run a stage with the options both share; returns its exit code and what it printed."""
    monkeypatch.setattr(phantom, "write_chexpert", write_tree)
    monkeypatch.setenv("CXR_STATE", str(tmp_path / "state"))

    def run(command, *options, source="phantom"):
        with pytest.raises(SystemExit) as stopped:
            main(command.run, ["--dataset", "chexpert", "--source", str(source), *map(str, options)])
        return stopped.value.code, "".join(capfd.readouterr())

    return run


def pack_options(tmp_path, *more):
    data = tmp_path / "data"
    return [
        "--records",
        data / "records.parquet",
        "--manifest",
        data / "manifest.json",
        "--out",
        tmp_path / "stores",
        *more,
    ]


def test_from_a_source_to_stores(stage, tmp_path):
    code, said = stage(
        download, "--out", tmp_path / "data", "--chexpert_patients", 50, "--rsna_patients", 30, "--seed", 3
    )
    assert code == 0 and "50 images of 50 patients from a phantom source" in said
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["recipe"] == {"patients": 50, "seed": 3} and manifest["images"] == 50
    assert str(tmp_path) not in (tmp_path / "data" / "manifest.json").read_text()

    options = pack_options(tmp_path, "--size", 32, "--size", 16, "--size", 32, "--max_rejected", 0.02)
    code, said = stage(resize, *options)
    assert code == 0 and "49 images at 16, 32 px" in said and "1 rejected" in said
    assert len(open_store(tmp_path / "stores" / "16")) == len(open_store(tmp_path / "stores" / "32")) == 49
    rejected = pd.read_csv(tmp_path / "stores" / "rejected.csv")
    assert rejected["image_id"].tolist() == ["train/patient00048/study1/view1_frontal"]

    # The same bytes again, also when the phantom's zip has to be made anew, and with another number of processes.
    before = sha256(tmp_path / "stores"), sha256(tmp_path / "data")
    for zipped in (tmp_path / "state" / "downloads").glob("*.zip"):
        zipped.unlink()
    assert stage(resize, *options, "--processes", 2)[0] == 0
    assert stage(download, "--out", tmp_path / "data", "--chexpert_patients", 50, "--seed", 3)[0] == 0
    assert (sha256(tmp_path / "stores"), sha256(tmp_path / "data")) == before


def test_failures_are_one_line_and_leave_what_was_there(stage, tmp_path):
    assert stage(download, "--out", tmp_path / "data", "--chexpert_patients", 50)[0] == 0
    options = pack_options(tmp_path, "--size", 16)
    code, said = stage(resize, *options, "--max_rejected", 0)
    assert code == 1 and "error: 1 of 50 images can't be read" in said and "patient00048" in said
    assert not (tmp_path / "stores").exists()
    assert stage(resize, *options, "--max_rejected", 0.1)[0] == 0
    before = sha256(tmp_path / "stores"), sha256(tmp_path / "data")

    code, said = stage(download, "--out", tmp_path / "data", source=tmp_path / "stores")
    assert code == 1 and "error: no CheXpert here: " in said and said.count("\n") == 1
    code, said = stage(resize, *options, "--size", 4)
    assert code == 1 and "--size" in said and "greater than or equal to 16" in said

    (tmp_path / "other").mkdir()
    with zipfile.ZipFile(next((tmp_path / "state" / "downloads").glob("*.zip"))) as archive:
        archive.extractall(tmp_path / "other")
    table = tmp_path / "other" / "CheXpert-v1.0-small" / "train.csv"
    table.write_text(table.read_text().replace("Female", "Male"))
    code, said = stage(resize, *options, source=tmp_path / "other")
    assert code == 1 and "train.csv in" in said and "run dvc repro -f download@chexpert" in said
    (tmp_path / "data" / "manifest.json").write_text("{")
    code, said = stage(resize, *options)
    assert code == 1 and "manifest.json: no readable JSON; `dvc repro -f download@chexpert`" in said
    assert sha256(tmp_path / "stores") == before[0]
