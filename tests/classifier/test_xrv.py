"""torchxrayvision's weights as a start: the same features and scores, no file without its network."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import densenet121

from cxr.classifier import net as classifier_net
from cxr.classifier import xrv
from cxr.core.findings import SLUGS

# The order of torchxrayvision's outputs, from its documentation
TARGETS = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion",
    "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia", "Lung Lesion", "Fracture",
    "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    """A DenseNet121 of one channel and 18 outputs with random weights."""
    torch.manual_seed(3)
    net = densenet121(num_classes=18)
    net.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return net.double().eval()


@pytest.mark.parametrize("classes", [2, 3])
def test_features_and_shared_findings_are_theirs(theirs, classes):
    net = classifier_net.build("none", 0, classes).double().eval()
    before = net.head.weight.clone()
    xrv.adopt(net, theirs.state_dict(), TARGETS)
    x = torch.rand(2, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        pixels = (2 * x - 1) * 1024
        ours = net.net.features(x.expand(-1, 3, -1, -1).sub(net.mean).div(net.std))
        assert torch.allclose(ours, theirs.features(pixels), rtol=1e-4, atol=1e-6)
        if classes == 3:
            assert torch.equal(net.head.weight, before)
            return
        scores, expected = net(x), theirs(pixels)
    shared = {"pleural_effusion": 7, "pneumonia": 8, "lung_lesion": 14, "enlarged_cardiomediastinum": 17}
    for slug, column in shared.items():
        assert torch.allclose(scores[:, SLUGS.index(slug)], expected[:, column], rtol=1e-4, atol=1e-6)
    kept = [SLUGS.index(slug) for slug in ("no_finding", "pleural_other", "support_devices")]
    assert torch.equal(net.head.weight[kept], before[kept])


def test_another_backbone_and_another_name_are_refused(theirs):
    with pytest.raises(ValueError, match="set classifier.backbone to densenet121"):
        xrv.adopt(classifier_net.build("none", 0, backbone="densenet_small"), theirs.state_dict(), TARGETS)
    with pytest.raises(ValueError, match="choose from xrv:densenet121-res224-nih"):
        classifier_net.build("xrv:densenet121-res224-everything", 0)


def test_the_librarys_own_file_is_read(tmp_path, monkeypatch):
    models = pytest.importorskip("torchxrayvision").models
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".torchxrayvision" / "models_data"
    folder.mkdir(parents=True)
    url = models.model_urls["densenet121-res224-nih"]["weights_url"]
    torch.manual_seed(4)
    released = models.DenseNet(num_classes=18).eval()
    torch.save(released, folder / url.rsplit("/", 1)[-1])
    net = classifier_net.build("xrv:densenet121-res224-nih", 0).eval()
    x = torch.rand(1, 1, 224, 224)
    with torch.no_grad():
        expected = released((2 * x - 1) * 1024)[0, TARGETS.index("Pneumonia")]
        assert net(x)[0, SLUGS.index("pneumonia")].item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-4)
    outside = [SLUGS.index("lung_opacity"), SLUGS.index("fracture")]  # NIH labels neither
    plain = classifier_net.build("none", 0)
    assert np.allclose(net.head.weight.detach()[outside], plain.head.weight.detach()[outside])


def test_weights_that_cannot_be_fetched_say_which_file_goes_where(tmp_path, monkeypatch):
    pytest.importorskip("torchxrayvision")
    monkeypatch.setenv("HOME", str(tmp_path))

    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("requests.get", unreachable)
    with pytest.raises(ValueError, match=r"no route.*put .*\.pt from https://.* into ~/.torchxrayvision"):
        classifier_net.build("xrv:densenet121-res224-pc", 0)
