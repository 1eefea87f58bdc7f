"""Heat maps of a classifier: for an image and a finding, how much each place speaks for the finding.

    grad_cam              Selvaraju et al. 2017: feature maps, each weighted by its mean gradient, summed; positive part
    integrated_gradients  Sundararajan et al. 2017, from a black image on the line to the X-ray; positive part, smoothed

Integrated gradients are Captum's. Its Grad-CAM reads DenseNet's last maps before their ReLU, so that a map which is off
speaks for a finding that it speaks against; ours reads them after it, as CAM does (Zhou et al. 2016).

A heat map says what the network reacts to, not what the patient has.

Shapes: N images, M maps, S image size, K findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional
from torchvision import models

from cxr.core.findings import SLUGS

Method = Literal["grad_cam", "integrated_gradients"]
METHODS = get_args(Method)
CELLS = 7  # of the last feature maps of a 224 px image in a network that halves five times, as the paper's have
STEPS = 32  # points of the line that gradients are taken at
SMOOTHING = 0.02  # standard deviation as a share of the image's side
BATCH = 16  # images whose gradients are in memory at once
TINY = 1e-12  # added to maps of 0 and more, it lets their gradients pass a ReLU
# Their tokens lie in other orders than N x C x height x width.
TRANSFORMERS = (models.VisionTransformer, models.SwinTransformer, models.MaxVit)


class Layer(NamedTuple):
    """A layer whose outputs are feature maps N x C x cells x cells."""

    module: nn.Module
    cells: int


class Speaking(nn.Module):
    """Gray images N x 1 x S x S in [0, 1] -> N x K logits for each finding; of three classes positive less negative."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.net(x).float()
        if logits.shape[1] == 3 * len(SLUGS):
            negative, positive, _ = logits.view(-1, len(SLUGS), 3).unbind(2)
            return positive - negative
        return logits


def feature_maps(net: nn.Module, size: int) -> Layer:
    """The last feature maps with at least CELLS x CELLS cells.

    They are the network's last for images of 224 px, and earlier ones for smaller images, whose last maps would say
    little about where. Of the layers with these maps the outermost counts, of several the last. Raises ValueError for a
    network without maps.
    """
    _check_maps(net, size)
    seen: list[tuple[int, int, nn.Module]] = []

    def look(depth: int):
        def hook(module: nn.Module, _, output) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) >= CELLS:
                seen.append((min(output.shape[2:]), depth, module))

        return hook

    layers = [(name, module) for name, module in net.named_modules() if name]
    pools = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # may make more cells than there are
    hooks = [m.register_forward_hook(look(name.count("."))) for name, m in layers if not isinstance(m, pools)]
    try:
        net.eval()
        with torch.no_grad():
            net(torch.zeros(1, 1, size, size, device=next(net.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ValueError(f"Grad-CAM needs feature maps of {CELLS} x {CELLS} cells: {size} px are too few for them")
    outermost = min(one[:2] for one in seen)
    cells, _, module = [one for one in seen if one[:2] == outermost][-1]
    return Layer(module, cells)


def _check_maps(net: nn.Module, size: int) -> None:
    """Raise ValueError for a network whose features are tokens. A network of timm says itself what its features are."""
    kinds = [type(module).__name__ for module in net.modules() if isinstance(module, TRANSFORMERS)]
    of_timm = next((module for module in net.modules() if hasattr(module, "forward_features")), None)
    if of_timm is not None:
        with torch.no_grad():
            x = torch.zeros(1, 3, size, size, device=next(net.parameters()).device)
            found = of_timm.eval().forward_features(x)
        kinds += [] if found.ndim == 4 and found.shape[1] == of_timm.num_features else [type(of_timm).__name__]
    if kinds:
        raise ValueError(f"Grad-CAM needs feature maps, which a {kinds[0]} has not; integrated_gradients reads it")


def heat_maps(
    net: nn.Module, images: np.ndarray, findings: Sequence[int], method: Method, layer: nn.Module | None = None
) -> np.ndarray:
    """What speaks for the m-th finding in the m-th image: float32 M x S x S, at least 0.

    images: uint8 M x S x S, or one for all findings, 1 x S x S. findings: M places among the network's findings. layer:
    of feature_maps, which Grad-CAM reads; None: is looked for, which costs a forward pass. A map of zeros: nothing
    speaks for it. Computed in 32 bits on the network's device. Raises ValueError where Grad-CAM has no feature maps.
    """
    speaking = Speaking(net).eval()
    if method == "grad_cam" and layer is None:
        layer = feature_maps(net, images.shape[1]).module
    device = next(net.parameters()).device
    result = [np.zeros((0, *images.shape[1:]), np.float32)]
    for start in range(0, len(findings), BATCH):
        chosen = images if len(images) == 1 else images[start : start + BATCH]
        x = torch.from_numpy(np.array(chosen)).to(device)[:, None].float() / 255
        target = torch.tensor(list(findings[start : start + BATCH]), device=device)
        result.append(
            _grad_cam(speaking, layer, x, target) if method == "grad_cam" else _integrated(speaking, x, target)
        )
    return np.concatenate(result)


def _grad_cam(speaking: Speaking, layer: nn.Module, x: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    cut: list[torch.Tensor] = []
    last_of_densenet = any(isinstance(m, models.DenseNet) and m.features is layer for m in speaking.modules())

    def hook(_, __, output: torch.Tensor) -> torch.Tensor:
        output = output.relu() if last_of_densenet else output  # which its forward applies in place, without a layer
        cut[:] = [output.detach().expand(len(target), -1, -1, -1).clone().requires_grad_()]
        torch.set_grad_enabled(True)  # from here on; what lies before needs no gradient
        return cut[0] + TINY

    handle = layer.register_forward_hook(hook)
    try:
        with torch.no_grad():
            logits = speaking(x)
            (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), cut)
    finally:
        handle.remove()
    weight = gradient.mean(dim=(2, 3), keepdim=True)
    maps = (weight * cut[0].detach()).sum(dim=1, keepdim=True).relu()
    maps = functional.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)
    return maps[:, 0].cpu().numpy()


def _integrated(speaking: Speaking, x: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    values = integrated_gradients(speaking, x.expand(len(target), -1, -1, -1), target)
    sigma = SMOOTHING * x.shape[-1]
    return gaussian_filter(np.maximum(values, 0), (0, sigma, sigma)).astype(np.float32)


def integrated_gradients(speaking: nn.Module, x: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """Each pixel's part of the logit's difference from a black image, N x S x S. Their sum is about that difference."""
    from captum.attr import IntegratedGradients

    parts = IntegratedGradients(speaking).attribute(x, 0, target, n_steps=STEPS, internal_batch_size=BATCH)
    return parts.detach().float()[:, 0].cpu().numpy()


def scaled(maps: np.ndarray) -> np.ndarray:
    """The maps with a largest value of 1 each; maps of zeros stay so."""
    largest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(largest > 0, largest, 1)
