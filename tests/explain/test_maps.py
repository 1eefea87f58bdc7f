"""Heat maps against hand numbers, CAM, and the axiom of completeness."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision import models

from cxr.classifier.net import UNIT_MEAN, UNIT_STD, Classifier
from cxr.core.findings import SLUGS
from cxr.explain import maps
from tests.data.pictures import smooth
from tests.explain.make import Bright, Linear


def classifier(backbone="densenet_small", classes=2):
    torch.manual_seed(0)
    return Classifier(UNIT_MEAN, UNIT_STD, classes, backbone).eval()


def blocks(size=32):
    """A black image with a white block in its upper right quarter."""
    image = np.zeros((size, size), np.uint8)
    image[: size // 2, size // 2 :] = 255
    return image


def test_grad_cam_of_a_net_whose_map_is_known():
    """Cells are 1 or 0, the mean gradient of a pooled map is its weight / 64."""
    image = blocks()
    heat = maps.heat_maps(Bright(), np.stack([image] * 3), [0, 1, 2], "grad_cam")
    cells = torch.tensor(image[::4, ::4] / 255.0)[None, None]
    grown = functional.interpolate(cells, (32, 32), mode="bilinear", align_corners=False)[0, 0].numpy()
    np.testing.assert_allclose(heat[0], grown / 64, atol=1e-6)
    np.testing.assert_allclose(heat[1], (1 - grown) / 64, atol=1e-6)
    # 1 - x - 3 x is positive where the cell is dark, negative where it is bright: cut at 0 before it is enlarged
    np.testing.assert_allclose(heat[2], (1 - grown) / 64, atol=1e-6)
    assert maps.feature_maps(Bright(), 32).cells == 8


def test_grad_cam_of_a_densenet_is_the_class_activation_map_of_zhou_2016():
    """With a global mean and one linear layer behind the last maps both are the same (Selvaraju et al. 2017, 3.1)."""
    net, image = classifier(), smooth(224, 224)
    layer = maps.feature_maps(net, 224)
    assert layer == (net.net.features, 7)
    k = 3
    with torch.no_grad():
        x = torch.from_numpy(image)[None, None].float() / 255
        last = torch.relu(net.net.features(x.expand(-1, 3, -1, -1).sub(net.mean).div(net.std)))
        cam = torch.relu(torch.einsum("c,nchw->nhw", net.head.weight[k], last) / 49)
        expected = functional.interpolate(cam[:, None], (224, 224), mode="bilinear", align_corners=False)[0, 0]
    heat = maps.heat_maps(net, image[None], [k], "grad_cam")[0]
    assert expected.max() > 0
    np.testing.assert_allclose(heat, expected.numpy(), atol=1e-6)


def test_three_classes_are_explained_by_positive_less_negative():
    net, image = classifier(classes=3), smooth(64, 64)
    x = torch.from_numpy(image)[None, None].float() / 255
    with torch.no_grad():
        three = net(x).view(len(SLUGS), 3)
        np.testing.assert_allclose(maps.Speaking(net)(x)[0], three[:, 1] - three[:, 0], atol=1e-6)


def test_integrated_gradients_of_a_linear_net_are_weight_times_pixel():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, 16, 16)).astype(np.float32)
    x = torch.from_numpy(rng.random((3, 1, 16, 16)).astype(np.float32))
    found = maps.integrated_gradients(Linear(weights), x, torch.tensor([1, 0, 1]))
    np.testing.assert_allclose(found, x[:, 0].numpy() * weights[[1, 0, 1]], atol=1e-6)


def test_integrated_gradients_sum_to_the_difference_from_a_black_image():
    net = maps.Speaking(classifier())
    x = torch.from_numpy(np.stack([smooth(64, 64), smooth(64, 64, 1)]))[:, None].float() / 255
    target = torch.tensor([0, 5])
    with torch.no_grad():
        difference = (net(x) - net(torch.zeros_like(x)))[[0, 1], target].numpy()
    total = maps.integrated_gradients(net, x, target).sum(axis=(1, 2))
    np.testing.assert_allclose(total, difference, atol=0.02 * np.abs(difference).max() + 1e-4)


@pytest.mark.parametrize("method", maps.METHODS)
def test_maps_do_not_depend_on_the_batch_and_leave_the_net_as_it_is(method, monkeypatch):
    net = classifier()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images = np.stack([smooth(64, 64, k) for k in range(3)])
    monkeypatch.setattr(maps, "STEPS", 4)
    heat = maps.heat_maps(net, images, [0, 4, 9], method)
    monkeypatch.setattr(maps, "BATCH", 1)
    np.testing.assert_allclose(maps.heat_maps(net, images, [0, 4, 9], method), heat, rtol=1e-3, atol=1e-6)
    one = maps.heat_maps(net, images[:1], [0, 4], method)
    np.testing.assert_allclose(one, maps.heat_maps(net, images[[0, 0]], [0, 4], method), rtol=1e-3, atol=1e-6)
    assert heat.shape == images.shape and heat.dtype == np.float32 and heat.min() >= 0 and heat.max() > 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("size, cells", [(64, 8), (96, 12), (112, 7), (224, 7)])
def test_smaller_images_are_explained_by_earlier_maps(size, cells):
    assert maps.feature_maps(classifier(), size).cells == cells


@pytest.mark.parametrize(
    "backbone, name",
    [
        ("resnet18", "layer2"), ("mobilenet_v3_small", None), ("timm:test_resnet", "layer2"),
        ("timm:test_convnext", "stages.1"), ("timm:test_efficientnet", "blocks.2"),
    ],
)  # fmt: skip
def test_other_backbones_have_maps(backbone, name):
    net = classifier(backbone)
    layer = maps.feature_maps(net, 64)
    assert layer.cells >= maps.CELLS and (name is None or layer.module is net.net.get_submodule(name))
    heat = maps.heat_maps(net, smooth(64, 64)[None], [1], "grad_cam")
    assert np.isfinite(heat).all()


def test_without_feature_maps_grad_cam_is_refused():
    with pytest.raises(ValueError, match="which a VisionTransformer has not; integrated_gradients reads it"):
        maps.feature_maps(models.VisionTransformer(32, 8, 1, 2, 16, 32), 32)
    with pytest.raises(ValueError, match="which a VisionTransformer has not"):
        maps.feature_maps(classifier("timm:test_vit"), 160)
    with pytest.raises(ValueError, match="7 x 7 cells: 6 px are too few"):
        maps.feature_maps(Bright(), 6)


def test_scaled_maps_reach_one_or_stay_empty():
    heat = np.zeros((2, 4, 4), np.float32)
    heat[0, 1, 2] = 0.02
    assert maps.scaled(heat)[0].max() == 1 and not maps.scaled(heat)[1].any()
    assert maps.heat_maps(Bright(), np.zeros((0, 32, 32), np.uint8), [], "grad_cam").shape == (0, 32, 32)
