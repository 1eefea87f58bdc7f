"""The DCGAN's training, and which of its generators is kept.

Loss: the minimax game of Goodfellow et al. 2014,
    min_G max_D  E_x[log D(x)] + E_z[log(1 - D(G(z)))],
where G climbs log D(G(z)) instead (the non-saturating form that the cited code trains), or, where `saturating`,
descends log(1 - D(G(z))) as paper 1 prints it (E22). One-sided label smoothing s (Salimans et al. 2016) has D climb
(1 - s) log D(x) + s log(1 - D(x)) on real images. DiffAugment (cxr/gan/diffaugment.py) stands between images and D
wherever
D is asked.
The paper's generator is the last step's; here it may be a running average of the weights (cxr/training/average.py),
and the one
among the epochs looked at (cxr/gan/selection.py) whose KID is least. A batch depends on (seed, epoch, step) alone.

Shapes: N batch, C channels, S size, Z latent, K labels of a conditional GAN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from cxr.core.files import Progress
from cxr.gan import diffaugment, selection
from cxr.gan.nets import GRID, beside_image, beside_noise, build, generate, grid
from cxr.training.average import copy_of, update_average
from cxr.training.batches import Images, affine, order, warp
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import generator, restore

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Trained(NamedTuple):
    """g: the generator kept, as after `epoch`; d: the last discriminator; history; grids: sample grids by epoch;
    stopped: why the training ended before its last epoch, after `epochs` of them, or None.
    """

    g: nn.Module
    d: nn.Module
    history: pd.DataFrame
    grids: dict[int, np.ndarray]
    epoch: int
    epochs: int
    stopped: str | None


def on_real_images(logits: torch.Tensor, smoothing: float) -> torch.Tensor:
    """-[(1 - s) log D(x) + s log(1 - D(x))], the mean over N logits."""
    if not smoothing:
        return -F.logsigmoid(logits).mean()
    return -((1 - smoothing) * F.logsigmoid(logits) + smoothing * F.logsigmoid(-logits)).mean()


def on_generated_images(logits: torch.Tensor, saturating: bool) -> torch.Tensor:
    """What G descends: -log D(G(z)), or log(1 - D(G(z))), the mean over N logits."""
    return F.logsigmoid(-logits).mean() if saturating else -F.logsigmoid(logits).mean()


def ask(d: nn.Module, x: torch.Tensor, y: torch.Tensor | None, drawn: dict, policy: tuple[str, ...]) -> torch.Tensor:
    """D's logits, N x 1 x 1 x 1 float32, of images N x C x S x S augmented as drawn."""
    return d(beside_image(diffaugment.apply(x, drawn, policy) if policy else x, y)).float()


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
    vectors: np.ndarray | None = None,
    kept_back: Images | None = None,
    average: float = 0.0,
    patience: int = 0,
    stop_diversity: float = 0.0,
    label_smoothing: float = 0.0,
    spectral_norm: bool = False,
    saturating: bool = False,
    gain: float = 1.0,
    augment: str = "none",
) -> Trained:
    """Train on all of `images`. vectors: label vectors of them, N x K, which make the GAN conditional. kept_back: real
    images of other training patients; with them the generator kept is the one with the least KID, and training stops
    early as dcgan_watch.stop says; without them it is the last, and a collapse is only told.

    history, one row an epoch: epoch, loss_d = -[log D(x) + log(1 - D(G(z)))], loss_g = -log D(G(z)), or log(1 -
    D(G(z))) where saturating, d_real = mean D(x), d_fake = mean D(G(z)), means over the epoch; kid and diversity where
    the generator was looked at, else NaN: after the first epoch, every `sample_every` ones and the last, when a grid is
    drawn from one fixed z as well.
    Raises ValueError when a loss is no longer finite, and when there are fewer images than two.
    """
    n, size, select = len(images), images.size, kept_back is not None
    if n < 2:
        raise ValueError(f"{label}: {n} training images are too few for a GAN; choose another finding")
    batch = min(batch, n)
    steps = n // batch
    policy = diffaugment.parse(augment)
    labels = 0 if vectors is None else vectors.shape[1]
    g, d = build(size, z_dim, width, channels, seed, labels=labels, bounded=spectral_norm, gain=gain)
    adam = {"lr": lr, "betas": (beta1, 0.999), "fused": True}
    model_g, optimiser_g = fabric.setup(g, torch.optim.Adam(g.parameters(), **adam))
    model_d, optimiser_d = fabric.setup(d, torch.optim.Adam(d.parameters(), **adam))
    shown = copy_of(g) if average else g
    y_all = None if vectors is None else torch.from_numpy(vectors).float()
    watch = selection.Watch(images, kept_back, seed)
    shown_labels = vectors
    if vectors is not None:
        shown_labels = vectors[order(n, seed, 9).numpy()[np.arange(selection.LARGEST) % n]]
    history: list[dict] = []
    grids: dict[int, torch.Tensor] = {}
    best: dict = {"epoch": 0, "kid": math.inf, "weights": {}}
    epoch, step = 0, 0
    sums = torch.zeros(4, device=fabric.device)
    if state := checkpoints.load(epochs * steps):
        g.load_state_dict(state["g"])
        d.load_state_dict(state["d"])
        shown.load_state_dict(state["shown"] if average else state["g"])
        restore(optimiser_g, state["optimiser_g"])
        restore(optimiser_d, state["optimiser_d"])
        history, (epoch, step), sums = state["history"], state["position"], state["sums"].to(fabric.device)
        grids, best = state["grids"], state["best"]

    def whole() -> dict:
        return {
            "g": g.state_dict(),
            "d": d.state_dict(),
            "shown": shown.state_dict() if average else {},
            "optimiser_g": optimiser_g.state_dict(),
            "optimiser_d": optimiser_d.state_dict(),
            "history": history,
            "grids": grids,
            "best": best,
            "position": [epoch, step],
            "sums": sums,
        }

    def look() -> tuple[dict, torch.Tensor]:
        """What the generator is worth now, and its grid."""

        def some(count: int, key: int) -> np.ndarray:
            y = None if shown_labels is None else shown_labels[:count]
            return generate(shown, count, z_dim, seed, key, device=fabric.device, labels=y)

        # One process decides for all: their batch norms differ, and so might their stops.
        found = fabric.broadcast(watch.look(some(selection.LARGEST, 6)))
        return found, torch.from_numpy(grid(some(GRID * GRID, 3)))

    def better(found: dict) -> dict:
        if not select or found["kid"] >= best["kid"]:
            return best
        weights = {name: value.clone() for name, value in shown.state_dict().items()}
        return {"epoch": epoch, "kid": found["kid"], "weights": weights}

    def ended() -> str | None:
        regular = epoch % sample_every == 0 and step == 0 and epoch < epochs
        return selection.stop(history, patience, stop_diversity) if select and regular and history else None

    with checkpoints, Progress(label, epochs * steps * batch) as progress:
        progress.skip((epoch * steps + step) * batch)
        while epoch < epochs and not ended():
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
                y = None if y_all is None else y_all[chosen[mine]].to(fabric.device)
                fake = model_g(beside_noise(z[mine].to(fabric.device), y))
                stream = generator(seed, 7, epoch, step)  # D sees another draw each time that it is asked
                drawn = [diffaugment.draw(len(chosen), size, stream) for _ in range(3 if policy else 0)]
                drawn = [{name: v[mine] for name, v in one.items()} for one in drawn] or [{}] * 3

                # max_D  log D(x) + log(1 - D(G(z))), with log D = logsigmoid(logit), log(1 - D) = logsigmoid(-logit)
                on_real = ask(model_d, real, y, drawn[0], policy)
                on_fake = ask(model_d, fake.detach(), y, drawn[1], policy)
                loss_d = on_real_images(on_real, label_smoothing) - F.logsigmoid(-on_fake).mean()
                optimiser_d.zero_grad(set_to_none=True)
                fabric.backward(loss_d)
                optimiser_d.step()

                # max_G  log D(G(z)), or min_G  log(1 - D(G(z)))
                d.requires_grad_(False)  # its gradients are not needed here: a quarter of the step
                loss_g = on_generated_images(ask(model_d, fake, y, drawn[2], policy), saturating)
                optimiser_g.zero_grad(set_to_none=True)
                fabric.backward(loss_g)
                optimiser_g.step()
                d.requires_grad_(True)
                if average:
                    update_average(shown, g, average, epoch * steps + step)

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
            row = {"epoch": epoch, "loss_d": loss_d_mean, "loss_g": loss_g_mean, "d_real": d_real, "d_fake": d_fake}
            history.append(row | {"kid": math.nan, "diversity": math.nan})
            if epoch == 1 or epoch % sample_every == 0:
                found, grids[epoch] = look()
                history[-1] |= found
                best = better(found)
                told = "" if math.isnan(found["kid"]) else f", KID {found['kid']:.3g}"
                progress.line(
                    f"epoch {epoch}: D {loss_d_mean:.3f}, G {loss_g_mean:.3f}, D(x) {d_real:.2f}, D(G(z)) "
                    f"{d_fake:.2f}{told}, diversity {found['diversity']:.2f}"
                )
                selection.announce(progress.line, history, stop_diversity)
        stopped = ended()
        if stopped:
            progress.line(f"stopped after epoch {epoch} of {epochs}: {stopped}")
        checkpoints.step(whole, epoch * steps, last=True)
    if epoch not in grids:  # the last epoch's look is no part of the state: a longer training has none there
        found, grids[epoch] = look()
        history[-1] = history[-1] | found
        best = better(found)
    if select:
        shown.load_state_dict(best["weights"])
    kept = best["epoch"] if select else epoch
    drawn = {e: v.numpy() for e, v in sorted(grids.items())}
    return Trained(shown, model_d, pd.DataFrame(history), drawn, kept, epoch, stopped)
