"""The DCGAN's training: the loss, which generator is kept, when it stops, and that it repeats and resumes exactly."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.core.store import open_store, write_store
from cxr.gan import losses, nets, selection
from cxr.gan import train as dcgan_train
from cxr.gan.settings import Loss, Settings
from cxr.training.average import copy_of
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric


@pytest.fixture
def blobs(tmp_path) -> Images:
    """40 images of a bright disc on black: something that a GAN learns in seconds."""
    y, x = np.mgrid[:16, :16]
    centre = np.random.default_rng(0).uniform(6, 10, (40, 2))
    discs = np.stack([(((y - a) ** 2 + (x - b) ** 2) < 16) * 220 for a, b in centre]).astype(np.uint8)
    names = [f"i{n:02d}" for n in range(40)]
    write_store(tmp_path / "store", discs, pd.DataFrame({"image_id": names}))
    return Images([open_store(tmp_path / "store")], names)


def parts(blobs) -> tuple[Images, Images]:
    """Thirty to train on, ten to judge by."""
    names = blobs.stores[0].index["image_id"]
    return Images(blobs.stores, names[:30]), Images(blobs.stores, names[30:])


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


SETTINGS = Settings(batch=8, lr=2e-3, beta1=0.5, z_dim=8, width=8, channels=1, flip=0.5, sample_every=2, seed=3)


def train(blobs, folder, epochs, minutes=60, **changes) -> dcgan_train.Trained:
    given = {name: changes.pop(name) for name in ("vectors", "kept_back") if name in changes}
    settings = SETTINGS.model_copy(update=changes | {"epochs": epochs})
    checkpoints = Checkpoints(folder, {}, minutes=minutes)
    return dcgan_train.fit(fabric("32-true"), blobs, checkpoints, settings, label="gan", **given)


EVERYTHING = {
    "average": 0.9,
    "label_smoothing": 0.1,
    "spectral_norm": True,
    "saturating": True,
    "gain": 0.5,
    "diffaugment": "color,translation,cutout",
    "patience": 9,
    "stop_diversity": 1e-6,
}


LOSSES = {"hinge": {"loss": "hinge", "r1": 5.0, "diffaugment": "color"}, "wgan_gp": {"loss": "wgan_gp"}}


@pytest.mark.parametrize("chosen", ["plain", "everything", *LOSSES])
def test_a_longer_training_continues_a_shorter_one_exactly(blobs, tmp_path, chosen):
    options = {"plain": {}, "everything": EVERYTHING.copy(), **LOSSES}[chosen]
    if chosen == "everything":
        blobs, options["kept_back"] = parts(blobs)
        options["vectors"] = np.random.default_rng(0).integers(0, 2, (30, 3)).astype(np.float32)
    whole = train(blobs, tmp_path / "a", 5, **options)
    train(blobs, tmp_path / "b", 3, **options)
    longer = train(blobs, tmp_path / "b", 5, **options)
    assert whole.history.equals(longer.history) and list(whole.grids) == list(longer.grids) == [1, 2, 4, 5]
    assert all(np.array_equal(whole.grids[e], longer.grids[e]) for e in whole.grids)
    assert equal(whole.g, longer.g) and equal(whole.d, longer.d) and whole[4:] == longer[4:]
    again = train(blobs, tmp_path / "b", 3, **options)  # and a shorter one does not take the longer one's state
    assert len(again.history) == 3 and list(again.grids) == [1, 2, 3]


def test_an_interrupted_training_with_everything_on_ends_with_the_same_bytes(blobs, tmp_path, monkeypatch):
    """Stopped after its 4th, 6th and 11th step: in an epoch, at an epoch's end before the look, in the last epoch."""
    images, back = parts(blobs)
    options = EVERYTHING | {"kept_back": back}
    whole = train(images, tmp_path / "a", 4, **options)

    class Stopped(Exception):
        pass

    for last in (4, 6, 11):
        real = Checkpoints.step

        def step(self, state, position, last_step=last, real=real, **more):
            real(self, state, position, **more)
            if position == last_step:
                raise Stopped

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(Checkpoints, "step", step)
            train(images, tmp_path / "b", 4, minutes=0, **options)
    ended = train(images, tmp_path / "b", 4, **options)
    assert whole.history.equals(ended.history) and equal(whole.g, ended.g) and whole[4:] == ended[4:]


def planted(monkeypatch, looks: dict[int, tuple[float, float]]) -> None:
    """Looks that find the KID and diversity given, in turn of the epochs, whatever the generator makes."""
    found = iter(looks.values())
    monkeypatch.setattr(selection.Watch, "look", lambda *_: dict(zip(("kid", "diversity"), next(found), strict=True)))


