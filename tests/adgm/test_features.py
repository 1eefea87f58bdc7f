"""The model of features and the control arms on them: what they read, what they choose, what they predict."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cxr.adgm.encoded import Encoded, Vectors
from cxr.adgm.fitted import LabelPropagation, Probe, Training
from cxr.adgm.nets import FeatureADGM, Gaussian
from cxr.adgm.run import FITTED
from cxr.core.files import sha256
from cxr.evaluation.predictions import read_adgm
from cxr.training.batches import in_order
from cxr.training.checkpoints import Checkpoints
from stages.adgm import run as stage
from tests.adgm.make import FIT, fit

IDS = [f"p{i:03d}" for i in range(60)]


def encoded(data) -> Encoded:
    return Encoded(data / "encoder", sha256(data / "split.parquet"))


def two_moons(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles in a plane, in turn; a straight line between them is wrong for some."""
    angle, y = np.random.default_rng(0).uniform(0, math.pi, n), np.arange(n) % 2
    z = np.stack([np.cos(angle) * (1 - 2 * y) + y, np.sin(angle) * (1 - 2 * y) + 0.4 * y], axis=1)
    return z + np.random.default_rng(1).normal(0, 0.05, z.shape), y


def test_scores_are_those_of_the_training_images(data):
    source = encoded(data)
    train = source.of(IDS[:40], IDS[:40])
    assert train.dtype == np.float32 and train.shape == (40, 6)
    assert np.allclose(train.mean(0), 0, atol=1e-5) and np.allclose(train.std(0), 1, atol=1e-5)
    raw = pd.read_parquet(data / "encoder" / "features.parquet").set_index("image_id")
    one = source.of(["p050"], IDS[:40])[0]
    expected = (raw.loc["p050"] - raw.loc[IDS[:40]].mean()) / raw.loc[IDS[:40]].std(ddof=0)
    assert one == pytest.approx(expected.to_numpy(), rel=1e-4)
    with pytest.raises(ValueError, match="1 images have no features, the first is 'q'"):
        source.of(["q"], IDS)
    with pytest.raises(ValueError, match="the encoder was trained under another split"):
        Encoded(data / "encoder", "0")


def test_vectors_stand_for_images():
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    vectors = Vectors(values)
    assert len(vectors) == 4 and vectors.size == 3
    places = torch.tensor([2, 0])
    assert torch.equal(vectors.pixels(vectors.drawn(places))[:, :, 0, 0], torch.tensor(values[[2, 0]]))
    assert torch.equal(torch.cat([x for _, x in in_order(vectors, 3)]).flatten(1), torch.tensor(values))


def test_the_model_of_features_has_the_bound_of_the_equations():
    """L of eq. 8 from the nets' own outputs, and U of eq. 9 as the sum over labels."""
    torch.manual_seed(0)
    net = FeatureADGM(size=5, classes=2, z_dim=3, a_dim=2).double().eval()
    x, y = torch.randn(3, 5, 1, 1, dtype=torch.float64), torch.tensor([1])
    noise_a, noise_z = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    terms = net(x, y, noise_a, noise_z)
    f = net.features(x)
    q_a = net.q_a(f["q_a"])
    a = q_a.sample(noise_a)

    def bound(i: int, label: int) -> torch.Tensor:
        one, hot = slice(i, i + 1), torch.eye(2, dtype=torch.float64)[label][None]
        q_z = net.q_z(f["q_z"][one], a[one], hot)
        z = q_z.sample(noise_z[one])
        p_x = net.p_x(z, hot)
        assert p_x.mu.shape == (1, 5, 1, 1)
        kl_a = Gaussian(q_a.mu[one], q_a.log_var[one]).log_prob(a[one]) - net.p_a(f["p_a"][one], z, hot).log_prob(
            a[one]
        )
        return -p_x.log_prob(x[one]) + math.log(2) + q_z.kl_standard() + kl_a

    assert terms.L.item() == pytest.approx(bound(0, 1).item())
    q = net.q_y(f["q_y"], a).exp()
    for k, i in enumerate((1, 2)):
        expected = sum(q[i, label] * (bound(i, label) + q[i, label].log()) for label in (0, 1))
        assert terms.U[k].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("variant", ["features", "features_supervised", *FITTED])
def test_an_arm_of_features_finds_the_class_that_they_hold(data, tmp_path, variant):
    result = fit(data, Checkpoints(tmp_path, {}), 30, "test", variant=variant, lr=5e-3, average=0.5, dropout=0.0)
    prob = result.predictions[["prob_last.0", "prob_last.1"]].to_numpy()
    assert len(prob) == 20 and np.allclose(prob.sum(1), 1, atol=1e-5)
    right = prob.argmax(1) == result.predictions["label"]
    assert right.mean() >= 0.9 and result.picture is None and result.agreement is None
    assert set(result.predictions["split"]) == {"valid", "test"}


