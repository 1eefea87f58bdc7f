"""The predictor's folder: whole, equal to evaluate's numbers, the same bytes each time, refusing what does not fit."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import sha256
from cxr.core.findings import SLUGS
from tests.predict.conftest import calibrated, predicted

FILES = {"model.safetensors", "model.json", "calibration.json", "features.safetensors", "README.md"}


def test_the_folder_is_whole_and_repeats_to_the_byte(made, tmp_path):
    folder = made / "predictor"
    assert {path.name for path in folder.iterdir()} == FILES
    calibrated(made, out=tmp_path / "again")
    assert sha256(tmp_path / "again") == sha256(folder)
    card = (folder / "README.md").read_text()
    assert "Trained on simulated patients" in card and re.search(r"\| Edema \| [01]\.\d\d \[", card)
    for name in ("Fracture", "Pleural Other"):  # without a positive in training; uncertain there, which is ignored
        assert f"| {name} | not trained on | not trained on |" in card


def test_counts_and_shares_are_those_of_the_tables(made):
    calibration = json.loads((made / "predictor/calibration.json").read_text())
    labels = pd.read_parquet(made / "labels.parquet")
    valid, train = (labels[labels["split"] == part] for part in ("valid", "train"))
    for slug in SLUGS:
        finding, truth = calibration["findings"][slug], valid[f"truth.{slug}"]
        assert (finding["valid_positives"], finding["valid_negatives"]) == ((truth == 1).sum(), (truth == 0).sum())
        if finding["trained_share"] is not None:
            assert finding["true_share"] == pytest.approx(train[f"truth.{slug}"].mean())
    edema = calibration["findings"]["edema"]
    scores = pd.read_parquet(made / "predictions.parquet").query("split == 'valid'").set_index("image_id")
    positive = scores["truth.edema"] == 1
    assert (scores.loc[positive, "score.edema"] >= edema["threshold"]).mean() >= 0.9
    assert (np.diff(edema["quantiles"]) >= 0).all() and len(edema["quantiles"]) == 21


def test_the_outlier_threshold_is_from_validation_and_states_what_it_costs(made, frontal):
    for folder, valid in ((made, 30), (frontal, 24)):
        numbers = json.loads((folder / "predictor/calibration.json").read_text())["outliers"]
        assert numbers["valid_images"] == valid and numbers["valid_refused"] == 0  # too few for one in a hundred
        assert numbers["views"] == ["frontal", "lateral"] and numbers["view_accuracy"] > 0.9
        assert 0 <= numbers["test_refused"] < 1 and numbers["images"] == 45


def test_predictions_of_another_split_or_network_are_refused(made, tmp_path):
    table = pd.read_parquet(made / "predictions.parquet")
    table.assign(split_sha256="0").to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="was made under another split; `dvc repro -f final@0` makes it again"):
        calibrated(made, predictions=tmp_path / "other.parquet", out=tmp_path / "out")
    table.assign(**{"score.edema": 1 - table["score.edema"].round()}).to_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(ValueError, match="not of one run"):
        calibrated(made, predictions=tmp_path / "wrong.parquet", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_copied_folder_predicts_and_a_mixed_one_is_refused(made, frontal, whole, tmp_path):
    copy = shutil.copytree(made / "predictor", tmp_path / "copied")
    _, table = predicted(made, made / "files", tmp_path / "out", copy)
    assert np.allclose(table["score.edema"], whole[1]["score.edema"], atol=1e-6, equal_nan=True)
    shutil.copyfile(frontal / "predictor/model.safetensors", copy / "model.safetensors")
    with pytest.raises(ValueError, match="calibration.json is of other weights; copy the whole folder again"):
        predicted(made, made / "files", tmp_path / "out", copy)
