"""On a GPU alone: a training repeats, resumes, gives the same bytes as CUDA graphs and as single kernels, and
no step waits for the GPU.

python -m pytest -n 0 tests/test_cuda.py
"""

import functools
import re

import numpy as np
import pytest
import torch

from benchmarks import made_up
from benchmarks.densenet_step import labels
from cxr.adgm import train as adgm_train
from cxr.adgm.encoded import Vectors
from cxr.adgm.run import TRAININGS
from cxr.adgm.settings import Settings as AdgmSettings
from cxr.adgm.variants import FEATURES
from cxr.classifier import net as classifier_net
from cxr.classifier import train as classifier_train
from cxr.classifier.objectives import AucMargin, CrossEntropy, GroupDro
from cxr.classifier.settings import Settings as ClassifierSettings
from cxr.diffusion import net as diffusion_net
from cxr.diffusion import train as diffusion_train
from cxr.diffusion.settings import Settings as DiffusionSettings
from cxr.encoder import train as encoder_train
from cxr.encoder.settings import Settings as EncoderSettings
from cxr.gan import train as gan_train
from cxr.gan.projection import ProjectionTraining
from cxr.gan.settings import Projection
from cxr.gan.settings import Settings as GanSettings
from cxr.training import graphs, loop
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU is needed")
STEPS = 20  # of an epoch: more than a graph needs to be made and compared


def classifier(folder, checkpoints, epochs, precision, objective="cross_entropy"):
    machine, n = fabric(precision), 4 * STEPS
    part = classifier_train.Labelled(labels(n), made_up.noise(folder / "shots", n, 64, machine.device))
    settings = ClassifierSettings(size=64, epochs=epochs, batch=4, average=0.9, flip=0.5, rotate=5.0)
    chosen = {
        "cross_entropy": CrossEntropy,
        "auc_margin": lambda: AucMargin([0.3] * 14),
        "group_dro": lambda: GroupDro(np.arange(n) % 3),
    }[objective]()
    net = classifier_net.build("none", 0)
    made = classifier_train.fit(
        machine, net, part, part, checkpoints, chosen, settings, label="classifier", select_on=[]
    )
    return made.net.state_dict(), made.history


def gan(folder, checkpoints, epochs, precision, **options):
    machine = fabric(precision)
    shots = made_up.noise(folder / "shots", 8 * STEPS, 32, machine.device)
    settings = GanSettings(size=32, epochs=epochs, batch=8, width=16, z_dim=16, sample_every=1, **options)
    made = gan_train.fit(machine, shots, checkpoints, settings, label="gan")
    return made.g.state_dict() | {f"d.{name}": value for name, value in made.d.state_dict().items()}, made.history


def conditions(n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, (n, 5)).astype(np.float32)


def projection(folder, checkpoints, epochs, precision):
    machine, n = fabric(precision), 8 * STEPS
    shots = made_up.noise(folder / "shots", n, 32, machine.device)
    settings = Projection(size=32, epochs=epochs, batch=8, width=16, z_dim=16, sample_every=1, phase_in=epochs - 1)
    made = gan_train.fit(
        machine, shots, checkpoints, settings, label="projection", vectors=conditions(n), kind=ProjectionTraining
    )
    return made.g.state_dict() | {f"d.{name}": value for name, value in made.d.state_dict().items()}, made.history


def diffusion(folder, checkpoints, epochs, precision):
    pytest.importorskip("diffusers")
    machine, n = fabric(precision), 8 * STEPS
    shots = made_up.noise(folder / "shots", n, 32, machine.device)
    settings = DiffusionSettings(size=32, epochs=epochs, batch=8, width=16, average=0.9, flip=0.5, rotate=5.0)
    made = diffusion_train.fit(machine, shots, conditions(n), checkpoints, settings, label="diffusion")
    return made.net.state_dict(), made.history


def adgm(folder, checkpoints, epochs, precision, variant="corrected", **options):
    machine, y = fabric(precision), np.arange(12) % 3
    n = 12 + 4 * STEPS - 1  # and a smaller last batch
    if variant in FEATURES:
        stream = np.random.default_rng(0)
        shots, valid = (Vectors(stream.normal(size=(k, 24)).astype(np.float32), machine.device) for k in (n, 9))
    else:
        shots, valid = (made_up.noise(folder / name, k, 33, machine.device) for name, k in (("shots", n), ("valid", 9)))
    kind = TRAININGS[variant]
    settings = AdgmSettings(
        variant=variant,
        classes=3,
        labels=4,
        draw=0,
        size=33,
        batch=4,
        z_dim=8,
        a_dim=8,
        epochs=epochs,
        average=0.9,
        **options,
    )
    data = adgm_train.Data(shots, y, valid, np.arange(9) % 3, [1 / 3] * 3)
    training = kind(kind.settle(settings), machine, data)
    done = loop.run(training, checkpoints, label="adgm", epochs=epochs, steps=training.steps, batch=4)
    return training.averaged.state_dict(), done.history


