"""The DCGAN of paper 1 (Radford et al. 2016; PyTorch's DCGAN example, which the paper adapted), at any power-of-two
size from 16.

Generator: z ~ N(0, I), strided transposed convolutions 4 x 4, batch norm, ReLU, tanh. Discriminator: strided
convolutions 4 x 4, batch norm, LeakyReLU 0.2, one logit (the paper's sigmoid is inside the loss). Channels double from
`width` as the map halves; at 128 x 128, width 64, Z = 100, 3 channels, these are the paper's nets (12,786,560 and
11,164,416 weights; docs/papers.md).

Loss: the minimax game of Goodfellow et al. 2014,
    min_G max_D  E_x[log D(x)] + E_z[log(1 - D(G(z)))],
where G climbs log D(G(z)) instead (the non-saturating form that the cited code trains; the paper prints the saturating
one, E22).
Initialisation: convolutions ~ N(0, 0.02), batch-norm gains ~ N(1, 0.02), biases 0 (the paper says N(0, 0.02) for all,
E23).

Shapes: N batch, C channels, S size, Z latent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from cxr.batches import Images, affine, order, warp
from cxr.checkpoints import Checkpoints
from cxr.files import Progress
from cxr.runtime import generator, restore, seeded

if TYPE_CHECKING:
    from lightning_fabric import Fabric

GRID = 8  # a sample grid is GRID x GRID images


def levels(size: int) -> int:
    """How many times the map doubles from 4 x 4 to size x size, less one. Raises ValueError unless size is 16, 32, 64,
    128, 256 or 512.
    """
    if size not in (16, 32, 64, 128, 256, 512):
        raise ValueError(f"gan.size = {size}: a DCGAN doubles 4 x 4 maps, so choose 16, 32, 64, 128, 256 or 512")
    return int(math.log2(size)) - 3


class Generator(nn.Sequential):
    """z, N x Z x 1 x 1 -> images N x C x S x S in (-1, 1)."""

    def __init__(self, size: int, z_dim: int, width: int, channels: int) -> None:
        wide = [width * 2**i for i in reversed(range(levels(size) + 1))]  # 128: 1024, 512, 256, 128, 64 for width 64
        layers: list[nn.Module] = [nn.ConvTranspose2d(z_dim, wide[0], 4, 1, 0, bias=False)]
        for before, after in zip(wide, wide[1:], strict=False):
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
            ]
        layers += [
            nn.BatchNorm2d(wide[-1]),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(wide[-1], channels, 4, 2, 1, bias=False),
            nn.Tanh(),
        ]
        super().__init__(*layers)


class Discriminator(nn.Sequential):
    """Images N x C x S x S in [-1, 1] -> logits N x 1 x 1 x 1; positive says real. No batch norm on the first layer
    (Radford et al.).
    """

    def __init__(self, size: int, width: int, channels: int) -> None:
        wide = [width * 2**i for i in range(levels(size) + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, wide[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in zip(wide, wide[1:], strict=False):
            layers += [
                nn.Conv2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers += [nn.Conv2d(wide[-1], 1, 4, 1, 0, bias=False)]
        super().__init__(*layers)


def initialise(net: nn.Module) -> None:
    """Convolutions ~ N(0, 0.02), batch-norm gains ~ N(1, 0.02) and biases 0, drawn from torch's global stream (see
    runtime.seeded).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def build(size: int, z_dim: int, width: int, channels: int, seed: int) -> tuple[Generator, Discriminator]:
    with seeded(seed, 0):
        g, d = Generator(size, z_dim, width, channels), Discriminator(size, width, channels)
        initialise(g)
        initialise(d)
    return g.to(memory_format=torch.channels_last), d.to(memory_format=torch.channels_last)


def to_gray(images: torch.Tensor) -> np.ndarray:
    """Generated N x C x S x S in (-1, 1) -> uint8 N x S x S; three channels are averaged (a generated X-ray may carry
    a tint).
    """
    gray = images.float().mean(1).add(1).mul(127.5).round().clamp(0, 255)
    return gray.to(torch.uint8).cpu().numpy()


@torch.no_grad()
def generate(net: nn.Module, n: int, z_dim: int, *key: int, device: torch.device | str, batch: int = 64) -> np.ndarray:
    """n images, uint8 n x S x S, from noise that depends on the key alone. Batch norm uses its running statistics."""
    net.eval()
    made = []
    for start in range(0, n, batch):
        # Each block has its own key: image i is the same however many are asked for.
        z = torch.randn(batch, z_dim, 1, 1, generator=generator(*key, start))[: n - start]
        made.append(to_gray(net(z.to(device))))
    return np.concatenate(made) if made else np.zeros((0, 1, 1), np.uint8)


def grid(images: np.ndarray, columns: int = GRID) -> np.ndarray:
    """N x S x S -> one picture of columns x ceil(N / columns) tiles, uint8; missing tiles are black."""
    n, s = images.shape[:2]
    rows = math.ceil(n / columns)
    tiles = np.zeros((rows * columns, s, s), np.uint8)
    tiles[:n] = images
    return tiles.reshape(rows, columns, s, s).transpose(0, 2, 1, 3).reshape(rows * s, columns * s)


