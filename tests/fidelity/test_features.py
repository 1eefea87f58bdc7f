"""What images look like to a trained net, with random weights in place of ImageNet's; and what is said where those
cannot be had.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision import transforms
from torchvision.models import Inception_V3_Weights, inception_v3

from cxr.classifier import net as classifier
from cxr.core.resize import resize
from cxr.fidelity import features
from stages import fidelity
from tests.fidelity.test_copies import JUDGE, cohort  # noqa: F401  (a fixture)

X = np.random.default_rng(0).integers(0, 256, (3, 40, 40), dtype=np.uint8)


def random_inception(**given):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return inception_v3(weights=None, init_weights=False, transform_input=True)


@pytest.fixture
def untrained(monkeypatch):
    """Random weights in torchvision's place."""
    monkeypatch.setattr("torchvision.models.inception_v3", random_inception)


def test_inceptions_features_are_torchvisions_pooled_ones(untrained):
    """Torchvision's own steps, one image after another: three channels, its normalisation, the net without its head."""
    net = features.Inception().train()
    mine = features.penultimate(net, X, features.SIZE, 2)
    assert mine.shape == (3, 2048) and mine.dtype == np.float32 and not net.training
    theirs = random_inception().eval()
    theirs.fc = torch.nn.Identity()
    preset = Inception_V3_Weights.IMAGENET1K_V1.transforms()
    assert preset.crop_size == [features.SIZE]
    normalise = transforms.Normalize(preset.mean, preset.std)
    for image, found in zip(X, mine, strict=True):
        gray = torch.from_numpy(resize(image, 299).copy()) / 255
        with torch.no_grad():
            expected = theirs(normalise(gray.expand(3, -1, -1))[None])[0]
        assert found == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-6 * expected.abs().max().item())


def test_features_repeat_and_do_not_depend_on_the_other_images(untrained):
    net = features.Inception()
    whole = features.penultimate(net, X, features.SIZE, 3)
    assert np.array_equal(whole, features.penultimate(net, X, features.SIZE, 3))
    assert np.allclose(whole[1:], features.penultimate(net, X[1:], features.SIZE, 1), rtol=1e-4)
    assert features.penultimate(net, X[:0], features.SIZE, 3).shape == (0, 2048)
    assert len(np.unique(whole, axis=0)) == 3


def test_the_classifiers_features_are_what_goes_into_its_last_layer():
    net = classifier.build("none", 0)
    mine = features.penultimate(net, X, 32, 2)
    block = torch.from_numpy(np.stack([resize(image, 32) for image in X]))[:, None] / 255
    with torch.no_grad():
        logits = net.net.classifier(torch.from_numpy(mine))
        assert mine.shape == (3, 1024) and torch.allclose(logits, net.eval()(block), atol=1e-5)


def no_route(*given, **also):
    raise OSError("no route to host")


def test_without_network_and_weights_there_is_one_line_with_the_cure(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_route)
    place = tmp_path / "hub" / "checkpoints"
    with pytest.raises(ValueError) as error:
        features.Inception()
    assert str(error.value) == (
        "Inception's ImageNet weights could not be had (no route to host): put inception_v3_google-0cc3c7bd.pth from "
        f"download.pytorch.org/models into {place}, or set fidelity.features to classifier"
    )


@pytest.mark.parametrize("torn", [b"", b"<html>not found</html>"])
def test_a_torn_file_in_the_cache_is_a_line_too(monkeypatch, tmp_path, torn):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "inception_v3_google-0cc3c7bd.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(torn)
    with pytest.raises(ValueError, match=f"could not be had .* put {file.name} .* fidelity.features to classifier"):
        features.Inception()


def test_a_machine_without_torchvision_is_told_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models", None)
    with pytest.raises(ValueError, match="fidelity.features = inception needs torchvision .* install it, or set"):
        features.Inception()


@pytest.mark.slow
def test_the_stage_judges_in_inceptions_features_without_the_classifier(stage, tmp_path, untrained):
    (tmp_path / "u_zeroes/model.json").unlink()
    assert stage(fidelity.run, f"{JUDGE} --features inception")[0] == 0
    found = json.loads((tmp_path / "fidelity/gan/pneumonia/fidelity.json").read_text())
    assert found["features"] == "inception" and set(found["memorisation"]["spaces"]) == {"features", "pixels"}
    halves = pd.read_csv(tmp_path / "fidelity/gan/pneumonia/halves.csv")  # 15 images of a half, 2,048 features
    assert len(halves) == 80 and np.isfinite(halves[["fid", "kid"]].to_numpy()).all() and (halves["fid"] >= 0).all()


def test_the_stage_without_the_weights_is_one_line_and_writes_nothing(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_route)
    code, errors = stage(fidelity.run, f"{JUDGE} --features inception")
    assert code == 1 and len(errors) == 1 and not (tmp_path / "fidelity").exists()
    assert "put inception_v3_google-0cc3c7bd.pth" in errors[0] and "set fidelity.features to classifier" in errors[0]