def test_the_snapshot_with_the_least_kid_is_kept(blobs, tmp_path, monkeypatch):
    images, back = parts(blobs)
    kids = {1: (9.0, 1.0), 2: (3.0, 1.0), 4: (1.0, 1.0), 6: (2.0, 1.0), 7: (5.0, 1.0)}
    planted(monkeypatch, kids)
    chosen = train(images, tmp_path / "a", 7, kept_back=back)
    planted(monkeypatch, kids)
    four = train(images, tmp_path / "b", 4, kept_back=back)
    assert chosen.epoch == four.epoch == 4 and chosen.stopped is None and chosen.epochs == 7
    assert equal(chosen.g, four.g) and not equal(chosen.d, four.d)
    assert chosen.history.set_index("epoch")["kid"].dropna().to_dict() == {e: k for e, (k, _) in kids.items()}
    planted(monkeypatch, kids)
    last = train(images, tmp_path / "c", 7)
    assert last.epoch == 7 and not equal(last.g, chosen.g)


def test_no_better_kid_for_so_many_looks_stops_and_a_longer_training_stops_there_too(blobs, tmp_path, monkeypatch):
    images, back = parts(blobs)
    kids = {1: (9.0, 1.0), 2: (1.0, 1.0), 4: (2.0, 1.0), 6: (3.0, 1.0)}
    options = {"kept_back": back, "patience": 2}
    planted(monkeypatch, kids)
    made = train(images, tmp_path / "a", 20, **options)
    assert (made.epoch, made.epochs, made.stopped) == (2, 6, "no better KID in 2 looks") and len(made.history) == 6
    longer = train(images, tmp_path / "a", 50, **options)  # without a look: none is planted
    assert equal(made.g, longer.g) and made.history.equals(longer.history) and made[4:] == longer[4:]
    planted(monkeypatch, kids)
    train(images, tmp_path / "b", 4, **options)
    planted(monkeypatch, {6: kids[6]})
    after = train(images, tmp_path / "b", 20, **options)
    assert equal(made.g, after.g) and equal(made.d, after.d) and made.history.equals(after.history)


def constant(monkeypatch) -> None:
    """A generator that has collapsed: whatever z, the image of z = 0."""
    forward = nets.Generator.forward
    monkeypatch.setattr(nets.Generator, "forward", lambda self, z: forward(self, z * 0))


def test_a_collapsed_generator_stops_the_training(blobs, tmp_path, monkeypatch, capsys):
    constant(monkeypatch)
    images, back = parts(blobs)
    made = train(images, tmp_path, 20, kept_back=back, stop_diversity=0.05)
    assert made.epochs == 4 and "diversity below 5.0%" in made.stopped  # looks at 1, which does not count, 2 and 4
    assert made.history["diversity"].dropna().max() == 0
    printed = [line for line in capsys.readouterr().err.splitlines() if "collapsed" in line or "stopped" in line]
    assert len(printed) == 2 and "stopped after epoch 4 of 20: diversity below" in printed[1]


def test_without_images_to_judge_by_a_collapse_is_still_seen(blobs, tmp_path, monkeypatch, capsys):
    constant(monkeypatch)
    made = train(blobs, tmp_path, 6, stop_diversity=0.05)
    assert made.epoch == made.epochs == 6 and made.stopped is None and made.history["kid"].isna().all()
    assert capsys.readouterr().err.count("warning: the generated X-rays of epoch 2 have 0.0% of the real") == 1


def test_the_average_is_the_loops(blobs, tmp_path, monkeypatch):
    """Every tensor of the kept generator, by the formula, over the weights after each step."""
    seen = []
    real = dcgan_train.GanTraining.after
    watched = lambda self, *at: (seen.append(copy_of(self.g)), real(self, *at))  # noqa: E731
    monkeypatch.setattr(dcgan_train.GanTraining, "after", watched)
    made = train(blobs, tmp_path, 3, average=0.7)
    start, _ = nets.build(16, 8, 8, 1, seed=3)
    for name, value in made.g.state_dict().items():
        expected = start.state_dict()[name].double()
        for t, net in enumerate(seen):
            d = min(0.7, (1 + t) / (10 + t))
            expected = d * expected + (1 - d) * net.state_dict()[name].double()
        if value.is_floating_point():
            assert torch.allclose(value.double(), expected, atol=1e-5), name
        else:
            assert value == len(seen) == 15
    assert not equal(made.g, seen[-1])


