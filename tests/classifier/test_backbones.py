"""Other backbones and their published weights: torchvision's by name, timm's, and what is refused."""

import sys

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from cxr.classifier import backbones
from cxr.classifier import net as classifier_net
from cxr.classifier.formats import Model
from cxr.classifier.trained import layer_inputs, open_trained
from cxr.core.findings import SLUGS
from cxr.training import pretrained, weights
from tests.make import example

URLS = "torchvision.models._api.load_state_dict_from_url"
HUB = "timm.models._builder.load_state_dict_from_hf"


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_network_of_timm_is_built_saved_and_opened_with_its_head(tmp_path, name, classes):
    net = classifier_net.build("none", 0, classes, f"timm:{name}").eval()
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad(), layer_inputs(net.head) as features:
        logits = net(x)
    assert logits.shape == (2, len(SLUGS) * (3 if classes == 3 else 1)) and features[0].shape[0] == 2
    assert torch.equal(logits, net.head(torch.from_numpy(features[0])))
    meta = Model(**example(Model, backbone=f"timm:{name}", classes=classes, size=64))
    weights.save(tmp_path / "model.safetensors", net.state_dict(), meta)
    with torch.no_grad():
        assert torch.equal(open_trained(tmp_path, meta).eval()(x), logits)
    net.freeze()
    assert {name for name, value in net.named_parameters() if value.requires_grad} == {
        f"net.{net.head_name}.{part}" for part in ("weight", "bias")
    }
    classifier_net.check_size(net, 64)


def test_timms_weights_give_timms_features_of_a_gray_picture(tmp_path, monkeypatch):
    torch.manual_seed(3)
    theirs = timm.create_model("test_resnet").eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    asked = []
    monkeypatch.setattr(HUB, lambda place, **_: asked.append(place) or load_file(tmp_path / "model.safetensors"))
    x = torch.rand(2, 1, 96, 96)
    for start in ("r160_in1k", "imagenet"):
        net = classifier_net.build(start, 0, backbone="timm:test_resnet").eval()
        with torch.no_grad(), layer_inputs(net.head) as features:
            net(x)
            rgb = (x.expand(-1, 3, -1, -1) - 0.5) / 0.5  # as this network's own configuration says
            expected = theirs.forward_head(theirs.forward_features(rgb), pre_logits=True)
        assert torch.allclose(torch.from_numpy(features[0]), expected, atol=1e-5)
        assert net.mean.flatten().tolist() == [0.5] * 3
    assert asked == ["timm/test_resnet.r160_in1k"] * 2
    plain = classifier_net.build("none", 0, backbone="timm:test_resnet")
    assert torch.equal(net.head.weight, plain.head.weight), "the head is the project's own"


def test_timms_weights_that_cannot_be_fetched_say_what_to_fetch(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(HUB, unreachable)
    with pytest.raises(ValueError, match=r"OSError: no route.*`hf download timm/test_resnet.r160_in1k`"):
        classifier_net.build("r160_in1k", 0, backbone="timm:test_resnet")


@pytest.mark.parametrize(
    ("backbone", "start", "message"),
    [
        ("timm:resnet18.a1_in1k", "none", "write timm:resnet18, and a1_in1k into classifier.weights"),
        ("timm:resnt18", "none", "timm has no such model; near it: resnet18"),
        ("timm:levit_128s", "none", "it does not end in one linear layer"),
        ("timm:resnet18", "a4_in1k", "choose from none, imagenet, a1_in1k, a2_in1k"),
        ("timm:densenet264d", "imagenet", "nobody has published weights of timm:densenet264d"),
        ("resnet50", "a1_in1k", "choose from none, imagenet, IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"),
        ("densenet_small", "DEFAULT", "densenet_small has no such weights; set classifier.weights to none"),
        ("resnt18", "none", "torchvision has no such model; near it: resnet18.* timm's are called timm:<name>"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_with_the_choices(backbone, start, message):
    with pytest.raises(ValueError, match=message):
        classifier_net.build(start, 0, backbone=backbone)


def test_without_timm_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"'timm:resnet18' needs timm: pip install 'cxr\[timm\]'"):
        classifier_net.build("none", 0, backbone="timm:resnet18")


def test_no_network_of_timm_drops_layers_at_random():
    with torch.device("meta"):
        theirs, ours = (
            timm.create_model("swin_tiny_patch4_window7_224"),
            backbones.build("timm:swin_tiny_patch4_window7_224", 14),
        )
    rates = [[m.drop_prob for m in net.modules() if isinstance(m, timm.layers.DropPath)] for net in (theirs, ours)]
    assert any(rates[0]) and len(rates[0]) == len(rates[1]) and not any(rates[1])


@pytest.mark.parametrize("start", ["IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT", "imagenet"])
def test_torchvisions_weights_have_their_names(monkeypatch, start):
    theirs, asked = models.mobilenet_v3_large().state_dict(), []
    monkeypatch.setattr(URLS, lambda url, **_: asked.append(url) or theirs)
    net = classifier_net.build(start, 0, backbone="mobilenet_v3_large")
    assert torch.equal(net.net.features[0][0].weight, theirs["features.0.0.weight"])
    known = models.MobileNet_V3_Large_Weights
    assert asked == [(known.IMAGENET1K_V1 if start == "imagenet" else known[start]).url]
    assert net.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize("backbone", ["vit_h_14", "regnet_y_128gf"])
def test_imagenet_means_weights_of_224_pixels_where_there_is_no_first_version(monkeypatch, backbone):
    asked = []
    monkeypatch.setattr(models, "get_model", lambda _, weights: asked.append(weights.name) or nn.Linear(1, 1))
    pretrained.published(backbone, "imagenet", "classifier.weights")
    assert asked == ["IMAGENET1K_SWAG_LINEAR_V1"]


def test_weights_of_another_image_size_are_refused_with_the_choices(monkeypatch):
    theirs = models.resnet18().state_dict() | {"layer1.0.conv1.weight": torch.zeros(1)}
    found = pretrained.Published(theirs, pretrained.HALF, pretrained.HALF)
    monkeypatch.setattr(pretrained, "published", lambda *_: found)
    with pytest.raises(ValueError, match=r"do not fit resnet18 \(layer1.0.conv1.weight\).*choose from IMAGENET1K_V1"):
        classifier_net.build("DEFAULT", 0, backbone="resnet18")


def test_googlenets_weights_see_the_pixels_that_they_were_trained_on(monkeypatch):
    """torchvision's own network brings ImageNet's normalisation back to a mean and a deviation of a half."""
    theirs = models.googlenet(aux_logits=False, init_weights=False, transform_input=True).eval()
    whole = models.googlenet(init_weights=False).state_dict() | theirs.state_dict()
    monkeypatch.setattr(URLS, lambda *_, **__: whole)
    net = classifier_net.build("imagenet", 0, backbone="googlenet").eval()
    x = torch.rand(2, 1, 64, 64)
    rgb = (x.expand(-1, 3, -1, -1) - torch.tensor(pretrained.IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(
        pretrained.IMAGENET_STD
    ).view(3, 1, 1)
    theirs.fc = net.head
    with torch.no_grad():
        assert torch.allclose(net(x), theirs(rgb), atol=1e-4)