def encoder(folder, checkpoints, epochs, precision):
    machine = fabric(precision)
    shots = made_up.noise(folder / "shots", 8 * STEPS, 33, machine.device)
    settings = EncoderSettings(size=33, epochs=epochs, batch=8, width=8, average=0.9, cutout=0.3)
    made = encoder_train.fit(machine, shots, checkpoints, settings, label="encoder")
    return made.net.state_dict(), made.history


CASES = {
    "classifier": classifier,
    "classifier, AUC margin": functools.partial(classifier, objective="auc_margin"),
    "classifier, group DRO": functools.partial(classifier, objective="group_dro"),
    "gan": gan,
    "gan, everything": functools.partial(
        gan, average=0.9, diffaugment="color,translation,cutout", spectral_norm=True, flip=0.5
    ),
    "gan, R1": functools.partial(gan, r1=1.0, loss="hinge"),
    "gan, WGAN-GP": functools.partial(gan, loss="wgan_gp"),
    "projection": projection,
    "diffusion": diffusion,
    "encoder": encoder,
    "adgm, samples": functools.partial(adgm, sample_weight=1.0),
} | {f"adgm, {variant}": functools.partial(adgm, variant=variant) for variant in TRAININGS}
PRECISIONS = ["32-true", "bf16-mixed"]


def same(one, other) -> bool:
    weights = all(torch.equal(value.cpu(), other[0][name].cpu()) for name, value in one[0].items())
    return weights and one[1].equals(other[1])


@pytest.fixture(autouse=True)
def bf16(request):
    if "bf16-mixed" in request.node.name and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bf16")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_a_graph_gives_the_bytes_of_single_kernels_and_both_repeat(case, precision, tmp_path, monkeypatch, capsys):
    graphed = [CASES[case](tmp_path, Checkpoints(tmp_path / f"g{k}", {}), 2, precision) for k in range(2)]
    assert "no CUDA graph" not in capsys.readouterr().err
    monkeypatch.setenv("CXR_GRAPHS", "0")
    eager = [CASES[case](tmp_path, Checkpoints(tmp_path / f"e{k}", {}), 2, precision) for k in range(2)]
    assert same(*graphed), "two trainings with graphs differ"
    assert same(*eager), "two trainings without graphs differ"
    assert same(graphed[0], eager[0]), "a graph differs from single kernels"


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_training_ends_with_the_same_bytes(case, tmp_path, monkeypatch):
    whole = CASES[case](tmp_path, Checkpoints(tmp_path / "whole", {}), 2, "32-true")

    class Stopped(Exception):
        pass

    step = Checkpoints.step

    def stopping(self, state, position, *, last=False):
        step(self, state, position, last=last)
        if position == 13:
            raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Checkpoints, "step", stopping)
        CASES[case](tmp_path, Checkpoints(tmp_path / "parts", {}, minutes=0), 2, "32-true")
    assert same(whole, CASES[case](tmp_path, Checkpoints(tmp_path / "parts", {}), 2, "32-true"))


@pytest.mark.parametrize("on", ["0", "1"])
@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_the_gpu(case, on, tmp_path, monkeypatch):
    """From the step after a graph is made on; with graphs and without."""
    monkeypatch.setenv("CXR_GRAPHS", on)

    class Done(Exception):
        pass

    def strict(self, state, position, *, last=False):
        if position == graphs.WARM + graphs.CHECKED + 3:
            torch.cuda.set_sync_debug_mode("error")
        if position == STEPS - 2:
            raise Done

    monkeypatch.setattr(Checkpoints, "step", strict)
    try:
        with pytest.raises(Done):
            CASES[case](tmp_path, Checkpoints(tmp_path / "state", {}), 1, "32-true")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_16_mixed_resumes_with_its_scaler(tmp_path):
    whole = classifier(tmp_path, Checkpoints(tmp_path / "a", {}), 3, "16-mixed")
    classifier(tmp_path, Checkpoints(tmp_path / "b", {}), 2, "16-mixed")
    assert same(whole, classifier(tmp_path, Checkpoints(tmp_path / "b", {}), 3, "16-mixed"))


def test_an_image_is_the_same_however_many_are_drawn(tmp_path):
    pytest.importorskip("diffusers")
    settings, y = DiffusionSettings(size=32, width=16, sampler_steps=4), conditions(6)
    fabric("32-true")
    net = diffusion_net.build(settings, y.shape[1]).to("cuda")
    few, again, more = (diffusion_net.sample(net, y[:n], settings, 0.5, 0, 1, device="cuda") for n in (3, 3, 6))
    assert np.array_equal(few, again) and np.array_equal(few, more[:3])


def test_the_benchmark_ends_with_a_table():
    import yaml

    from benchmarks import gpu

    preset = yaml.safe_load((gpu.ROOT / "presets" / "paper.yaml").read_text(encoding="utf-8"))
    preset["classifier"].update(size=32, batch=4)
    preset["gan"].update(size=32, batch=8, width=8)
    preset["adgm"].update(size=33, batch=3)
    preset["diffusion"].update(size=32, batch=4, width=8, levels=2, blocks=1)
    lines = list(gpu.rows(preset, 10, 20, gpu.VARIANTS))
    assert any(re.search(r"whole preset.* h|min", line) for line in lines)
