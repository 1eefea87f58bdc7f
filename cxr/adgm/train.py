"""Training the ADGM (cxr/adgm/nets.py), its variants and its control arms: few labelled images, many unlabelled ones, a
validation set that trains nothing.

A step takes `batch` labelled and `batch` unlabelled images; an epoch is one pass over the unlabelled ones, in which the
labelled are cycled, reshuffled at each pass. Adam; the divergences' temperature rises linearly from 0 to 1 over
`warmup_epochs` (Cerri & Fraccaro, section 3). Every batch, its augmentation, noise and dropout depend on (seed, epoch,
step) alone; state is kept in Checkpoints.

The last epoch's result is the honest one. The best epoch's is chosen by the accuracy on the very images that it is then
reported on, so it flatters; it is kept because papers report it.

Shapes: N images (N_l labelled, N_u unlabelled), K classes, Z latent, A auxiliary, S draws of a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from cxr.adgm.controls import Discriminative, Semi, consistency, pseudo_label
from cxr.adgm.nets import ADGM, objective
from cxr.adgm.published import Published, warmup
from cxr.adgm.validate import TERMS, validate
from cxr.adgm.variants import CONTROLS
from cxr.core.files import Progress
from cxr.training.average import copy_of, update_average
from cxr.training.batches import Images, affine, cycled, order, warp
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import generator, restore, seeded

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SEMI = Semi()
CHECK_EVERY = 50  # steps between looks at whether the loss is finite: a look waits for the GPU


def temperature(epochs_done: float, warmup_epochs: float) -> float:
    """The weight of KL_z and KL_a: linear from 0 to 1 over warmup_epochs, then 1."""
    return min(1.0, epochs_done / warmup_epochs) if warmup_epochs > 0 else 1.0


@dataclass
class Trained:
    """net: with the running average of the weights at the end. history: a row per epoch. last, best: N x K
    probabilities of those epochs."""

    net: ADGM
    history: pd.DataFrame
    last: np.ndarray
    best: np.ndarray
    best_epoch: int
    alpha: float


def fixed(variant: str, classes: int, size: int) -> dict:
    """The settings that a variant has of its own, whatever was asked for: the paper's text knows no weight of the
    likelihood, no free bits, no average of weights and no class shares; its code has its own weight and one draw of a.
    """
    if variant not in ("paper", "paper_code"):
        return {}
    own = {"likelihood_weight": 1.0, "free_bits": 0.0, "average": 0.0, "prior": [1 / classes] * classes}
    return own | ({"likelihood_weight": 1 / size**2, "predict_samples": 1} if variant == "paper_code" else {})


def build(variant: str, *, likelihood_weight: float, free_bits: float, **sizes) -> ADGM:
    """The net of a variant (cxr/adgm/variants.py). sizes: size, classes, z_dim, a_dim, dropout."""
    if variant in CONTROLS:
        return Discriminative(**sizes)
    if variant == "paper_code":
        return Published(**sizes)
    return ADGM(**sizes, likelihood_weight=likelihood_weight, free_bits=free_bits, use_z=variant != "no_z")


def train(
    fabric: Fabric,
    train_images: Images,
    y_labelled: np.ndarray,
    valid_images: Images,
    y_valid: np.ndarray,
    checkpoints: Checkpoints,
    *,
    label: str,
    classes: int,
    epochs: int,
    batch: int,
    lr: float,
    weight_decay: float,
    beta: float,
    warmup_epochs: float,
    likelihood_weight: float,
    z_dim: int,
    a_dim: int,
    dropout: float,
    flip: float,
    rotate: float,
    scale: tuple[float, float],
    shift: float,
    average: float,
    predict_samples: int,
    prior: Sequence[float],
    seed: int,
    variant: str = "corrected",
    free_bits: float = 0.0,
    semi: Semi = SEMI,
) -> Trained:
    """Train from the start, or on from the newest checkpoint.

    train_images: the labelled images first, in the order of y_labelled, then the unlabelled. prior: as for judge.
    variant: of cxr/adgm/variants.py, with the settings that `fixed` gives it; semi: of the control arms.
    Raises ValueError when the loss is no longer finite, or when there is too little to train the variant on.
    """
    n_l, n_u = len(y_labelled), len(train_images) - len(y_labelled)
    alpha = beta * (n_l + n_u) / n_l
    steps = math.ceil(n_u / batch)
    control, published = variant in CONTROLS, variant == "paper_code"
    if control and not alpha:
        raise ValueError(f"adgm.beta = 0 leaves variant {variant} no loss to train on; raise adgm.beta")
    if published and n_u % batch == 1:  # its batch norm sees unlabelled images alone, and needs two
        steps -= 1
        if not steps:
            raise ValueError("variant paper_code needs two unlabelled images or more; lower adgm_runs.labels")
    names = ("ce", "unlabelled", "J", "acc") if control else TERMS
    with seeded(seed, 0):
        net = build(
            variant, size=train_images.size, classes=classes, z_dim=z_dim, a_dim=a_dim, dropout=dropout,
            likelihood_weight=likelihood_weight, free_bits=free_bits,
        ).to(memory_format=torch.channels_last)  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay, fused=True)
    model, optimiser = fabric.setup(net, optimiser)
    averaged = copy_of(net)  # the running average, which is what is judged and kept
    teacher = copy_of(net) if variant == "mean_teacher" else None
    y_l, y_v = (torch.tensor(y, dtype=torch.int64, device=fabric.device) for y in (y_labelled, y_valid))
    history: list[dict] = []
    last = torch.zeros(len(y_v), classes)
    best: dict = {"epoch": 0, "acc": -1.0, "prob": last}
    epoch, step = 0, 0
    total = torch.zeros(len(names), device=fabric.device)  # of the epoch's steps
    if state := checkpoints.load(epochs * steps):
        net.load_state_dict(state["net"])
        averaged.load_state_dict(state["average"])
        if teacher is not None:
            teacher.load_state_dict(state["teacher"])
        restore(optimiser, state["optimiser"])
        history, best, last, (epoch, step) = state["history"], state["best"], state["last"], state["position"]
        total = state["total"].to(fabric.device)
    recent: list[torch.Tensor] = []  # the terms of the steps since the last look at whether they are finite

    def look() -> None:
        if not bool(torch.isfinite(total).all()):
            bad = next(i for i, t in enumerate(recent) if not bool(torch.isfinite(t).all()))
            values = dict(zip(names, recent[bad].tolist(), strict=True))
            wrong = ", ".join(f"{name} = {v:g}" for name, v in values.items() if not math.isfinite(v))
            raise ValueError(
                f"{label}: epoch {epoch + 1}, step {step - len(recent) + bad + 1} of {steps}: {wrong}; "
                f"lower adgm.lr (now {lr:g}) or raise adgm.warmup_epochs (now {warmup_epochs:g})"
            )
        recent.clear()

    def whole() -> dict:
        look()
        kept = {"teacher": teacher.state_dict()} if teacher is not None else {}
        return kept | {
            "net": net.state_dict(),
            "average": averaged.state_dict(),
            "optimiser": optimiser.state_dict(),
            "history": history,
            "best": best,
            "last": last,
            "total": total,
            "position": [epoch, step],
        }

    def keep() -> None:
        checkpoints.step(whole, epoch * steps + step)

    def heat_at(epoch: int, step: int) -> float | tuple[float, float]:
        return warmup(epoch * steps + step) if published else temperature(epoch + step / steps, warmup_epochs)

    def looks(rows: torch.Tensor, *key: int) -> torch.Tensor:
        """The images at these places, each under one random geometry: N x 1 x H x W."""
        geometry = affine(len(rows), generator(seed, *key), flip=flip, rotate=rotate, scale=scale, shift=shift)
        # A supervised training sees the first ones alone, under the same geometry.
        mine = torch.arange(batch if variant == "supervised" else len(rows))[fabric.global_rank :: fabric.world_size]
        x = warp(train_images.gather(rows[mine]), geometry[mine], train_images.size)
        return x.contiguous(memory_format=torch.channels_last), rows[mine]

    def control_loss(x: torch.Tensor, y: torch.Tensor, second: torch.Tensor | None, noise_a: torch.Tensor, heat: float):
        """(J, its terms) of a control arm; second: the images under the teacher's geometry."""
        log_q = model(x, noise_a)
        ce, extra, weight = F.nll_loss(log_q[: len(y)], y), log_q.new_zeros(()), 0.0
        if variant == "pseudo_label":
            extra, weight = pseudo_label(log_q[len(y) :], semi.threshold), semi.pseudo_weight
        elif variant == "mean_teacher":
            with torch.no_grad(), fabric.autocast():
                answer = teacher(second, torch.randn_like(noise_a))
            extra, weight = consistency(log_q, answer), semi.consistency_weight
        J = alpha * (ce + heat * weight * extra)
        return J, (ce, extra, J), log_q[: len(y)]

    def one_step() -> torch.Tensor:
        """One update; the batch's means of `names`, on the device."""
        labelled = cycled(n_l, batch, epoch * steps + step, seed, 1)
        unlabelled = order(n_u, seed, 2, epoch)[step * batch : (step + 1) * batch]
        rows = torch.cat([labelled, n_l + unlabelled])
        x, mine = looks(rows, 3, epoch, step)  # several devices share one batch
        second = looks(rows, 7, epoch, step)[0] if teacher is not None else None
        y = y_l[mine[mine < n_l].to(fabric.device)]
        with seeded(seed, 4, epoch, step, fabric.global_rank):
            noise_a, noise_z = (torch.randn(len(x), *shape, device=fabric.device) for shape in net.noise)
            heat = heat_at(epoch, step)
            if control:
                J, parts, log_q = control_loss(x, y, second, noise_a, heat)
            else:
                terms = model(x, y, noise_a, noise_z, heat)
                J, log_q = objective(terms, alpha), terms.log_q_y
                parts = (terms.L, terms.U, terms.ce, J)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(J)
        optimiser.step()
        update_average(averaged, net, average, epoch * steps + step)
        if teacher is not None:
            update_average(teacher, net, semi.teacher, epoch * steps + step)
        right = (log_q.argmax(1) == y).float()
        return torch.stack([v.mean().float() for v in (*parts, right)]).detach()

    with checkpoints, Progress(label, epochs * n_u, "unlabelled images") as progress:
        progress.skip(epoch * n_u + min(step * batch, n_u))
        while epoch < epochs:
            model.train()
            while step < steps:
                recent.append(one_step())
                total = total + recent[-1]
                step += 1
                if step % CHECK_EVERY == 0:
                    look()
                progress.update(min(batch, n_u - (step - 1) * batch))
                keep()
            look()
            row = {"epoch": epoch + 1} | dict(zip([f"train_{t}" for t in names], (total / steps).tolist(), strict=True))
            heat = heat_at(epoch + 1, 0)
            judged, last = validate(
                fabric,
                averaged,
                valid_images,
                y_v,
                alpha=alpha,
                heat=heat,
                predict_samples=predict_samples,
                prior=prior,
                batch=2 * batch,
                seed=seed,
                after=keep,
            )
            history.append(row | judged | {"temperature": heat[0] if published else heat})
            if judged["valid_acc"] > best["acc"]:
                best = {"epoch": epoch + 1, "acc": judged["valid_acc"], "prob": last}
            epoch, step, total = epoch + 1, 0, torch.zeros_like(total)
            said = f"epoch {epoch}: J {row['train_J']:.4g}, accuracy {row['train_acc']:.3f}, "
            said += f"valid {judged['valid_acc']:.3f}"
            if not control:
                said += f", valid J {judged['valid_J']:.4g}, KL_z {judged['KL_z']:.3g} nats, "
                said += f"{judged['active_z']} of {z_dim} units of z active"
            progress.line(said)
        checkpoints.step(whole, epochs * steps, last=True)
    return Trained(averaged, pd.DataFrame(history), last.numpy(), best["prob"].numpy(), best["epoch"], alpha)
