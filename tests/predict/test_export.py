"""The ONNX file against the pipeline's own predictions and the predictor's numbers, by onnxruntime."""

import json
import sys

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from cxr.core.findings import SLUGS
from cxr.core.store import open_store
from cxr.predict import export
from cxr.predict.model import Predictor
from cxr.training.machine import fabric
from stages import export as stage
from tests.predict.conftest import make


@pytest.fixture(scope="module")
def file(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("onnx") / "model.onnx"
    stage.run(made / "predictor", out)
    return out


@pytest.fixture(scope="module")
def predictor(made):
    return Predictor(made / "predictor", fabric("32-true"), "predictor")


@pytest.fixture(scope="module")
def images(made):
    return np.array(open_store(made / "stores" / "32").images)


def test_the_network_that_is_exported_says_what_the_predictor_says(predictor, images):
    with torch.no_grad():
        x = torch.from_numpy(images[:20])[:, None].float() / 255
        score, probability, ratio = (part.numpy() for part in export.Whole(predictor).eval()(x))
    judged = predictor.judge(images[:20])
    np.testing.assert_allclose(score, judged.scores, atol=1e-6)
    np.testing.assert_allclose(probability, judged.probability, atol=1e-5)
    np.testing.assert_allclose(ratio, judged.ratio, rtol=1e-5)
    assert predictor.net.head.in_features > 1  # which stays as it was


@pytest.mark.slow
def test_scores_are_those_of_the_pipeline(made, file):
    own = pd.read_parquet(made / "predictions.parquet")
    store = open_store(made / "stores" / "32")
    given = export.run(file, np.array(store.images[store.rows(own["image_id"])]))
    expected = own[[f"score.{slug}" for slug in SLUGS]].to_numpy()
    assert len(own) == 45 and np.abs(given["score"] - expected).max() < 1e-4


@pytest.mark.slow
def test_probability_and_ratio_are_the_predictors_for_any_number_of_images(file, predictor, images):
    for n in (1, 3, 90):
        judged, given = predictor.judge(images[:n]), export.run(file, images[:n])
        np.testing.assert_allclose(given["probability"], judged.probability, atol=1e-4)
        np.testing.assert_allclose(given["ratio"], judged.ratio, rtol=1e-4)
        assert given["probability"].shape == (n, len(SLUGS)) and given["ratio"].shape == (n,)
    assert np.isnan(given["probability"]).any() and not np.isnan(given["probability"]).all()


@pytest.mark.slow
def test_metadata_give_the_operating_points(file, predictor, images):
    props = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert json.loads(props["findings"]) == list(SLUGS) and props["size"] == "32" and props["data"] == "phantom"
    limits = np.array([np.nan if (t := json.loads(props["thresholds"])[slug]) is None else t for slug in SLUGS])
    called = export.run(file, images)["score"] >= limits
    known = ~np.isnan(limits)
    near = np.abs(export.run(file, images)["score"] - limits) < 1e-5  # a threshold is a score of validation
    same = called == (predictor.judge(images).positive == 1)
    assert known.any() and (same | near)[:, known].all()


@pytest.mark.slow
def test_the_file_holds_no_path_and_nothing_beside_it(file, made):
    data = file.read_bytes()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert str(made).encode() not in data and b"site-packages" not in data and b"/home" not in data


@pytest.mark.slow
@pytest.mark.parametrize("field, factor", [("slope", 1.01), ("intercept", 1.05)])
def test_a_file_with_other_numbers_is_refused(file, predictor, field, factor, monkeypatch):
    changed = []
    for one in predictor.fitted:
        scaling = one.scaling and one.scaling._replace(**{field: getattr(one.scaling, field) * factor + 0.01})
        changed.append(one._replace(scaling=scaling))
    assert export.difference(predictor, file) < export.TOLERANCE
    monkeypatch.setattr(predictor, "fitted", changed)
    with pytest.raises(ValueError, match=r"differs from the predictor by .*, more than 0.0001"):
        export.difference(predictor, file)


def test_the_calibrated_logit_is_the_line_that_the_file_computes(predictor):
    scores = np.linspace(0.01, 0.99, 9)
    logit = np.log(scores / (1 - scores))
    known = 0
    for fitted in predictor.fitted:
        slope, intercept = export.line(fitted)
        expected = fitted.probability(scores)["calibrated"]
        np.testing.assert_allclose(1 / (1 + np.exp(-(slope * logit + intercept))), expected, atol=1e-9, equal_nan=True)
        known += not np.isnan(slope)
    assert known > 5


def test_without_the_packages_the_cure_is_named(predictor, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"pip install 'cxr\[onnx\]'"):
        export.write(predictor, tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="give a file that ends in .onnx"):
        stage.run(tmp_path, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["timm:test_resnet", "timm:test_convnext"])
def test_a_network_of_timm_is_trained_calibrated_and_exported(tmp_path, backbone):
    whole = make(tmp_path, backbone=backbone)
    of_timm = Predictor(whole / "predictor", fabric("32-true"), "predictor")
    export.write(of_timm, tmp_path / "model.onnx")
    assert export.difference(of_timm, tmp_path / "model.onnx") < export.TOLERANCE
