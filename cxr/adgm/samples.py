"""Samples of a trained ADGM: class means as a picture, and whether a classifier of real images agrees with them.

Shapes: N images, K classes, Z latent, A auxiliary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cxr.adgm.nets import ADGM, Trunk
from cxr.training.batches import Images, affine, cycled, in_order, warp
from cxr.training.machine import generator, seeded

SAMPLES = 100  # per class, for the agreement
READER_STEPS, READER_BATCH, READER_LR = 400, 64, 1e-3


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
    """How often a classifier of real images takes a sample of p(x|z,y) to be of class y.

    This reader is one convolutional trunk with one dense layer, trained for READER_STEPS steps on equally many images
    of each class under the training's geometry. It is given the class of every training image, also of those that the
    ADGM saw unlabelled; the ADGM learns nothing from it.

    agreement: on SAMPLES samples of each class; chance is 1 / K. shares: agreement by class. real: the reader's
    balanced accuracy on the validation images, to compare the agreement with.
    """
    K, device = net.classes, train.device
    places = [torch.from_numpy(np.flatnonzero(y_train == k)) for k in range(K)]
    each = READER_BATCH // K
    with seeded(seed, 8):
        trunk = Trunk(train.size, 0.2)
        reader = nn.Sequential(trunk, nn.Linear(trunk.features, K)).to(device)
        optimiser = torch.optim.Adam(reader.parameters(), lr=READER_LR)
        label = torch.arange(K, device=device).repeat_interleave(each)
        for step in range(READER_STEPS):
            rows = torch.cat([p[cycled(len(p), each, step, seed, 8, k)] for k, p in enumerate(places)])
            x = warp(train.gather(rows), affine(len(rows), generator(seed, 8, step), **geometry), train.size)
            loss = F.cross_entropy(reader(x), label)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    reader.eval()
    with torch.no_grad():
        answers = torch.cat([reader(x).argmax(1).cpu() for _, x in in_order(valid, 256)]).numpy()
        x, y = sampled(net, SAMPLES, seed)
        agrees = torch.cat([reader(part).argmax(1) for part in x.split(256)]) == y
    agrees, y = agrees.cpu(), y.cpu()
    shares = [float(agrees[y == k].double().mean()) for k in range(K)]
    recalls = [float((answers[y_valid == k] == k).mean()) for k in range(K) if (y_valid == k).any()]
    result = {"agreement": float(agrees.double().mean()), "samples": len(y), "shares": shares}
    return result | {"real": float(np.mean(recalls)), "real_n": len(y_valid), "reader_images": len(y_train)}
