"""A run's outs, its validation, its samples."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxr.adgm import samples
from cxr.adgm.nets import ADGM, Gaussian
from cxr.adgm.run import TRAININGS
from cxr.adgm.train import Data
from cxr.adgm.validate import validate
from cxr.core.store import open_store
from cxr.evaluation.predictions import read_adgm
from cxr.training.batches import Images
from cxr.training.machine import fabric
from stages.adgm import run as stage
from tests.adgm.make import FIT, TINY, draw_of, settings


def test_prediction_depends_on_the_prior_and_not_on_the_batch(data):
    net = ADGM(classes=2, **TINY)
    images = Images([open_store(data / "stores" / "17")], [f"p{i:03d}" for i in range(11)])
    y = torch.zeros(11, dtype=torch.int64)

    def judge(batch=2, correction=(1.0, 1.0)):
        given = {"alpha": 1.0, "shares": (1.0, 1.0), "temperature": 1.0, "correction": torch.tensor(correction)}
        return validate(fabric("32-true"), net, images, y, settings(batch=batch), **given)

    rows = [judge(2), judge(6)]
    assert torch.allclose(rows[0][1], rows[1][1], atol=1e-6)
    assert rows[0][0] == pytest.approx(rows[1][0], rel=1e-4)
    assert torch.allclose(rows[0][1].sum(1), torch.ones(11))
    moved = judge(correction=(0.8, 0.2))[1]  # the odds times 0.8 / 0.2
    assert torch.allclose(moved[:, 0] / moved[:, 1], 4 * rows[0][1][:, 0] / rows[0][1][:, 1], rtol=1e-4)


@pytest.mark.parametrize("variant", ["corrected", "supervised"])
def test_predictions_are_moved_from_the_shares_of_the_labels_that_were_drawn(data, variant):
    """20 labels of a class are asked for and two classes have fewer, so the labels are not drawn in equal shares."""
    chosen = settings(variant=variant, classes=3, labels=20)
    draw, store = draw_of(data, chosen), open_store(data / "stores" / "17")
    train, valid = (Images([store], part["image_id"]) for part in (draw.train, draw.valid))
    drawn = np.array(list(draw.drawn.values())) / sum(draw.drawn.values())
    assert drawn.max() > 1.5 * drawn.min()
    y = draw.y_labelled, draw.valid["label"].to_numpy()
    for prior in (draw.shares("training"), draw.shares("uniform"), drawn.tolist()):
        training = TRAININGS[variant](chosen, fabric("32-true"), Data(train, y[0], valid, y[1], prior))
        assert training.correction.numpy() == pytest.approx(np.array(prior) / drawn, rel=1e-6)
        training.end_epoch(0, {}, lambda: None)
        moved = training.last
        training.correction = torch.ones(3)
        training.end_epoch(0, {}, lambda: None)
        expected = training.last.numpy() * np.array(prior) / drawn
        assert moved.numpy() == pytest.approx(expected / expected.sum(1, keepdims=True), rel=1e-5)


@pytest.mark.parametrize("variant", ["corrected", "paper", "no_z", "features"])
def test_a_collapsed_z_is_one_line_with_its_cure(variant):
    kind = TRAININGS[variant]
    training = kind.__new__(kind)
    training.settings = settings(variant=variant)
    assert training.warning({"KL_z": 2.0, "active_z": 3}) is None
    for last in ({"KL_z": 0.05, "active_z": 1}, {"KL_z": 2.0, "active_z": 0}):
        line = training.warning(last)
        if variant == "no_z":
            assert line is None
        else:
            assert "z carries nothing" in line
            assert line.endswith("; raise adgm.likelihood_weight (now 0.1)") == (variant == "corrected")
            cure = "; raise adgm_of_features.likelihood_weight (now 0.1)"  # where dvc.yaml takes its value from
            assert line.endswith(cure) == (variant == "features")


def test_stage_writes_what_evaluate_reads(data, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "READER_STEPS", 1)
    paths = {"model": tmp_path / "model", "predictions": tmp_path / "p.parquet", "report": tmp_path / "report"}
    given = {"records": data / "records.parquet", "store": data / "stores" / "17", "split": data}
    given |= FIT | {"classes": 3, "labels": 3, "epochs": 1}
    stage(**given, **paths, state=tmp_path / "state")
    with pytest.raises(ValueError, match="holds images of 17 px, not of adgm.size = 21"):
        stage(**given | {"size": 21}, **paths, state=tmp_path / "state")
    table = read_adgm(paths["predictions"], 3, "")
    assert len(table) == 10 and set(table["split"]) == {"valid"}
    assert (paths["report"] / "history.csv").read_text().startswith("epoch,train_L,train_U,train_ce,train_J,train_acc,")
    assert Image.open(paths["report"] / "samples.png").size == (8 * 17, 3 * 17)
    assert (paths["model"] / "model.safetensors").is_file()
    info = json.loads((paths["model"] / "model.json").read_text())
    assert info["n_labelled"] == 9 and info["class_shares"] == [1 / 3] * 3 and "threshold" not in info


def test_agreement_tells_a_decoder_that_knows_the_classes_from_one_that_does_not(data):
    """Normal is dark in these images: a decoder that draws it dark agrees, one that draws the reverse never does."""
    draw, store = draw_of(data, settings()), open_store(data / "stores" / "17")
    parts = [draw.train, draw.valid]
    images = [Images([store], part["image_id"]) for part in parts]
    geometry = {"flip": 0.5, "rotate": 0.0, "scale": (1.0, 1.0), "shift": 0.0}
    net, shares = ADGM(classes=2, **TINY), []
    for levels in ([160 / 255, 60 / 255], [60 / 255, 160 / 255]):

        def drawn(z, y, levels=levels):
            mu = (y @ torch.tensor(levels)).view(-1, 1, 1, 1).expand(-1, 1, 17, 17)
            return Gaussian(mu, torch.zeros_like(mu))

        net.p_x.forward = drawn
        labels = [part["label"].to_numpy() for part in parts]
        judged = samples.agreement(net, images[0], labels[0], images[1], labels[1], seed=0, **geometry)
        shares.append(judged["agreement"])
        assert judged["real"] == 1.0 and judged["samples"] == 200 and judged["real_n"] == 10
    assert shares == [1.0, 0.0]


def test_an_image_counts_once_for_each_of_its_rows(tmp_path):
    table = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["a", "b"], "split": "valid", "split_sha256": "0"})
    table = table.assign(label=[0, 1], rows=[3, 1])
    for which in ("last", "best"):
        table[f"prob_{which}.0"], table[f"prob_{which}.1"] = [0.75, 0.5], [0.25, 0.5]
    table.to_parquet(tmp_path / "p.parquet")
    assert read_adgm(tmp_path / "p.parquet", 2, "adgm@x")["image_id"].tolist() == ["a", "a", "a", "b"]
    table.assign(rows=[0, 1]).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="rows is 0 for 'a', must be a whole number from 1 on; `dvc repro -f adgm@x`"):
        read_adgm(tmp_path / "p.parquet", 2, "adgm@x")