def test_supervised_of_features_never_reads_an_unlabelled_image(data, tmp_path, monkeypatch):
    read, drawn = set(), Vectors.drawn
    monkeypatch.setattr(
        Vectors, "drawn", lambda self, rows: (len(self) == 50 and read.update(rows.tolist())) or drawn(self, rows)
    )
    fit(data, Checkpoints(tmp_path / "s", {}), 2, variant="features_supervised")
    assert read == set(range(16))
    fit(data, Checkpoints(tmp_path / "f", {}), 1, variant="features")
    assert read == set(range(50))


@pytest.mark.parametrize("variant", FITTED)
def test_a_fitted_arm_chooses_without_held_out_images_and_repeats(data, tmp_path, variant):
    with_test = fit(data, Checkpoints(tmp_path / "a", {}), 1, "test", variant=variant)
    without = fit(data, Checkpoints(tmp_path / "b", {}), 1, "unused", variant=variant)
    valid = with_test.predictions.query("split == 'valid'")
    pd.testing.assert_frame_equal(valid, without.predictions, check_exact=True)
    pd.testing.assert_frame_equal(with_test.history, without.history, check_exact=True)
    history = with_test.history
    assert with_test.info.candidate == history["candidate"][history["loss"].idxmin()]
    assert tuple(history["candidate"]) == FITTED[variant].candidates


def test_the_probe_is_the_logistic_regression_of_its_file():
    z, y = two_moons()
    z = z.astype(np.float32)
    model = Probe.fitted(Training(z, y[:40], np.arange(40)), 1.0)
    reference = LogisticRegression(C=1.0, max_iter=1000).fit(z[:40], y[:40])
    assert np.allclose(Probe.predicted(model, z), reference.predict_proba(z))
    layer = Probe.module(model)
    assert torch.allclose(
        torch.softmax(layer(torch.from_numpy(z)), 1), torch.tensor(Probe.predicted(model, z)).float(), atol=1e-5
    )
    three = Probe.module(Probe.fitted(Training(z, np.arange(40) % 3, np.arange(40)), 1.0))
    assert three.weight.shape == (3, 2)


def test_labels_propagate_along_what_lies_together():
    z, y = two_moons()
    data = Training(z, y[:6], np.arange(6))
    wrong = {}
    for arm, candidate in ((LabelPropagation, 10.0), (Probe, 1.0)):
        prob = arm.predicted(arm.fitted(data, candidate), z)
        wrong[arm] = float((prob.argmax(1) != y).mean())
    assert wrong[LabelPropagation] < 0.05 < wrong[Probe]


def test_where_no_label_reaches_every_class_is_as_likely():
    z = np.concatenate([np.zeros((4, 2)), np.full((4, 2), 9.0)]) + np.random.default_rng(0).normal(0, 0.1, (8, 2))
    model = LabelPropagation.fitted(Training(z, np.array([0, 1]), np.arange(2)), 2.0)
    prob = LabelPropagation.predicted(model, z)
    assert np.allclose(prob[4:], 0.5) and np.isfinite(prob).all()


def test_folds_keep_patients_together_and_one_patient_leaves_nothing_to_choose_on():
    z, y = two_moons(40)
    candidate, table = Probe.chosen(Training(z, y, np.zeros(40)), 0)
    assert candidate == Probe.candidates[3] and table["loss"].isna().all()
    # The label is the patient's alone, and each patient has a place of their own: nothing carries to other patients.
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 10)
    label = np.repeat(rng.permutation(20) % 2, 10)
    place = rng.normal(0, 1, (20, 30))[patients] + rng.normal(0, 0.01, (200, 30))
    candidate, table = Probe.chosen(Training(place, label, patients), 0)
    assert candidate == min(Probe.candidates)  # the strongest penalty; image-wise folds would choose the weakest


@pytest.mark.parametrize("variant", ["features", "probe"])
def test_stage_reads_features_and_writes_what_evaluate_reads(data, tmp_path, variant):
    paths = {"model": tmp_path / "model", "predictions": tmp_path / "p.parquet", "report": tmp_path / "report"}
    given = {"records": data / "records.parquet", "split": data, "state": tmp_path / "state", **paths}
    given |= FIT | {"classes": 3, "labels": 3, "epochs": 1, "variant": variant}
    with pytest.raises(ValueError, match=f"variant {variant} needs --features"):
        stage(**given, store=data / "stores" / "17")
    stage(**given, features=data / "encoder")
    assert len(read_adgm(paths["predictions"], 3, "")) == 10
    info = json.loads((paths["model"] / "model.json").read_text())
    assert info["n_labelled"] == 9 and (paths["model"] / "model.safetensors").is_file()
    assert (info["candidate"] in Probe.candidates) if variant == "probe" else info["net"] == "FeatureADGM"
    assert not (paths["report"] / "samples.png").exists() and (paths["report"] / "history.csv").is_file()
