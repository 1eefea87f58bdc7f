"""Our DenseNet121 against torchvision's."""

import torch
from torchvision.models import densenet121

from cxr.classifier.densenet import DenseNet121


def test_same_names_same_function_as_torchvision():
    ours, theirs = DenseNet121(14), densenet121(num_classes=14)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert sum(p.numel() for p in ours.parameters()) == 6_968_206  # 6,953,856 and a head of 1024 x 14 + 14
    assert ours.embed(x).shape == (2, 1024)
