"""From a CheXpert with its official test set to a split: download, split, as commands."""

import json

import pandas as pd
import pytest

from cxr.core.findings import FINDINGS
from stages import download, split
from stages.cli import main
from stages.options import RARE
from tests.data.sources.test_chexpert import HEADER, write
from tests.data.sources.test_official_test_set import add, add_reader


def rows(part, first, n, positive=()):
    """Rows of one image a patient; those at the places `positive` have every finding."""
    names = [f"CheXpert-v1.0-small/{part}/patient{first + i:05d}/study1/view1_frontal.jpg" for i in range(n)]
    cells = [",".join(["1.0" if i in positive else ""] * 14) for i in range(n)]
    return [f"{name},Male,50,Frontal,AP,{row}" for name, row in zip(names, cells, strict=True)]


@pytest.fixture
def source(tmp_path):
    """40 training patients, half of them positive; valid.csv with 2 positives of 6; 2 official test studies."""
    train, valid = rows("train", 1, 40, range(20)), rows("valid", 64541, 6, (0, 1))
    root = add(write(tmp_path / "chexpert", train, valid, HEADER, files=[*train, *valid]))
    add_reader(root, "bc4", {"patient64741": ("Edema",), "patient64742": ()})
    return root


@pytest.fixture
def stage(tmp_path, capfd, monkeypatch):
    """Download the source and split it; returns the exit code, the printed lines and split.json."""
    monkeypatch.setenv("CXR_STATE", str(tmp_path / "state"))
    stores = tmp_path / "stores"
    stores.mkdir()
    (stores / "rejected.csv").write_text("image_id,path,reason\n")

    def command(module, *options):
        with pytest.raises(SystemExit) as stopped:
            main(module.run, ["--dataset", "chexpert", *map(str, options)])
        return stopped.value.code, "".join(capfd.readouterr())

    def run(source, *options):
        code, printed = command(download, "--source", source, "--out", tmp_path / "data")
        assert code == 0, printed
        given = ["--records", tmp_path / "data/records.parquet", "--manifest", tmp_path / "data/manifest.json"]
        given += ["--stores", stores, "--out", tmp_path / "split"]
        rare = [word for name in RARE for word in ("--findings", name)]
        code, printed = command(split, *given, *rare, "--test_images", 5, "--valid_images", 12, *options)
        file = tmp_path / "split" / "split.json"
        return code, printed, json.loads(file.read_text()) if code == 0 else None

    return run


def test_auto_tests_on_the_official_set_and_validates_on_training_patients(source, stage, tmp_path):
    code, printed, info = stage(source)
    assert code == 0 and "validation is drawn from train.csv: valid.csv has 2 positives" in printed
    assert info["official"] == {"test": ["test"], "train": ["train"], "unused": ["valid"], "valid": ["train"]}
    assert {name: part["images"] for name, part in info["splits"].items()} == {
        "test": 3, "train": 28, "unused": 6, "valid": 12,
    }  # fmt: skip
    readers = pd.read_parquet(tmp_path / "data" / "readers.parquet")
    assert list(readers) == ["study_id", "reader", *FINDINGS] and readers["Edema"].tolist() == [1, 0]
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert "groundtruth.csv" in manifest["tables"] and "labels" not in manifest


def test_the_papers_choice_leaves_the_official_set_alone(source, stage):
    code, _, info = stage(source, "--test", "train", "--valid", "official")
    assert code == 0 and info["official"] == {
        "test": ["train"], "train": ["train"], "unused": ["test"], "valid": ["valid"],
    }  # fmt: skip
    assert info["splits"]["test"]["images"] == 5


def test_official_without_a_test_set_is_one_line(source, stage):
    (source / "groundtruth.csv").unlink()
    code, printed, _ = stage(source, "--test", "official")
    assert code == 1
    assert printed.splitlines()[-1].startswith("split: error: split.test = official, but the source lacks the official")
    assert len(printed.splitlines()) == 1


def test_an_empty_list_of_rare_findings_is_one_line(source, stage, tmp_path):
    """DVC passes nothing for an empty list."""
    stage(source)
    given = ["--records", tmp_path / "data/records.parquet", "--manifest", tmp_path / "data/manifest.json"]
    with pytest.raises(ValueError, match=r"^rare.findings is empty: name one"):
        split.run("chexpert", *given[1::2], tmp_path / "stores", tmp_path / "split")
