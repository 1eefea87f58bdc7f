"""The stage extra_data on NIH's made tree, and what a training, its predictor and the external test make of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.classifier.formats import Model
from cxr.core.files import read_json, write_json
from cxr.core.guard import read_split
from cxr.core.store import open_store
from cxr.data.formats import Extra
from stages import classifier as classifier_stage
from stages import external, external_data, extra_data
from tests.data.sources import trees
from tests.make import write_split
from tests.predict.conftest import calibrated


def manifest(file: Path, kind: str, **more) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"kind": kind, "images": 1, "bytes": 1, "tables": {}} | more)
    return file


@pytest.fixture
def around(made, tmp_path):
    """Options of extra_data beside the entry: CheXpert's and RSNA's splits; NIH patient 3 is an RSNA test patient."""
    rows = pd.DataFrame({"image_id": ["x", "y"], "patient_id": ["00000003", "00000001"], "split": ["test", "train"]})
    write_split(tmp_path / "rsna", rows)
    return {
        "size": 32, "split": made / "split", "manifest": made / "manifest.json", "rsna_split": tmp_path / "rsna",
        "rsna_manifest": manifest(tmp_path / "rsna/manifest.json", "zip", patient_key="patient"),
        "external": tmp_path / "external", "out": tmp_path / "extra/nih", "state": tmp_path, "processes": 1,
    }  # fmt: skip


@pytest.fixture
def entry(tmp_path):
    return {"name": "nih", "dataset": "nih", "source": str(trees.nih(tmp_path / "nih"))}


def test_a_patient_of_rsnas_test_is_refused_and_left_out_where_the_entry_says_so(around, entry, capsys):
    with pytest.raises(ValueError, match="1 of its 3 patients are patients that heat maps and the ADGM are tested on"):
        extra_data.run(**around, **entry)
    assert not around["out"].exists()
    extra_data.run(**around, **entry, shared="leave_out")
    assert "3 to train on, 1 of 1 held-out patients, 0 without a label" in capsys.readouterr().out
    info = read_json(around["out"] / "dataset.json", None, Extra)
    assert (info.images, info.patients, info.held_out_images, info.held_out_patients) == (3, 2, 1, 1)
    assert info.split_sha256 == read_split(around["split"], "chexpert")[1].sha256
    table = pd.read_parquet(around["out"] / "table.parquet")
    assert table["image_id"].tolist() == open_store(around["out"] / "store/32").index["image_id"].tolist()
    assert table["target.pleural_effusion"].tolist() == [0, 0, 1] and not table["weight.fracture"].any()
    assert info.findings["cardiomegaly"].model_dump() == {"images": 3, "positives": 1, "answer": "same"}


def test_rsna_without_patients_beside_nih_is_refused_with_the_cure(around, entry):
    manifest(around["rsna_manifest"], "zip", patient_key="image")
    with pytest.raises(ValueError, match="nothing says whose image is whose: give data.rsna_patients, or remove it"):
        extra_data.run(**around, **entry, shared="leave_out")


def test_an_external_data_set_with_the_same_patients_is_refused(around, entry):
    external_data.run(**entry, size=32, out=around["external"] / "there", state=around["state"], processes=1)
    (around["external"] / "there/dataset.json").write_text(
        (around["external"] / "there/dataset.json").read_text().replace('"nih"', '"there"', 1)
    )
    with pytest.raises(ValueError, match="tested on in external there: .* or take there out of external"):
        extra_data.run(**around, **entry | {"part": "train"})
    shutil.rmtree(around["external"] / "there")
    external_data.run(
        **entry, size=32, out=around["external"] / "there", state=around["state"], processes=1, part="test"
    )
    extra_data.run(**around, **entry, part="train")  # NIH's official parts share no patient
    assert read_json(around["out"] / "dataset.json", None, Extra).images == 2


def test_chexperts_own_held_out_patients_are_refused(around):
    given = {"name": "again", "dataset": "chexpert", "source": "phantom", "patients": 60}
    with pytest.raises(ValueError, match="patients that the classifier is validated and tested on: write `shared:"):
        extra_data.run(**around, **given, site=1)
    extra_data.run(**around, **given)  # the second hospital has patients of its own, under the same numbers
    assert read_json(around["out"] / "dataset.json", None, Extra).patients == 60


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "../x"}, "data.extra: name = '../x': use letters, digits, _ and - alone"),
        ({"source": "phantom"}, "data.extra nih: the phantom is a chexpert, not a nih"),
        ({"part": "valid"}, "data.extra nih: NIH ChestX-ray14 has no image of the official part 'valid' here"),
        ({"dataset": "nhi"}, "unknown data set 'nhi'"),
        ({"mapping": "x.json"}, "data.extra nih: mapping is for rsna alone, and this is nih: leave it out"),
        ({"columns": ["path=a"]}, "data.extra nih: columns is for table alone, and this is nih"),
    ],
)
def test_a_wrong_entry_is_one_line(around, entry, change, problem):
    with pytest.raises(ValueError, match=problem):
        extra_data.run(**around, **entry | change)


@pytest.fixture
def trained(made, around, entry, tmp_path):
    """A classifier that was trained on NIH's two training patients as well: its folder."""
    extra_data.run(**around, **entry, shared="leave_out")
    return train(made, tmp_path)


