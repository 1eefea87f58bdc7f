"""Training: exact resumption of every variant, what each variant sees, what ends in one clear line."""

import math
import signal
import subprocess
import sys
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.adgm import controls, train
from cxr.adgm.run import FITTED, TRAININGS
from cxr.adgm.settings import NEUTRAL, OPTIONAL, Settings
from cxr.adgm.variants import CONTROLS, LATENT, VARIANTS, Name
from cxr.training.average import Average
from cxr.training.batches import Images, cycled
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric
from tests.adgm.make import FIT, assert_same, fit, settings
from tests.closure import ROOT


@pytest.mark.parametrize("variant", TRAININGS)
def test_every_variant_resumes_to_the_same_numbers(data, tmp_path, variant):
    whole = fit(data, Checkpoints(tmp_path / "whole", {}), 2, variant=variant)
    stopped = Checkpoints(tmp_path / "stopped", {})
    stopped.signal = signal.SIGTERM
    with pytest.raises(SystemExit):  # after its first step, within the first epoch
        fit(data, stopped, 2, variant=variant)
    assert_same(whole, fit(data, Checkpoints(tmp_path / "stopped", {}), 2, variant=variant))
    assert ("KL_z" in whole.history) == (variant in LATENT)
    assert np.isfinite(whole.history.to_numpy()).all()


def test_a_longer_training_continues_a_shorter_one(data, tmp_path):
    whole = fit(data, Checkpoints(tmp_path / "whole", {}), 2)
    fit(data, Checkpoints(tmp_path / "parts", {}), 1)
    assert_same(whole, fit(data, Checkpoints(tmp_path / "parts", {}), 2))
    assert list(whole.history["epoch"]) == [1, 2] and list(whole.history["temperature"]) == [0.5, 1.0]
    assert whole.info.alpha == pytest.approx(50 / 16)
    last = whole.predictions[["prob_last.0", "prob_last.1"]].to_numpy()
    truth = [1 if i % 4 == 3 else 0 for i in range(60) if i % 6 == 5]
    assert whole.history["valid_acc"].iloc[-1] == pytest.approx((last.argmax(1) == truth).mean())


@pytest.mark.parametrize("variant", ["corrected", "mean_teacher"])
def test_a_test_part_is_predicted_and_changes_nothing(data, tmp_path, variant):
    """The same images once in no part, once in the test part; then with an interruption."""
    without = fit(data, Checkpoints(tmp_path / "without", {}), 2, "unused", variant=variant)
    whole = fit(data, Checkpoints(tmp_path / "whole", {}), 2, "test", variant=variant)
    pd.testing.assert_frame_equal(whole.history, without.history, check_exact=True)
    valid, test = (whole.predictions[whole.predictions["split"] == part] for part in ("valid", "test"))
    pd.testing.assert_frame_equal(valid, without.predictions, check_exact=True)
    assert list(test["image_id"]) == [f"p{i:03d}" for i in range(60) if i % 6 == 4] and whole.info.n_test == 10
    last, best = (test[[f"prob_{which}.0", f"prob_{which}.1"]].to_numpy() for which in ("last", "best"))
    assert np.allclose(last.sum(1), 1) and np.allclose(best.sum(1), 1)
    assert np.array_equal(last, best) == (whole.info.best_epoch == 2)

    stopped = Checkpoints(tmp_path / "stopped", {})
    stopped.signal = signal.SIGTERM
    with pytest.raises(SystemExit):
        fit(data, stopped, 2, "test", variant=variant)
    assert_same(whole, fit(data, Checkpoints(tmp_path / "stopped", {}), 2, "test", variant=variant))


def training(variant: str = "corrected", images: int = 50, **other) -> train.AdgmTraining:
    """A training that is not going to make a step."""
    data = train.Data(range(images), np.zeros(16, int), range(10), np.zeros(10, int), [0.5, 0.5])
    return TRAININGS[variant](settings(variant=variant, **other), fabric("32-true"), data)


def test_temperatures():
    linear = training(warmup_epochs=100.0)
    assert [linear.temperature(epoch, 0) for epoch in (0, 25, 100, 150)] == [0, 0.25, 1, 1]
    assert training(warmup_epochs=0.0).temperature(0, 0) == 1
    calls = training("paper_code", batch=2)
    assert [calls.temperature(0, step) for step in (0, 1)] == [(0.01, 0.02), (0.03, 0.04)]
    assert calls.steps == 17 and [calls.temperature(2, 15), calls.temperature(2, 16)] == [(0.99, 1.0), (1.0, 1.0)]


