"""A training step of the ADGM, end to end, beside the paper's own arrangement: an unlabelled image goes through all
five networks, trunks and all, once for each label.

python -m benchmarks.adgm_step
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import inputs
from benchmarks.classifier_input import store
from benchmarks.plain_data import Files, endless, loader
from benchmarks.steps import step_line
from benchmarks.timing import Line, agree, main
from cxr.adgm.nets import ADGM, CHANNELS, Gaussian, objective
from cxr.adgm.settings import Settings
from cxr.adgm.train import Data, Generative
from cxr.training import loop
from cxr.training.batches import Images
from cxr.training.machine import fabric, seeded

LR, DECAY = 1e-4, 1e-5
PAPER = {"z_dim": 128, "a_dim": 128, "dropout": 0.2, "likelihood_weight": 0.01}
GEOMETRY = {"flip": 0.5, "rotate": 15.0, "scale_min": 0.8, "scale_max": 1.2, "shift": 0.05}
TOLERANCE = 1e-3  # of the objective, and of its gradient as a whole, relative


class Plain:
    """The same five networks, each called on whole batches: the labelled one, and the unlabelled one for each label."""

    def __init__(self, net: ADGM) -> None:
        self.net = net
        self.optimiser = torch.optim.Adam(net.parameters(), lr=LR, weight_decay=DECAY)

    def decode(self, z: Tensor, y: Tensor) -> Gaussian:
        """p(x|z,y) with maps in PyTorch's own layout, NCHW."""
        p_x = self.net.p_x
        h = p_x.dense(torch.cat([z, y], dim=1)).unflatten(1, (CHANNELS, p_x.maps[0], p_x.maps[0]))
        return Gaussian.from_outputs(*p_x.mu_log_var(p_x.convolutions(h)).chunk(2, dim=1))

    def bound(self, x: Tensor, y: Tensor, noise_a: Tensor, noise_z: Tensor, heat: float) -> tuple[Tensor, Tensor]:
        """(L of eq. 8, log q(y|a,x)) per image. x: N x 1 x H x W; y: N x K one-hot."""
        net = self.net
        q_a = net.q_a(net.q_a.trunk(x))
        a = q_a.sample(noise_a)
        log_q_y = net.q_y(net.q_y.trunk(x), a)
        q_z = net.q_z(net.q_z.trunk(x), a, y)
        z = q_z.sample(noise_z)
        p_a = net.p_a(net.p_a.trunk(x), z, y)
        log_p_x = self.decode(z, y).log_prob(x)
        KL = q_z.kl_standard() + q_a.log_prob(a) - p_a.log_prob(a)
        return -net.likelihood_weight * log_p_x + math.log(net.classes) + heat * KL, log_q_y

    def objective(self, x_l, y_l, x_u, noise_a, noise_z, heat: float, alpha: float) -> Tensor:
        """J of eq. 11. noise_a, noise_z: labelled images first; an image's labels share its noise."""
        n_l, K = len(x_l), self.net.classes
        L, log_q_y = self.bound(x_l, F.one_hot(y_l, K).to(x_l), noise_a[:n_l], noise_z[:n_l], heat)
        labelled = L + alpha * F.nll_loss(log_q_y, y_l, reduction="none")
        unlabelled = torch.zeros(len(x_u), device=x_u.device)
        for k in range(K):
            y = F.one_hot(torch.full((len(x_u),), k, device=x_u.device), K).to(x_u)
            L, log_q_y = self.bound(x_u, y, noise_a[n_l:], noise_z[n_l:], heat)
            unlabelled = unlabelled + log_q_y[:, k].exp() * (L + log_q_y[:, k])
        return labelled.mean() + unlabelled.mean()

    def step(self, x_l: Tensor, y_l: Tensor, x_u: Tensor, alpha: float) -> None:
        self.net.train()
        noise = [torch.randn(len(x_l) + len(x_u), d, device=x_l.device) for d in (self.net.a_dim, self.net.z_dim)]
        J = self.objective(x_l, y_l, x_u, *noise, 1.0, alpha)
        self.optimiser.zero_grad()
        J.backward()
        self.optimiser.step()


