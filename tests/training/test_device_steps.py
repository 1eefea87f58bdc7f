"""No step of a training waits for a GPU, and none copies to it more than once: on the meta device, where a number that
the host asks for is an error.
"""

import contextlib

import numpy as np
import pytest
import torch

from benchmarks import made_up
from benchmarks.densenet_step import labels
from cxr.adgm import samples, validate
from cxr.adgm.encoded import Vectors
from cxr.adgm.nets import ADGM
from cxr.adgm.run import TRAININGS
from cxr.adgm.settings import Settings as AdgmSettings
from cxr.adgm.train import Data
from cxr.adgm.variants import FEATURES
from cxr.classifier import net as classifier_net
from cxr.classifier.objectives import AucMargin, CrossEntropy, GroupDro
from cxr.classifier.settings import Settings as ClassifierSettings
from cxr.classifier.train import ClassifierTraining, Labelled
from cxr.diffusion.prior import Prior
from cxr.diffusion.settings import Settings as DiffusionSettings
from cxr.diffusion.train import DiffusionTraining
from cxr.encoder.settings import Settings as EncoderSettings
from cxr.encoder.train import EncoderTraining
from cxr.gan import selection
from cxr.gan.projection import ProjectionTraining
from cxr.gan.settings import Projection
from cxr.gan.settings import Settings as GanSettings
from cxr.gan.train import GanTraining
from tests.training.on_meta import META, Meta, NoFloat64, counted