def test_the_saturating_loss_is_what_is_trained_and_recorded(blobs, tmp_path):
    plain, printed = train(blobs, tmp_path / "a", 2), train(blobs, tmp_path / "b", 2, saturating=True)
    assert printed.history["loss_g"].max() < 0 < plain.history["loss_g"].min() and not equal(plain.g, printed.g)


def test_the_training_starts_from_the_gains_asked_for(blobs, tmp_path):
    flat = train(blobs, tmp_path / "c", 1, batch=40, lr=1e-12, gain=0.0)
    norms = [m for net in (flat.g, flat.d) for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert max(m.weight.abs().max() for m in norms) < 0.1  # five standard deviations


def test_a_conditional_gan_learns_what_its_label_means(blobs, tmp_path):
    """Bright images have the label, dark ones don't."""
    names = [f"b{k:02d}" for k in range(40)]
    dark = np.arange(40) % 2 == 0
    images = np.where(dark[:, None, None], blobs.stores[0].images // 4, blobs.stores[0].images)
    write_store(tmp_path / "two", images.astype(np.uint8), pd.DataFrame({"image_id": names}))
    both = Images([open_store(tmp_path / "two")], names)
    y = (~dark).astype(np.float32)[:, None]
    made = train(both, tmp_path / "s", 40, vectors=y)
    light = [nets.generate(made.g, 32, 8, 1, device="cpu", labels=np.full((32, 1), v, np.float32)) for v in (1.0, 0.0)]
    assert light[0].mean() > light[1].mean() + 10


OPTIONS = [{"diffaugment": "cutout"}, {"label_smoothing": 0.2}, {"spectral_norm": True}, {"r1": 1.0}]


@pytest.mark.parametrize("option", OPTIONS)
def test_each_stabiliser_changes_the_training(blobs, tmp_path, option):
    plain, other = train(blobs, tmp_path / "a", 1), train(blobs, tmp_path / "b", 1, **option)
    assert plain.history["loss_d"][0] != other.history["loss_d"][0]


@pytest.mark.parametrize("loss", get_args(Loss))
def test_it_learns_that_the_middle_is_bright(blobs, tmp_path, loss):
    trained = train(blobs, tmp_path, 25, loss=loss)
    history = trained.history
    made = nets.generate(trained.g, 64, 8, 9, device="cpu").astype(float)
    assert made[:, 6:10, 6:10].mean() > made[:, :2, :].mean() + 80
    assert history[["d_real", "d_fake"]].to_numpy().min() >= 0 and history["loss_d"].iloc[0] > 0


def test_r1_is_taken_at_every_sixteenth_step_of_the_whole_training(blobs, tmp_path, monkeypatch):
    """Five steps an epoch: at steps 0 and 16, also where the training stopped between them."""
    taken, real = [], losses.squared_slope
    monkeypatch.setattr(losses, "squared_slope", lambda d, x: taken.append(len(x)) or real(d, x))
    train(blobs, tmp_path, 2, r1=1.0)
    assert taken == [8]
    train(blobs, tmp_path, 4, r1=1.0)
    assert taken == [8, 8]


@pytest.mark.parametrize("options", [{"r1": 1.0}, {"loss": "wgan_gp"}])
def test_a_training_of_lower_precision_takes_its_penalty_in_float32(blobs, tmp_path, monkeypatch, options):
    taken, real = [], losses.slopes
    monkeypatch.setattr(losses, "slopes", lambda d, x: taken.append(real(d, x)) or taken[-1])
    settings = SETTINGS.model_copy(update=options | {"epochs": 1})
    made = dcgan_train.fit(fabric("bf16-mixed"), blobs, Checkpoints(tmp_path, {}, minutes=60), settings, label="gan")
    assert {slope.dtype for slope in taken} == {torch.float32} and all(slope.abs().max() > 0 for slope in taken)
    assert any(not torch.equal(slope, slope.bfloat16().float()) for slope in taken)  # no rounding on the way
    assert np.isfinite(made.history["loss_d"]).all()


def test_r1_flattens_the_discriminator_at_real_images(blobs, tmp_path):
    x = blobs.gather(torch.arange(40)).float() / 127.5 - 1
    slope = {}
    for r1 in (1e-9, 100.0):  # both without batch norm
        d = train(blobs, tmp_path / f"{r1}", 12, r1=r1).d
        slope[r1] = losses.squared_slope(d, x).item()
    assert slope[100.0] < slope[1e-9] / 3


def test_a_loss_that_is_not_finite_stops_with_the_cure(blobs, tmp_path):
    with pytest.raises(ValueError, match=r"gan: epoch \d, step \d of 5: .*loss_. = (nan|-?inf).*; lower gan.lr"):
        train(blobs, tmp_path, 5, lr=1e30)