def fit(
    fabric: Fabric,
    images: Images,
    checkpoints: Checkpoints,
    *,
    label: str,
    epochs: int,
    batch: int,
    lr: float,
    beta1: float,
    z_dim: int,
    width: int,
    channels: int,
    flip: float,
    sample_every: int,
    seed: int,
) -> tuple[nn.Module, nn.Module, pd.DataFrame, dict[int, np.ndarray]]:
    """Train on all of `images`; returns (generator, discriminator, history, sample grids by epoch).

    history, one row an epoch: epoch, loss_d = -[log D(x) + log(1 - D(G(z)))], loss_g = -log D(G(z)), d_real = mean
    D(x), d_fake = mean D(G(z)), means over the epoch. Grids are drawn from one fixed z every `sample_every` epochs,
    after the first and after the last.
    Raises ValueError when a loss is no longer finite, and when there are fewer images than two.
    """
    n = len(images)
    if n < 2:
        raise ValueError(f"{label}: {n} training images are too few for a GAN; choose another finding")
    size = images.size
    batch = min(batch, n)
    steps = n // batch
    g, d = build(size, z_dim, width, channels, seed)
    adam = {"lr": lr, "betas": (beta1, 0.999), "fused": True}
    model_g, optimiser_g = fabric.setup(g, torch.optim.Adam(g.parameters(), **adam))
    model_d, optimiser_d = fabric.setup(d, torch.optim.Adam(d.parameters(), **adam))
    history: list[dict] = []
    grids: dict[int, torch.Tensor] = {}
    epoch, step = 0, 0
    sums = torch.zeros(4, device=fabric.device)
    if state := checkpoints.load(epochs * steps):
        g.load_state_dict(state["g"])
        d.load_state_dict(state["d"])
        restore(optimiser_g, state["optimiser_g"])
        restore(optimiser_d, state["optimiser_d"])
        history, (epoch, step), sums = state["history"], state["position"], state["sums"].to(fabric.device)
        grids = {e: v for e, v in state["grids"].items() if e == 1 or e % sample_every == 0}

    def whole() -> dict:
        return {
            "g": g.state_dict(),
            "d": d.state_dict(),
            "optimiser_g": optimiser_g.state_dict(),
            "optimiser_d": optimiser_d.state_dict(),
            "history": history,
            "grids": grids,
            "position": [epoch, step],
            "sums": sums,
        }

    with checkpoints, Progress(label, epochs * steps * batch) as progress:
        progress.skip((epoch * steps + step) * batch)
        while epoch < epochs:
            permutation = order(n, seed, 1, epoch)
            model_g.train()
            model_d.train()
            while step < steps:
                stream = generator(seed, 2, epoch, step)
                chosen = permutation[step * batch : (step + 1) * batch]
                geometry = affine(len(chosen), stream, flip=flip)
                z = torch.randn(len(chosen), z_dim, 1, 1, generator=stream)
                mine = slice(fabric.global_rank, None, fabric.world_size)
                real = warp(images.gather(chosen[mine]), geometry[mine], size) * 2 - 1
                real = real.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)
                fake = model_g(z[mine].to(fabric.device))

                # max_D  log D(x) + log(1 - D(G(z))), with log D = logsigmoid(logit), log(1 - D) = logsigmoid(-logit)
                on_real, on_fake = model_d(real).float(), model_d(fake.detach()).float()
                loss_d = -(F.logsigmoid(on_real).mean() + F.logsigmoid(-on_fake).mean())
                optimiser_d.zero_grad(set_to_none=True)
                fabric.backward(loss_d)
                optimiser_d.step()

                # max_G  log D(G(z))
                d.requires_grad_(False)  # its gradients are not needed here: a quarter of the step
                loss_g = -F.logsigmoid(model_d(fake).float()).mean()
                optimiser_g.zero_grad(set_to_none=True)
                fabric.backward(loss_g)
                optimiser_g.step()
                d.requires_grad_(True)

                judged = [
                    loss_d.detach(),
                    loss_g.detach(),
                    on_real.detach().sigmoid().mean(),
                    on_fake.detach().sigmoid().mean(),
                ]
                sums = sums + torch.stack(judged)
                step += 1
                progress.update(batch)
                checkpoints.step(whole, epoch * steps + step)
            loss_d_mean, loss_g_mean, d_real, d_fake = (float(v) / steps for v in sums)
            epoch, step, sums = epoch + 1, 0, torch.zeros_like(sums)
            if not (math.isfinite(loss_d_mean) and math.isfinite(loss_g_mean)):
                raise ValueError(
                    f"{label}: the loss is no longer finite in epoch {epoch} (D {loss_d_mean}, G {loss_g_mean}); "
                    f"lower gan.lr (now {lr:g}), or stop earlier with -S gan.epochs={max(1, epoch - 1)}"
                )
            history.append(
                {"epoch": epoch, "loss_d": loss_d_mean, "loss_g": loss_g_mean, "d_real": d_real, "d_fake": d_fake}
            )
            if epoch == 1 or epoch % sample_every == 0 or epoch == epochs:
                made = generate(model_g, GRID * GRID, z_dim, seed, 3, device=fabric.device)
                grids[epoch] = torch.from_numpy(grid(made))
                progress.line(
                    f"epoch {epoch}: D {loss_d_mean:.3f}, G {loss_g_mean:.3f}, D(x) {d_real:.2f}, D(G(z)) {d_fake:.2f}"
                )
        checkpoints.step(whole, epochs * steps, last=True)
    if epochs not in grids:  # a state that already stood at the last epoch was pruned to the regular grids
        grids[epochs] = torch.from_numpy(grid(generate(model_g, GRID * GRID, z_dim, seed, 3, device=fabric.device)))
    return model_g, model_d, pd.DataFrame(history), {e: v.numpy() for e, v in sorted(grids.items())}
