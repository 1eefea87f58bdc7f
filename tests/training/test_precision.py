"""What is computed in which precision: heads, inputs, and 16-mixed with its scaler in the state."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import made_up
from benchmarks.densenet_step import labels
from cxr.adgm.nets import ADGM
from cxr.classifier import net as classifier_net
from cxr.classifier import train
from cxr.classifier.objectives import CrossEntropy
from cxr.classifier.settings import Settings
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric
from cxr.training.wide import WideLinear


class Seen(nn.Module):
    """Remembers the type of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.types = nn.Linear(3, 2), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        self.types += [x.dtype, out.dtype]
        return out


@pytest.mark.parametrize(("precision", "inner"), [("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)])
def test_a_training_sees_the_pixels_that_its_validation_sees(precision, inner):
    machine, net = fabric(precision), Seen()
    model, _ = machine.setup(net, torch.optim.SGD(net.parameters(), 0.1))
    model(torch.rand(4, 3))
    with machine.autocast():
        net(torch.rand(4, 3))
    assert net.types == [torch.float32, inner] * 2


def bits(values: torch.Tensor) -> bool:
    """Whether every number has the eight bits of a bfloat16."""
    return torch.equal(values.float(), values.bfloat16().float())


def test_the_last_layers_have_float32s_digits():
    layer = WideLinear(64, 5)
    x = torch.randn(100, 64).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wide, narrow = layer(x), nn.Linear(64, 5)(x)
    assert wide.dtype == torch.float32 and not bits(wide) and narrow.dtype == torch.bfloat16
    assert torch.equal(wide, nn.functional.linear(x.float(), layer.weight, layer.bias))
    assert torch.equal(layer(x.float()), nn.functional.linear(x.float(), layer.weight, layer.bias))
    assert layer.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "backbone", ["densenet_small", "resnet18", "mobilenet_v3_small", "timm:test_resnet", "timm:test_convnext"]
)
def test_every_backbones_logits_are_float32s(backbone):
    net = classifier_net.build("none", 0, 2, backbone).eval()
    assert isinstance(net.head, WideLinear) and net.head is net.head
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(torch.rand(4, 1, 64, 64))
    assert logits.dtype == torch.float32 and not bits(logits)


def test_the_adgms_distributions_and_classes_are_float32s():
    torch.manual_seed(0)
    net = ADGM(size=17, classes=3, z_dim=3, a_dim=2).eval()
    heads = [net.q_a.mu, net.q_a.log_var, net.q_z.mu, net.p_a.log_var, net.q_y.out]
    assert all(isinstance(head, WideLinear) for head in heads)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.rand(4, 1, 17, 17)
        f = net.features(x, ("q_a", "q_y"))
        q_a = net.q_a(f["q_a"])
        assert not bits(q_a.mu) and not bits(net.q_y(f["q_y"], q_a.mu))


FIRST_SCALE = 16.0


def trained(folder, shots, table, epochs: int, minutes: float = 60.0) -> tuple[nn.Module, object]:
    settings = Settings(backbone="densenet_small", size=32, epochs=epochs, batch=4, lr=1e-3, seed=1)
    net = classifier_net.build("none", 0, 2, "densenet_small")
    part = train.Labelled(table, shots)
    machine = fabric("16-mixed")
    scaler = machine.strategy.precision.scaler  # it grows within the test, from where no gradient overflows
    scaler.load_state_dict(scaler.state_dict() | {"scale": FIRST_SCALE, "growth_interval": 2})
    made = train.fit(
        machine, net, part, part, Checkpoints(folder, {}, minutes), CrossEntropy(), settings, label="t", select_on=[]
    )
    return made.net, machine.strategy.precision.scaler


def test_16_mixed_continues_with_its_scaler(tmp_path):
    shots, table = made_up.noise(tmp_path / "s", 12, 32, "cpu"), labels(12)
    whole, scaler = trained(tmp_path / "a", shots, table, 3)
    trained(tmp_path / "b", shots, table, 2)
    resumed, other = trained(tmp_path / "b", shots, table, 3)
    assert scaler.get_scale() == other.get_scale() > FIRST_SCALE
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))
    assert np.isfinite([float(v.double().sum()) for v in whole.state_dict().values()]).all()
