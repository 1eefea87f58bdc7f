"""Judging an ADGM or a control arm: validation images, whether z carries anything, and what it draws for a class.

Shapes: N images, K classes, Z latent, A auxiliary, S draws of a.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from cxr.adgm import ADGM, Trunk, active_units
from cxr.batches import Images, affine, cycled, in_order, warp
from cxr.runtime import generator, seeded

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TERMS = ("L", "U", "ce", "J", "acc")
SAMPLES = 100  # per class, for the agreement
READER_STEPS, READER_BATCH, READER_LR = 400, 64, 1e-3


@torch.no_grad()
def judge(
    fabric: Fabric,
    net: ADGM,
    images: Images,
    y: torch.Tensor,
    *,
    alpha: float,
    heat: float | tuple[float, float],
    predict_samples: int,
    prior: Sequence[float],
    batch: int,
    seed: int,
    after: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], torch.Tensor]:
    """One pass over the validation images: (the history's validation columns, probabilities N x K on the CPU).

    Each image counts as a labelled one in L and ce and as an unlabelled one in U; a control arm has ce and accuracy
    alone. The noise is the same at every call. heat: temperature. prior: the classes' shares among the images to be
    predicted; probabilities are moved to them from the equal shares of the labelled draw and of eq. 2's p(y), by Bayes'
    rule: q(y|x) prior(y), normalised. after: called after every batch.
    """
    net.eval()
    stream = generator(seed, 5)
    noise_a, noise_z = (torch.randn(len(images), *shape, generator=stream) for shape in net.noise)
    draws = torch.randn(predict_samples, len(images), net.a_dim, generator=stream)  # S x N x A
    parts, prob = [], []
    for chosen, x in in_order(images, batch):
        x = x.contiguous(memory_format=torch.channels_last)
        with fabric.autocast():
            noise = fabric.to_device((noise_a[chosen], noise_z[chosen]))
            parts.append(net.measure(x, y[chosen.to(y.device)], *noise, heat))
            prob.append(net.classify(x, fabric.to_device(draws[:, chosen])).cpu())
        after()
    whole = {name: torch.cat([part[name] for part in parts]).double().cpu() for name in parts[0]}
    prob = torch.cat(prob) * torch.tensor(prior, dtype=torch.float32)
    prob = prob / prob.sum(1, keepdim=True)
    means = {name: float(v.mean()) for name, v in whole.items() if v.dim() == 1}
    row = {f"valid_{name}": means[name] for name in ("L", "U", "ce") if name in means}
    if "L" in means:
        row["valid_J"] = means["L"] + alpha * means["ce"] + means["U"]
    row["valid_acc"] = float((prob.argmax(1) == y.cpu()).double().mean())
    row |= {name: means[name] for name in ("KL_z", "KL_a") if name in means}
    return row | {f"active_{v}": active_units(whole[f"mu_{v}"]) for v in "za" if f"mu_{v}" in whole}, prob


def collapse(last: pd.Series | dict, z_dim: int, likelihood_weight: float | None) -> str | None:
    """One line when z carries nothing after the history's last row: KL_z under 0.1 nats, or no active unit.

    likelihood_weight: None where it is the variant's own, and raising it no cure.
    """
    if last["KL_z"] >= 0.1 and last["active_z"] > 0:
        return None
    return (
        f"warning: z carries nothing (KL_z {last['KL_z']:.3g} nats, {last['active_z']:.0f} of {z_dim} units active): "
        f"a supervised network is what classifies"
    ) + (f"; raise adgm.likelihood_weight (now {likelihood_weight:g})" if likelihood_weight is not None else "")


@torch.no_grad()
def sampled(net: ADGM, each: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of p(x|z,y) within [0, 1] for `each` z ~ N(0, I), the same for every class: K each x 1 x H x W, and y."""
    net.eval()
    K, device = net.classes, next(net.parameters()).device
    z = torch.randn(each, net.z_dim, generator=generator(seed, 6)).to(device).repeat(K, 1)  # K each x Z
    y = torch.eye(K, device=device).repeat_interleave(each, dim=0)
    return net.p_x(z, y).mu.clamp(0, 1), y.argmax(1)


def conditional_means(net: ADGM, columns: int, seed: int) -> np.ndarray:
    """Means of p(x|z,y) as one uint8 picture: a row per class, a column per z."""
    mu, K = sampled(net, columns, seed)[0].cpu(), net.classes
    H, W = mu.shape[-2:]
    picture = mu.view(K, columns, H, W).permute(0, 2, 1, 3).reshape(K * H, columns * W)
    return (picture * 255).round().to(torch.uint8).numpy()


def agreement(
    net: ADGM, train: Images, y_train: np.ndarray, valid: Images, y_valid: np.ndarray, *, seed: int, **geometry
) -> dict:
    """How often a classifier of real images says of a sample of p(x|z,y) that it is of class y.

    The reader is one convolutional trunk with one dense layer, trained for READER_STEPS steps on equally many images of
    each class under the run's geometry. It knows the class of every training image, also of those that the ADGM saw
    unlabelled, and gives nothing back. real: its balanced accuracy on the validation images, which the samples'
    agreement (equally many of each class) is to be read against; chance is 1 / K. shares: agreement by class.
    """
    K, device = net.classes, train.device
    own = [torch.from_numpy(np.flatnonzero(y_train == k)) for k in range(K)]
    each = READER_BATCH // K
    with seeded(seed, 8):
        trunk = Trunk(train.size, 0.2)
        reader = nn.Sequential(trunk, nn.Linear(trunk.features, K)).to(device)
        optimiser = torch.optim.Adam(reader.parameters(), lr=READER_LR)
        label = torch.arange(K, device=device).repeat_interleave(each)
        for step in range(READER_STEPS):
            rows = torch.cat([mine[cycled(len(mine), each, step, seed, 8, k)] for k, mine in enumerate(own)])
            x = warp(train.gather(rows), affine(len(rows), generator(seed, 8, step), **geometry), train.size)
            loss = F.cross_entropy(reader(x), label)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    reader.eval()
    with torch.no_grad():
        said = torch.cat([reader(x).argmax(1).cpu() for _, x in in_order(valid, 256)]).numpy()
        x, y = sampled(net, SAMPLES, seed)
        agrees = torch.cat([reader(part).argmax(1) for part in x.split(256)]) == y
    shares = [float(agrees[y == k].double().mean()) for k in range(K)]
    recalls = [float((said[y_valid == k] == k).mean()) for k in range(K) if (y_valid == k).any()]
    found = {"agreement": float(agrees.double().mean()), "samples": len(y), "shares": shares}
    return found | {"real": float(np.mean(recalls)), "real_n": len(y_valid), "reader_images": len(y_train)}
