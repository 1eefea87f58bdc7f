"""The model of features and the control arms on them: what they read, what they choose, what they predict."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cxr.adgm.encoded import Encoded, Vectors
from cxr.adgm.feature_nets import FeatureADGM, FeatureDiscriminative
from cxr.adgm.fitted import CoresetProbe, LabelPropagation, Pool, Probe, Training, UncertainProbe
from cxr.adgm.nets import Gaussian
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


def test_the_classifier_of_features_is_logistic_regression_on_x_and_a():
    """The log odds of the middle of two points are the mean of theirs, in the ADGM and in its twin."""
    torch.manual_seed(0)
    for kind in (FeatureADGM, FeatureDiscriminative):
        net = kind(size=5, classes=2, z_dim=3, a_dim=2, dropout=0.5).double().eval()
        x, a = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
        odds = [net.q_y(x[i][None], a[i][None]) for i in (0, 1)] + [net.q_y(x.mean(0)[None], a.mean(0)[None])]
        odds = [(log_q[0, 1] - log_q[0, 0]).item() for log_q in odds]
        assert odds[2] == pytest.approx((odds[0] + odds[1]) / 2, rel=1e-9) and odds[0] != odds[1]


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


def pool(n=200, budget=20) -> Pool:
    z, y = two_moons(n)
    return Pool(z, y, np.arange(n).astype(object), budget)


@pytest.mark.parametrize("arm", [CoresetProbe, UncertainProbe])
def test_an_active_arm_asks_for_as_many_labels_as_it_may_and_for_none_twice(arm):
    data = pool()
    chosen = arm.chosen_images(data, 0)
    assert len(chosen) == len(set(chosen.tolist())) == 20
    assert np.array_equal(chosen, arm.chosen_images(data, 0))
    assert not np.array_equal(chosen, arm.chosen_images(data, 1))
    # What it does not ask for, it does not read: other classes and patients there change nothing.
    blind = np.isin(np.arange(200), chosen)
    other = data._replace(y=np.where(blind, data.y, 0), patients=np.where(blind, data.patients, "nobody"))
    other.y[np.flatnonzero(~blind)[0]] = 1
    assert np.array_equal(chosen, arm.chosen_images(other, 0))
    known = data.labelled(chosen)
    assert np.array_equal(known.z[:20], data.z[chosen]) and np.array_equal(known.y, data.y[chosen])
    assert np.array_equal(np.sort(known.z, axis=0), np.sort(data.z, axis=0))


def test_a_core_set_covers_more_than_chance():
    data = pool(400, 24)

    def radius(chosen):
        return np.min([np.linalg.norm(data.z - data.z[k], axis=1) for k in chosen], axis=0).max()

    drawn = [radius(np.random.default_rng(seed).permutation(400)[:24]) for seed in range(20)]
    assert radius(CoresetProbe.chosen_images(data, 0)) < min(drawn)


def test_the_unsure_images_lie_at_the_border():
    """Two clouds on a line with a gap: after the first fifth it asks for what is nearest to the middle."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    z = np.stack([rng.uniform(0.2, 2, 200) * (2 * y - 1), rng.normal(0, 0.1, 200)], axis=1)
    data = Pool(z, y, np.arange(200).astype(object), 40)
    chosen = UncertainProbe.chosen_images(data, 0)
    assert np.abs(z[chosen[8:], 0]).mean() < 0.6 * np.abs(z[:, 0]).mean()


def test_a_budget_without_a_class_is_refused_with_the_cure():
    data = pool()._replace(y=np.zeros(200, int) + 2 * (np.arange(200) == 7))
    with pytest.raises(ValueError, match="20 images drawn at random lack a class; raise"):
        CoresetProbe.chosen_images(data, 0)


def test_only_active_arms_choose():
    assert np.array_equal(Probe.chosen_images(pool(), 0), np.arange(20))
    assert np.array_equal(LabelPropagation.chosen_images(pool(), 0), np.arange(20))


@pytest.mark.parametrize("variant", ["features", "probe", "probe_uncertain"])
def test_stage_reads_features_and_writes_what_evaluate_reads(data, tmp_path, variant):
    paths = {"model": tmp_path / "model", "predictions": tmp_path / "p.parquet", "report": tmp_path / "report"}
    given = {"records": data / "records.parquet", "split": data, "state": tmp_path / "state", **paths}
    given |= FIT | {"classes": 3, "labels": 3, "epochs": 1, "variant": variant}
    with pytest.raises(ValueError, match=f"variant {variant} needs --features"):
        stage(**given, store=data / "stores" / "17")
    stage(**given, features=data / "encoder")
    assert len(read_adgm(paths["predictions"], 3, "")) == 10
    info = json.loads((paths["model"] / "model.json").read_text())
    assert info["n_labelled"] == sum(info["drawn"].values()) == 9 and (paths["model"] / "model.safetensors").is_file()
    assert (info["candidate"] in Probe.candidates) if variant in FITTED else info["net"] == "FeatureADGM"
    assert not (paths["report"] / "samples.png").exists() and (paths["report"] / "history.csv").is_file()