def build(size: int, classes: int) -> ADGM:
    with seeded(0, 0):
        return ADGM(size=size, classes=classes, **PAPER)


def agreement(size: int, classes: int, batch: int) -> str:
    """The objective of one batch and its gradient, both ways. Raises Difference.

    In evaluation mode: in training the batch norms of the plain way see an image once for each label, ours once.
    """
    net = build(size, classes).eval()
    with seeded(0, 9):
        x = torch.rand(2 * batch, 1, size, size)
        y = torch.randint(classes, (batch,))
        noise_a, noise_z = torch.randn(2 * batch, net.a_dim), torch.randn(2 * batch, net.z_dim)
    found = []
    for J in (
        objective(net(x, y, noise_a, noise_z, 0.5), 10.0, (1.0, 1.0)),
        Plain(net).objective(x[:batch], y, x[batch:], noise_a, noise_z, 0.5, 10.0),
    ):
        net.zero_grad()
        J.backward()
        found.append((J.detach().reshape(1), torch.cat([p.grad.flatten() for p in net.parameters()])))
    distance = float(np.max([float((a - b).norm() / b.norm()) for a, b in zip(*found, strict=True)]))
    return agree(distance, TOLERANCE, "relative difference of the objective, and of its gradient")


def settings(classes: int, labels: int, size: int, batch: int, predict_samples: int = 1) -> Settings:
    return Settings(
        variant="corrected", classes=classes, labels=labels, draw=0, size=size, batch=batch, lr=LR,
        weight_decay=DECAY, beta=1.0, warmup_epochs=100, epochs=1, average=0.0, predict_samples=predict_samples,
        prior="uniform", seed=0, **PAPER, **GEOMETRY,
    )  # fmt: skip


def ours(machine, images: Images, y: np.ndarray, checkpoints, *, classes: int, batch: int):
    data = Data(images, y, images, np.resize(y, len(images)), [1 / classes] * classes)
    training = Generative(settings(classes, len(y) // classes, images.size, batch), machine, data)
    return loop.run(training, checkpoints, label="benchmark", epochs=1, steps=training.steps, batch=batch)


def plainly(paths: list[Path], size: int, batch: int, classes: int) -> Callable[[], None]:
    """The plain step with its input, to be made again and again."""
    from torchvision import transforms as t

    low, high = GEOMETRY["scale_min"], GEOMETRY["scale_max"]
    recipe = t.Compose(
        [
            t.Resize((size, size)),
            t.RandomHorizontalFlip(GEOMETRY["flip"]),
            t.RandomAffine(GEOMETRY["rotate"], (GEOMETRY["shift"],) * 2, (low, high)),
            t.ToTensor(),
        ]
    )
    both = endless(loader(Files(paths, recipe, "L"), 64 * batch, 2 * batch))
    plain, y = Plain(build(size, classes)), torch.arange(batch) % classes  # the first images are the labelled ones

    def step() -> None:
        x, _ = next(both)
        plain.step(x[:batch], y, x[batch:], 10.0)

    return step


def lines(quick: bool) -> Iterator[Line]:
    size, batch, n, repeats, classes = (33, 3, 6, 1, 3) if quick else (225, 15, 30, 5, 3)
    machine = fabric("auto")
    checked = agreement(33 if quick else 65, classes, batch)
    with tempfile.TemporaryDirectory() as temporary:
        paths = inputs.files(Path(temporary) / "files", n, inputs.SMALL)
        images = store(Path(temporary) / "store", paths, size)
        ids = np.resize(images.stores[0].index["image_id"].to_numpy(object), (repeats + 3) * batch)
        images = Images(images.stores, ids, machine.device)
        y = np.arange(batch) % classes  # the first images are the labelled ones

        def loop(checkpoints) -> None:
            ours(machine, images, y, checkpoints, classes=classes, batch=batch)

        yield step_line(
            f"ADGM training step at {size}, {batch} + {batch} images, {classes} classes", machine, loop,
            plainly, paths, size, batch, classes, repeats=repeats, checked=checked, bar=3,
        )  # fmt: skip


if __name__ == "__main__":
    main(lines)
