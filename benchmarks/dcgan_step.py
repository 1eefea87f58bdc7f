"""A training step of the DCGAN, end to end, beside the recipe of PyTorch's official example at 128 px, fed from JPEGs.

python -m benchmarks.dcgan_step
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import inputs
from benchmarks.classifier_input import store
from benchmarks.plain_data import Files, endless, loader
from benchmarks.steps import Silent, step_line
from benchmarks.timing import Line, agree, main
from cxr.gan import nets
from cxr.gan import train as dcgan_train
from cxr.gan.settings import Settings
from cxr.training.batches import Images, affine, order
from cxr.training.machine import fabric, generator

LR, BETA1, Z = 2e-4, 0.5, 100
TOLERANCE = 2e-3  # of two losses, relative; the generator's is after the discriminator's update


def ours(machine, images: Images, checkpoints, *, batch: int, width: int, channels: int = 3):
    settings = Settings(
        epochs=1, batch=batch, lr=LR, beta1=BETA1, z_dim=Z, width=width, channels=channels, seed=0, sample_every=1
    )
    return dcgan_train.fit(machine, images, checkpoints, settings, label="benchmark")


def plain_nets(size: int, width: int, channels: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The example's two nets, with the one level more that 128 px need: the discriminator ends in a sigmoid."""
    up, down = [], []
    factors = [2**i for i in range(int(np.log2(size)) - 2)]
    for i in reversed(factors):
        first = [nn.ConvTranspose2d(Z, width * i, 4, 1, 0, bias=False)] if i == factors[-1] else []
        up += first or [nn.ConvTranspose2d(width * i * 2, width * i, 4, 2, 1, bias=False)]
        up += [nn.BatchNorm2d(width * i), nn.ReLU(True)]
    up += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
    for i in factors:
        if i == 1:
            down += [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        else:
            down += [nn.Conv2d(width * i // 2, width * i, 4, 2, 1, bias=False)]
            down += [nn.BatchNorm2d(width * i), nn.LeakyReLU(0.2, inplace=True)]
    down += [nn.Conv2d(width * factors[-1], 1, 4, 1, 0, bias=False), nn.Sigmoid()]
    return nn.Sequential(*up), nn.Sequential(*down)


class Plain:
    """The example's training step: BCELoss, a vector of labels, two backward passes of the discriminator."""

    def __init__(self, size: int, width: int, channels: int, device: torch.device | str = "cpu") -> None:
        self.g, self.d = (net.to(device) for net in plain_nets(size, width, channels))
        start = nets.build(size, Z, width, channels, 0)
        for net, other in zip((self.g, self.d), start, strict=True):
            weights = [v.contiguous() for v in other.state_dict().values()]
            net.load_state_dict(dict(zip(net.state_dict(), weights, strict=True)))
        self.optimiser_g, self.optimiser_d = (
            torch.optim.Adam(net.parameters(), lr=LR, betas=(BETA1, 0.999)) for net in (self.g, self.d)
        )
        self.criterion = nn.BCELoss()
        self.device = device

    def step(self, real: torch.Tensor, noise: torch.Tensor) -> tuple[float, float]:
        """One update of both; the two losses."""
        real, noise = real.to(self.device), noise.to(self.device)
        self.d.zero_grad()
        label = torch.full((len(real),), 1.0, device=self.device)
        on_real = self.criterion(self.d(real).view(-1), label)
        on_real.backward()
        fake = self.g(noise)
        label.fill_(0.0)
        on_fake = self.criterion(self.d(fake.detach()).view(-1), label)
        on_fake.backward()
        self.optimiser_d.step()
        self.g.zero_grad()
        label.fill_(1.0)
        loss_g = self.criterion(self.d(fake).view(-1), label)
        loss_g.backward()
        self.optimiser_g.step()
        return on_real.item() + on_fake.item(), loss_g.item()


def agreement(machine, images: Images, batch: int, width: int) -> str:
    """One update of either from the same weights, images and noise: both losses must be equal. Raises Difference."""
    few = Images(images.stores, images.stores[0].index["image_id"][:batch], machine.device)
    history = ours(machine, few, Silent(), batch=batch, width=width).history
    plain = Plain(images.size, width, 3, machine.device)
    stream = generator(0, 2, 0, 0)
    affine(batch, stream)  # what the loop draws before its noise
    noise = torch.randn(batch, Z, 1, 1, generator=stream)
    gray = few.gather(order(batch, 0, 1, 0)).to(torch.float32) / 255
    theirs = np.array(plain.step((gray * 2 - 1).expand(-1, 3, -1, -1), noise))
    mine = history[["loss_d", "loss_g"]].to_numpy()[0]
    return agree(float(np.abs(mine / theirs - 1).max()), TOLERANCE, "relative difference of D's loss, and of G's after")


def plainly(paths: list[Path], size: int, batch: int, width: int) -> Callable[[], tuple[float, float]]:
    """The plain step with its input, to be made again and again."""
    from torchvision import transforms as t

    plain = Plain(size, width, 3)
    recipe = t.Compose([t.Resize(size), t.CenterCrop(size), t.ToTensor(), t.Normalize([0.5] * 3, [0.5] * 3)])
    batches = endless(loader(Files(paths, recipe), 64 * batch, batch))
    return lambda: plain.step(next(batches)[0], torch.randn(batch, Z, 1, 1))


def lines(quick: bool) -> Iterator[Line]:
    size, batch, width, n, repeats = (32, 8, 8, 8, 1) if quick else (128, 64, 64, 64, 5)
    machine = fabric("auto")
    with tempfile.TemporaryDirectory() as temporary:
        paths = inputs.files(Path(temporary) / "files", n, inputs.SMALL)
        images = store(Path(temporary) / "store", paths, size)
        checked = agreement(fabric("32-true"), images, min(batch, 16), width)
        ids = np.resize(images.stores[0].index["image_id"].to_numpy(object), (repeats + 2) * batch)
        images = Images(images.stores, ids, machine.device)

        def train(checkpoints) -> None:
            ours(machine, images, checkpoints, batch=batch, width=width)

        yield step_line(
            f"DCGAN {size} training step, batch {batch}, width {width}", machine, train,
            plainly, paths, size, batch, width, repeats=repeats, checked=checked, bar=2,
        )  # fmt: skip


if __name__ == "__main__":
    main(lines)