def test_the_published_code_drops_a_last_batch_of_one_image():
    assert training("corrected", batch=11).steps == 4 and training("paper_code", batch=11).steps == 3  # 34 images
    with pytest.raises(ValueError, match="paper_code needs two unlabelled images"):
        training("paper_code", images=17)


def test_a_training_is_shaped_by_the_settings_that_its_variant_reads():
    shared = Settings.model_fields.keys() - OPTIONAL - {"epochs"}
    for variant, names in {
        "corrected": {"likelihood_weight", "free_bits", "sample_weight"},
        "no_z": {"likelihood_weight"},
        "supervised": set(),
        "features": {"likelihood_weight", "free_bits"},
        "features_supervised": set(),
        "pseudo_label": {"threshold", "pseudo_weight"},
        "mean_teacher": {"consistency_weight", "teacher"},
        "fixmatch": {"threshold", "fixmatch_weight", "strong_geometry", "strong_jitter", "strong_cutout"},
    }.items():
        assert set(TRAININGS[variant].shaping(settings(variant=variant))) == shared | names
    for variant in ("paper", "paper_code"):
        one, other = (settings(variant=variant, likelihood_weight=w, average=w) for w in (0.1, 0.2))
        assert one == other
    assert [*TRAININGS, *FITTED] == list(VARIANTS) == list(get_args(Name))
    assert NEUTRAL.keys() < Settings.model_fields.keys()


@pytest.mark.parametrize("n", [4, 6, 7, 25])
def test_cycling_uses_each_labelled_image_once_a_pass(n):
    drawn = torch.cat([cycled(n, 6, step, 0, 1) for step in range(n)])  # n steps of 6: six passes
    passes = drawn.view(6, n)
    assert (passes.sort(dim=1).values == torch.arange(n)).all()
    assert len({tuple(p.tolist()) for p in passes}) > 1


def test_loss_that_is_not_finite_stops_with_place_and_cure(data, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"adgm@corrected-2-8-0: epoch 1, step 2 of 6: .*(L|J) = (nan|inf).*lower adgm.lr \(now 1e\+30\)",
    ):
        fit(data, Checkpoints(tmp_path, {}), 1, lr=1e30)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_control_losses_by_hand():
    log_q = torch.log(torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    equal = torch.ones(2)
    term = controls.pseudo_label(log_q, log_q, 0.8, equal)  # the first and the last are sure; the mean is over three
    assert term.item() == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 3)
    assert controls.pseudo_label(log_q, log_q, 0.95, equal).item() == 0
    # Where the first class is three times as common as in the labels: 27/28, 9/11 and 3/7, so the first two are sure.
    moved = controls.pseudo_label(log_q, log_q, 0.8, torch.tensor([1.5, 0.5]))
    assert moved.item() == pytest.approx(-(math.log(0.9) + math.log(0.6)) / 3)
    # Where it is a ninth: 1/2, 1/7, 1/37; the second and the third are sure to be of the second class.
    rare = controls.pseudo_label(log_q, log_q, 0.8, torch.tensor([0.2, 1.8]))
    assert rare.item() == pytest.approx(-(math.log(0.4) + math.log(0.8)) / 3)
    # FixMatch: the weak view's answer is the strong view's label, and gets no gradient.
    weak, strong = log_q.clone().requires_grad_(), log_q.flip(0).requires_grad_()
    term = controls.pseudo_label(strong, weak, 0.8, equal)
    assert term.item() == pytest.approx(-(math.log(0.2) + math.log(0.1)) / 3)
    term.backward()
    assert weak.grad is None and strong.grad is not None
    teacher = torch.log(torch.tensor([[0.7, 0.3], [0.6, 0.4], [0.5, 0.5]]))
    assert controls.consistency(log_q, teacher).item() == pytest.approx((2 * 0.04 + 2 * 0.09) / 6)