def train(made, at, **options):
    classifier_stage.run(
        **{
            "table": made / "labels.parquet", "stores": made / "stores", "split": made / "split", "model": at / "model",
            "predictions": at / "predictions.parquet", "history": at / "history.csv", "backbone": "densenet_small",
            "size": 32, "epochs": 1, "batch": 9, "weights": "none", "precision": "32-true", "state": at / "state",
            "extra": ["nih"], "extra_data": at / "extra",
        }
        | options
    )  # fmt: skip
    return at


def test_a_training_has_the_extra_rows_and_held_out_images_stay(made, trained):
    meta = read_json(trained / "model/model.json", None, Model)
    before = read_json(made / "model/model.json", None, Model)
    assert meta.extra == ["nih"] and meta.train_images == before.train_images + 3 and before.extra == []
    old, new = (pd.read_parquet(at / "predictions.parquet") for at in (made, trained))
    assert old["image_id"].equals(new["image_id"]) and old["split_sha256"].equals(new["split_sha256"])
    assert not np.allclose(old["score.edema"], new["score.edema"], atol=1e-6)


def test_without_extra_data_a_training_is_what_it_was(made, trained, tmp_path):
    (tmp_path / "again").mkdir()
    train(made, tmp_path / "again", extra=[], extra_data=trained / "extra")
    for name in ("predictions.parquet", "model/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes()


def test_what_does_not_fit_a_training_is_one_line(made, trained, tmp_path):
    info = trained / "extra/nih/dataset.json"
    for options, problem in (
        ({"extra": ["nhi"]}, "classifier.extra has 'nhi', which data.extra does not name"),
        ({"extra": ["nih", "nih"]}, "classifier.extra names a data set twice"),
        ({"extra_data": None}, "classifier.extra needs --extra_data"),
    ):
        with pytest.raises(ValueError, match=problem):
            train(made, trained, **options)
    for change, problem in (({"split_sha256": "0"}, "another split"), ({"size": 48}, "images of 48 pixels")):
        good = info.read_text()
        info.write_text(json.dumps(json.loads(good) | change))
        with pytest.raises(ValueError, match=f"{problem}.*dvc repro extra_data@nih"):
            train(made, trained)
        info.write_text(good)


def test_the_predictors_card_names_it_and_an_external_test_leaves_its_patients_out(made, trained, around, entry):
    at = trained
    calibrated(made, model=at / "model", predictions=at / "predictions.parquet", out=at / "predictor",
               extra_data=at / "extra")  # fmt: skip
    card = (at / "predictor/README.md").read_text()
    assert "Among them 3 images of NIH ChestX-ray14 (nih), 2 patients, for 8 findings: Cardiomegaly, " in card
    external_data.run(**entry, size=32, out=at / "there", state=at, processes=1)
    given = {"predictor": at / "predictor", "data": at / "there", "table": made / "labels.parquet", "out": at / "out"}
    given |= {"manifest": made / "manifest.json", "trained_on": "chexpert", "precision": "32-true"}
    external.run(**given, extra_data=at / "extra")
    scored = pd.read_parquet(at / "out/predictions.parquet")
    assert scored["image_id"].tolist() == ["00000003_000.png"]
    with pytest.raises(ValueError, match="was trained on nih as well, which needs --extra_data"):
        external.run(**given)
