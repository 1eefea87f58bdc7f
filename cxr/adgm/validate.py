"""Validation of an ADGM or a control arm: the bound, the accuracy, and whether z carries anything. Its predictions.

Shapes: N images, K classes, Z latent, A auxiliary, S draws of a.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from cxr.adgm.encoded import Vectors
from cxr.adgm.nets import ADGM, active_units
from cxr.adgm.settings import Settings
from cxr.training.batches import Images, in_order
from cxr.training.machine import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def judged_at(machine: Fabric, settings: Settings) -> int:
    """Images of a batch that is judged. No number depends on it but in its last digits. A GPU idles at a training's
    batch; on a CPU, where larger maps only fill the memory, it is that of a step.
    """
    return 256 if machine.device.type == "cuda" else 2 * settings.batch


@torch.no_grad()
def validate(
    machine: Fabric,
    net: ADGM,
    images: Images | Vectors,
    y: torch.Tensor,
    settings: Settings,
    *,
    alpha: float,
    shares: tuple[float, float],
    temperature: float | tuple[float, float],
    correction: torch.Tensor,
    after: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], torch.Tensor]:
    """One pass over the validation images: the history's validation columns; probabilities, N x K on the CPU.

    Each image counts as a labelled one in L and ce and as an unlabelled one in U; a control arm has ce and accuracy
    alone. The noise is the same at every call. after: called after every batch.

    correction K: the class shares that predictions assume over those of the labelled draw. Bayes' rule moves the
    probabilities from the one to the other: q(y|x) prior(y) / drawn(y), normalised.
    """
    net.eval()
    stream = generator(settings.seed, 5)
    noise_a, noise_z = (torch.randn(len(images), *shape, generator=stream) for shape in net.noise)
    draws = torch.randn(settings.predict_samples, len(images), net.a_dim, generator=stream)  # S x N x A
    parts, prob = [], []
    for chosen, x in in_order(images, judged_at(machine, settings)):
        x = x.contiguous(memory_format=torch.channels_last)
        with machine.autocast():
            noise = machine.to_device((noise_a[chosen], noise_z[chosen]))
            parts.append(net.measure(x, y[chosen.to(y.device)], *noise, temperature))
            prob.append(net.classify(x, machine.to_device(draws[:, chosen])).cpu())
        after()
    terms = {name: torch.cat([part[name] for part in parts]).cpu().double() for name in parts[0]}
    prob = _corrected(torch.cat(prob), correction)
    means = {name: float(v.mean()) for name, v in terms.items() if v.dim() == 1}
    row = {f"valid_{name}": means[name] for name in ("L", "U", "ce") if name in means}
    if "L" in means:
        row["valid_J"] = shares[0] * (means["L"] + alpha * means["ce"]) + shares[1] * means["U"]  # eq. 10 and 11
    row["valid_acc"] = float((prob.argmax(1) == y.cpu()).double().mean())
    row |= {name: means[name] for name in ("KL_z", "KL_a") if name in means}
    return row | {f"active_{v}": active_units(terms[f"mu_{v}"]) for v in "za" if f"mu_{v}" in terms}, prob


@torch.no_grad()
def predictions(
    machine: Fabric, net: ADGM, images: Images | Vectors, settings: Settings, correction: torch.Tensor
) -> torch.Tensor:
    """Probabilities of images that are not validated on, N x K on the CPU. The noise is the same at every call.

    correction: as of validate.
    """
    net.eval()
    stream = generator(settings.seed, 9)
    draws = torch.randn(settings.predict_samples, len(images), net.a_dim, generator=stream)  # S x N x A
    prob = []
    for chosen, x in in_order(images, judged_at(machine, settings)):
        with machine.autocast():
            noise = machine.to_device(draws[:, chosen])
            prob.append(net.classify(x.contiguous(memory_format=torch.channels_last), noise).cpu())
    return _corrected(torch.cat(prob), correction)


def _corrected(prob: torch.Tensor, correction: torch.Tensor) -> torch.Tensor:
    """Probabilities times the correction of the class shares, normalised: N x K."""
    prob = prob * correction
    return prob / prob.sum(1, keepdim=True)