def without_autocast(monkeypatch) -> None:
    """It does not know the meta device."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)


@pytest.fixture(autouse=True)
def no_optimiser(monkeypatch):
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: None)  # has no kernel for meta
    monkeypatch.setattr(selection, "Watch", lambda *_: None)
    without_autocast(monkeypatch)


def images(folder, n: int, size: int, resident: bool):
    made = made_up.noise(folder, n, size, META)
    made.resident = torch.empty((n, 1, size, size), dtype=torch.uint8, device=META) if resident else None
    return made


OBJECTIVES = {
    "cross entropy": CrossEntropy,
    "AUC margin": lambda: AucMargin([0.0] + [0.3] * 13, warmup_share=0.0),
    "group DRO": lambda: GroupDro([0, 1, 2] * 8),
}


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_classifiers(tmp_path, objective, resident):
    shots, table = images(tmp_path / "s", 24, 32, resident), labels(24)
    part = Labelled(table, shots)
    settings = ClassifierSettings(backbone="densenet_small", size=32, epochs=1, batch=4, average=0.9, flip=0.5)
    net = classifier_net.build("none", 0, 2, "densenet_small")
    training = ClassifierTraining(
        Meta(), net, part, part, OBJECTIVES[objective](), settings, select_on=[], steps=6, first_rows=None
    )
    count = counted(training, tmp_path, 6)
    assert count.copies == 2  # of two steps
    assert sum(count.ops.values()) / 2 < 700  # 603 when it was written; most are gradients added to an empty place


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_a_step_of_a_network_of_timm_waits_for_no_gpu(tmp_path, backbone):
    shots, table = images(tmp_path / "s", 24, 64, True), labels(24)
    settings = ClassifierSettings(backbone=f"timm:{backbone}", size=64, epochs=1, batch=4)
    net, part = classifier_net.build("none", 0, 2, settings.backbone), Labelled(table, shots)
    training = ClassifierTraining(
        Meta(), net, part, part, OBJECTIVES["cross entropy"](), settings, select_on=[], steps=6, first_rows=None
    )
    assert counted(training, tmp_path, 6).copies == 2


GANS = {
    "plain": {"loss": "minimax"},
    "mirrored": {"loss": "minimax", "flip": 0.5},
    "augmented": {"diffaugment": "color,translation,cutout", "spectral_norm": True, "average": 0.9},
    "R1": {"r1": 1.0, "loss": "hinge"},
    "WGAN-GP": {"loss": "wgan_gp"},
}


@pytest.mark.parametrize("options", GANS)
def test_the_gans(tmp_path, options):
    settings = GanSettings(size=16, batch=4, width=8, z_dim=8, channels=1, epochs=1, **GANS[options])
    vectors = np.ones((24, 3), np.float32) if options == "augmented" else None
    training = GanTraining(Meta(), images(tmp_path / "s", 24, 16, True), settings, 6, vectors, None)
    count = counted(training, tmp_path, 6)
    assert count.copies == 2
    assert not count.ops["index_put"] + count.ops["_index_put_impl_"] + count.ops["scatter_add"]


def test_the_projection_gan(tmp_path):
    settings = Projection(size=16, batch=4, width=8, z_dim=8, epochs=1, phase_in=0)
    vectors = np.ones((24, 3), np.float32)
    training = ProjectionTraining(Meta(), images(tmp_path / "s", 24, 16, True), settings, 6, vectors, None)
    assert counted(training, tmp_path, 6).copies == 2


def adgm(folder, variant: str, classes: int = 3):
    y = np.arange(6) % classes
    settings = AdgmSettings(
        variant=variant, classes=classes, labels=2, draw=0, size=17, batch=4, z_dim=3, a_dim=2, epochs=1, average=0.9
    )
    kind = TRAININGS[variant]
    if variant in FEATURES:
        train, valid = (Vectors(np.zeros((n, 6), np.float32), META) for n in (30, 9))
    else:
        train, valid = (images(folder / name, n, 17, True) for name, n in (("t", 30), ("v", 9)))
    return kind(kind.settle(settings), Meta(), Data(train, y, valid, np.arange(9) % classes, [1 / classes] * classes))


@pytest.mark.parametrize("variant", TRAININGS)
def test_the_adgms(tmp_path, variant):
    count = counted(adgm(tmp_path, variant), tmp_path, 6)
    assert count.copies == 2
    # An index's gradient is a sort on a GPU.
    assert not count.ops["index_put"] + count.ops["_index_put_impl_"] + count.ops["index_add"]


@pytest.mark.parametrize("prior", ["gaussian", "scalar"])
def test_the_diffusion_model(tmp_path, monkeypatch, prior):
    monkeypatch.setattr(Prior, "estimate", lambda *_: None)  # before the first step, of numbers
    settings = DiffusionSettings(size=32, batch=4, width=8, levels=2, blocks=1, epochs=1, prior=prior, flip=0.5)
    vectors = np.ones((24, 3), np.float32)
    training = DiffusionTraining(Meta(), images(tmp_path / "s", 24, 32, True), vectors, 0.5, settings, 6)
    count = counted(training, tmp_path, 6)
    assert count.copies == 2
    assert not count.ops["index_put"] + count.ops["_index_put_impl_"] + count.ops["scatter_add"]


def test_the_encoder(tmp_path):
    settings = EncoderSettings(size=17, batch=4, width=4, projected=4, epochs=1, cutout=0.3)
    count = counted(EncoderTraining(Meta(), images(tmp_path / "s", 24, 17, True), settings, 6), tmp_path, 6)
    assert count.copies == 2
    assert not count.ops["index_put"] + count.ops["_index_put_impl_"] + count.ops["scatter_add"]


# What is not a step: no float64 on the device -----------------------------------------------------------------------


def zeros_on_the_host(self):
    return torch.zeros(self.shape, dtype=self.dtype)


def test_validation_looks_and_agreement_compute_in_float64_on_the_host_alone(tmp_path, monkeypatch):
    monkeypatch.undo()
    without_autocast(monkeypatch)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: zeros_on_the_host(self) if self.is_meta else self)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: None)
    monkeypatch.setattr(samples, "READER_STEPS", 1)
    training = adgm(tmp_path, "corrected")
    shots = images(tmp_path / "g", 6, 16, True)
    with NoFloat64():
        selection.Watch(shots, shots, 0).look(np.zeros((4, 16, 16), np.uint8))
        for temperature in (0.5,):
            validate.validate(
                training.fabric, training.averaged, training.data.valid, training.y_valid, training.settings,
                alpha=1.0, shares=(1.0, 1.0), temperature=temperature, correction=training.correction,
            )  # fmt: skip
        net = ADGM(size=17, classes=3, z_dim=3, a_dim=2).to(META)
        y = np.arange(30) % 3
        samples.agreement(net, training.data.train, y, training.data.valid, np.arange(9) % 3, seed=0)
