"""The self-supervised encoder: its loss by hand, what it sees, exact resumption, its outs."""

import json
import math
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torchvision.models import densenet121

from cxr.adgm.encoded import Encoded
from cxr.core.store import open_store, write_store
from cxr.encoder.net import Backbone, Frozen, build, nt_xent, stages_of
from cxr.encoder.run import load
from cxr.encoder.settings import NEUTRAL, Settings
from cxr.encoder.train import EncoderTraining, encode, fit
from cxr.training import loop, pretrained
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric
from stages.encoder import run as stage
from tests.make import write_split

TINY = Settings(size=17, epochs=2, batch=8, width=4, projected=4, average=0.9)
N = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A store of N images of 17 x 17, each a spot at a place of its own, and a split: the last ten are held out."""
    root, rng = tmp_path_factory.mktemp("encoder"), np.random.default_rng(0)
    images = rng.integers(0, 60, (N, 17, 17)).astype(np.uint8)
    for k in range(N):
        images[k, 2 * (k % 6) + 1 : 2 * (k % 6) + 5, k // 6 + 2 : k // 6 + 6] += 150
    ids = [f"i{k:02d}" for k in range(N)]
    write_store(root / "stores" / "17", images, pd.DataFrame({"image_id": ids}))
    parts = ["train"] * 30 + ["valid"] * 5 + ["test"] * 5
    write_split(root, pd.DataFrame({"image_id": ids, "patient_id": ids, "split": parts}))
    return root


def images_of(data, first=0, last=30) -> Images:
    return Images([open_store(data / "stores" / "17")], [f"i{k:02d}" for k in range(first, last)])


def test_maps_end_at_a_side_of_five_or_less():
    assert [stages_of(size) for size in (17, 33, 65, 113, 225)] == [2, 3, 4, 5, 6]
    for size in (17, 33, 113):
        net = Backbone(size, 4).eval()
        assert net(torch.rand(2, 1, size, size)).shape == (2, 16) and net.features == 16


def test_nt_xent_by_hand():
    """Two images: the views of the first agree, those of the second are at a right angle."""
    z = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-3.0, 0.0]])
    t, e = 0.5, math.exp
    first = -math.log(e(1 / t) / (e(0) + e(1 / t) + e(-1 / t)))  # of each of its two views
    second = math.log(3)  # from (0, 1) all others are at a right angle
    fourth = -math.log(e(0) / (e(-1 / t) + e(0) + e(-1 / t)))
    loss, matched = nt_xent(z, t)
    assert loss.item() == pytest.approx((2 * first + second + fourth) / 4)
    assert 0.5 <= matched.item() <= 1  # the second's first view is as near to all
    equal, _ = nt_xent(torch.ones(8, 3), 0.1)
    assert equal.item() == pytest.approx(math.log(7))


def test_nt_xent_against_the_plain_sum_of_the_paper():
    z = torch.randn(10, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2) / 0.3
    total = 0.0
    for i in range(10):
        others = [cosine[i, k].exp() for k in range(10) if k != i]
        total -= float(torch.log(cosine[i, (i + 5) % 10].exp() / sum(others)))
    assert nt_xent(z, 0.3)[0].item() == pytest.approx(total / 10)


def test_a_training_resumes_to_the_same_numbers_and_a_longer_one_continues_it(data, tmp_path):
    def trained(folder, epochs, stopping=False):
        checkpoints = Checkpoints(folder, {})
        checkpoints.signal = signal.SIGTERM if stopping else None
        settings = TINY.model_copy(update={"epochs": epochs})
        return fit(fabric("32-true"), images_of(data), checkpoints, settings, label="encoder")

    whole = trained(tmp_path / "whole", 2)
    with pytest.raises(SystemExit):
        trained(tmp_path / "parts", 1, stopping=True)
    trained(tmp_path / "parts", 1)
    again = trained(tmp_path / "parts", 2)
    pd.testing.assert_frame_equal(whole.history, again.history, check_exact=True)
    states = whole.net.state_dict(), again.net.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert list(whole.history) == ["epoch", "loss", "matched"] and np.isfinite(whole.history.to_numpy()).all()


def test_views_of_an_image_become_alike(data, tmp_path):
    changed = {"crop_min": 0.9, "rotate": 0.0, "flip": 0.0, "jitter": 0.2, "width": 8, "lr": 3e-3, "average": 0.0}
    training = EncoderTraining(fabric("32-true"), images_of(data), TINY.model_copy(update=changed | {"batch": 30}), 1)
    done = loop.run(training, Checkpoints(tmp_path, {}), label="encoder", epochs=60, steps=1, batch=30)
    loss, matched = (done.history[name].tail(5).mean() for name in ("loss", "matched"))
    assert loss < 0.7 * math.log(59) and matched > 0.1  # by chance ln 59 and 1 in 59


def test_two_views_are_of_the_same_images_and_differ(data, monkeypatch):
    seen = []
    training = EncoderTraining(fabric("32-true"), images_of(data), TINY, 3)
    training.net.backbone.register_forward_hook(lambda _, args, __: seen.append(args[0].clone()))
    training.update(training.draw(0, 0), ())
    training.update(training.draw(0, 0), ())
    still = {"crop_min": 1.0, "flip": 0.0, "rotate": 0.0, "shift": 0.0, "jitter": 0.0}
    plain = EncoderTraining(fabric("32-true"), images_of(data), TINY.model_copy(update=still), 3)
    plain.net.backbone.register_forward_hook(lambda _, args, __: seen.append(args[0].clone()))
    plain.update(plain.draw(0, 0), ())
    moved, again, same = seen
    assert torch.equal(moved, again) and not torch.allclose(moved[:8], moved[8:], atol=0.05)
    assert same.shape == (16, 1, 17, 17) and torch.allclose(same[:8], same[8:], atol=1e-6)


def test_features_depend_on_no_other_image(data):
    net = build(17, 4, 4, seed=0).backbone
    machine = fabric("32-true")
    every = encode(machine, net, images_of(data, 0, N))
    assert every.shape == (N, 16) and every.dtype == torch.float32
    assert torch.allclose(encode(machine, net, images_of(data, 7, 12)), every[7:12], atol=1e-5)


def test_stage_writes_the_features_of_all_images_and_trains_on_the_training_images_alone(data, tmp_path, monkeypatch):
    read, drawn = set(), Images.drawn
    monkeypatch.setattr(
        Images, "drawn", lambda self, rows: (len(self) < N and read.update(rows.tolist())) or drawn(self, rows)
    )
    paths = {"model": tmp_path / "model", "report": tmp_path / "report", "state": tmp_path / "state"}
    given = {"stores": data / "stores", "split": data, **TINY.model_dump(), "precision": "32-true"}
    stage(**given, **paths)
    assert len(read) > 24 and read <= set(range(30))
    table = pd.read_parquet(paths["model"] / "features.parquet")
    assert list(table) == ["image_id", *(f"feature.{k}" for k in range(16))] and len(table) == N
    info = json.loads((paths["model"] / "encoder.json").read_text())
    assert info["images"] == info["patients"] == 30 and info["features"] == 16
    assert info["split_sha256"] == json.loads((data / "split.json").read_text())["sha256"]
    assert (paths["report"] / "history.csv").read_text().startswith("epoch,loss,matched\n")
    with pytest.raises(ValueError, match=r"holds images of 17 px, not of encoder.size = 33"):
        (data / "stores" / "33").symlink_to(data / "stores" / "17")
        stage(**given | {"size": 33}, **paths)
    assert NEUTRAL.keys() < Settings.model_fields.keys()


def test_one_image_is_too_few(data, tmp_path):
    with pytest.raises(ValueError, match="1 training images are too few for an encoder"):
        fit(fabric("32-true"), images_of(data, 0, 1), Checkpoints(tmp_path, {}), TINY, label="encoder@0")


@pytest.fixture
def others(monkeypatch):
    """A DenseNet121 with random weights in place of ImageNet's, and one of a channel in place of torchxrayvision's."""
    torch.manual_seed(5)
    three, one = densenet121().eval(), densenet121(num_classes=18).eval()
    one.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    monkeypatch.setattr(pretrained, "imagenet", lambda backbone, setting: three.state_dict())
    monkeypatch.setattr(pretrained, "xrv", lambda start, setting: pretrained.Released(one.state_dict(), []))
    return {"imagenet": three, "xrv:densenet121-res224-mimic_ch": one}


@pytest.mark.parametrize("weights", ["imagenet", "xrv:densenet121-res224-mimic_ch"])
def test_others_networks_give_what_goes_into_their_last_layer(others, weights):
    theirs, x, given = others[weights], torch.rand(2, 1, 64, 64), []
    theirs.classifier.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (pretrained.IMAGENET_MEAN, pretrained.IMAGENET_STD))
        theirs((x.expand(-1, 3, -1, -1) - mean) / std if weights == "imagenet" else (2 * x - 1) * 1024)
        ours = Frozen(weights)(x)
    assert ours.shape == (2, 1024) and torch.allclose(ours, given[0], rtol=1e-3, atol=1e-4)


def test_a_stage_with_others_weights_trains_nothing_and_encodes_every_image(data, tmp_path, others):
    images = np.random.default_rng(2).integers(0, 255, (N, 33, 33)).astype(np.uint8)
    ids = [f"i{k:02d}" for k in range(N)]
    write_store(tmp_path / "stores" / "33", images, pd.DataFrame({"image_id": ids}))
    out = tmp_path / "encoder"
    given = TINY.model_dump() | {"size": 33, "weights": "imagenet", "precision": "32-true"}
    paths = {"model": out, "report": tmp_path / "report", "state": tmp_path / "state"}
    stage(stores=tmp_path / "stores", split=data, **given, **paths)
    about = json.loads((out / "encoder.json").read_text())
    assert about["images"] == 0 and about["loss"] is None and about["features"] == 1024
    assert not len(pd.read_csv(tmp_path / "report" / "history.csv"))
    assert Encoded(out, about["split_sha256"]).of(ids, ids[:30]).shape == (N, 1024)


@pytest.mark.parametrize(
    "weights, size, message",
    [
        ("xrv:densenet121-res224-nih", 224, "trained on X-rays of RSNA's patients.*choose xrv:.*mimic_ch"),
        ("xrv:densenet121-res224-all", 224, "trained on X-rays of RSNA's patients"),
        ("xrv:mine", 224, "trained on X-rays of RSNA's patients"),  # nobody knows whom it saw
        ("resnet", 224, "encoder.weights = 'resnet': give none, imagenet or xrv:<name>"),
        ("imagenet", 17, "needs 32 pixels or more"),
    ],
)
def test_weights_that_saw_the_test_patients_or_do_not_exist_are_refused(data, weights, size, message):
    settings = TINY.model_copy(update={"weights": weights, "size": size})
    with pytest.raises(ValueError, match=message):
        load(data, data / "stores" / "17", settings)