def first_step(where, folder, monkeypatch, variant):
    """The first step's labelled images as `variant` sees them, the net that it starts from, how many images it sees."""
    seen, built = [], []
    build = TRAININGS[variant].build

    def watched(chosen, data):
        net = build(chosen, data)
        built.append({name: v.clone() for name, v in net.state_dict().items()})
        net.q_y.trunk.register_forward_hook(lambda _, args, __: seen.append(args[0].clone()))
        return net

    monkeypatch.setattr(TRAININGS[variant], "build", staticmethod(watched))
    fit(where, Checkpoints(folder / variant, {}), 1, variant=variant)
    return seen[0][: FIT["batch"]], built[0], len(seen[0])


@pytest.mark.parametrize("variant", CONTROLS)
def test_a_control_arm_starts_as_the_adgms_classifier_and_sees_the_same_labelled_batch(
    data, tmp_path, monkeypatch, variant
):
    whole, start, both = first_step(data, tmp_path, monkeypatch, "corrected")
    alone, own, images = first_step(data, tmp_path, monkeypatch, variant)
    assert torch.equal(whole, alone) and images == (len(alone) if variant == "supervised" else both)
    assert own and all(torch.equal(value, start[name]) for name, value in own.items())
    assert {name.split(".")[0] for name in own} == {"q_a", "q_y"}


def test_supervised_never_reads_an_unlabelled_image(data, tmp_path, monkeypatch):
    read = set()
    drawn = Images.drawn
    monkeypatch.setattr(
        Images, "drawn", lambda self, rows: (len(self) == 50 and read.update(rows.tolist())) or drawn(self, rows)
    )
    fit(data, Checkpoints(tmp_path / "s", {}), 2, variant="supervised")
    assert read == set(range(16))
    fit(data, Checkpoints(tmp_path / "p", {}), 1, variant="pseudo_label")
    assert read == set(range(50))


def test_fixmatch_sees_a_weak_and_a_strong_view_of_the_same_images(data, tmp_path, monkeypatch):
    seen, weights = [], []
    build, unlabelled = controls.FixMatch.build, controls.FixMatch.unlabelled

    def watched(chosen, data):
        net = build(chosen, data)
        net.q_y.trunk.register_forward_hook(lambda _, args, __: seen.append(args[0].clone()))
        return net

    def weighed(self, log_q, batch):
        weights.append(unlabelled(self, log_q, batch)[0])
        return unlabelled(self, log_q, batch)

    monkeypatch.setattr(controls.FixMatch, "build", staticmethod(watched))
    monkeypatch.setattr(controls.FixMatch, "unlabelled", weighed)
    still = {"flip": 0.0, "rotate": 0.0, "shift": 0.0, "scale_min": 1.0, "scale_max": 1.0}
    fit(data, Checkpoints(tmp_path / "a", {}), 1, variant="fixmatch", strong_jitter=0.0, strong_cutout=0.0, **still)
    assert torch.allclose(seen[0][FIT["batch"] :], seen[1], atol=1e-6)  # nothing is moved or altered: the same images
    assert len(weights) == 6 and set(weights) == {1.0}  # whatever the temperature
    seen.clear()
    fit(data, Checkpoints(tmp_path / "b", {}), 1, variant="fixmatch")
    first, again = seen[1], seen[2]
    assert torch.equal(first, again) and not torch.allclose(seen[0][FIT["batch"] :], first, atol=0.1)
    assert (first == 0.5).float().mean() > 0.05  # cutouts


def test_the_teacher_follows_the_student(data, tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr(Average, "update", lambda self, step: moved.append((self.decay, step)))
    fit(data, Checkpoints(tmp_path, {}), 1, variant="mean_teacher", teacher=0.5)
    assert moved == [pair for step in range(6) for pair in ((0.9, step), (0.5, step))]


def test_what_leaves_nothing_to_train_on_is_one_clear_line(data, tmp_path):
    with pytest.raises(ValueError, match="adgm.beta = 0 leaves variant supervised no loss"):
        fit(data, Checkpoints(tmp_path, {}), 1, variant="supervised", beta=0.0)
    for words, message in ((["--variant", "vae"], "'vae' is not one of"), (["--threshold", "2"], "'--threshold'")):
        given = ["--classes", "2", "--labels", "3", "--draw", "0", "--records", "r", "--store", "s", "--split", "p"]
        given += ["--model", "m", "--predictions", "q", "--report", "h"]
        given = given + (words if "--variant" in words else ["--variant", "corrected", *words])
        done = subprocess.run(
            [sys.executable, "-m", "stages.adgm", *given], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
