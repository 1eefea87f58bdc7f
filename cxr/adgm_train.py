"""Training and judging the ADGM (cxr/adgm.py): few labelled images, many unlabelled ones, a validation set that trains
nothing.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from cxr.adgm import ADGM, active_units, objective
from cxr.average import copy_of, follow
from cxr.batches import Images, affine, in_order, order, warp
from cxr.checkpoints import Checkpoints
from cxr.files import Progress
from cxr.labels import CLASS_NAMES, CLASSES
from cxr.runtime import generator, restore, seeded

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TERMS = ("L", "U", "ce", "J", "acc")
CHECK_EVERY = 50  # steps between looks at whether the loss is finite: a look waits for the GPU


def assign(records: pd.DataFrame, split: pd.DataFrame, *, classes: int, labels: int, seed: int) -> pd.DataFrame:
    """image_id, patient_id, split, label (index into CLASS_NAMES[classes]), role: labelled, unlabelled, valid.

    Of each class `labels` training images are drawn; a larger draw under the same seed holds the smaller one.
    Raises ValueError when a class has fewer, when nothing is left unlabelled, or when there is no validation image.
    """
    if "class_name" not in records:
        raise ValueError("the records have no column class_name; the ADGM trains on RSNA's records")
    names = list(CLASS_NAMES[classes])
    table = split.merge(records[["image_id", "class_name"]], on="image_id", how="left", validate="one_to_one")
    unknown = ~table["class_name"].isin(CLASSES)
    if unknown.any():
        image, value = table.loc[unknown, ["image_id", "class_name"]].iloc[0]
        raise ValueError(
            f"image {image!r} has class {value!r}, not one of {', '.join(CLASSES)}; make the records again"
        )
    name = table["class_name"]
    if classes == 2:
        name = name.where(name == "Normal", "Abnormal")
    table["label"] = name.map(names.index).astype(np.int64)
    table = table.sort_values("image_id", ignore_index=True)

    training = table["split"] == "train"
    counts = [int((training & (table["label"] == k)).sum()) for k in range(classes)]
    if min(counts) < 2:
        held = ", ".join(f"{n} {c:,}" for n, c in zip(names, counts, strict=True))
        raise ValueError(
            f"a class has fewer than 2 training images ({held}); give more data or lower split.valid_share"
        )
    if not (table["split"] == "valid").any():
        raise ValueError("the split has no validation image; raise split.valid_share")

    table["role"] = np.where(training, "unlabelled", table["split"])
    for k in range(classes):
        candidates = np.flatnonzero(training & (table["label"] == k))
        drawn = np.random.default_rng([seed, k]).permutation(candidates)[: min(labels, counts[k] * 9 // 10)]
        table.loc[drawn, "role"] = "labelled"
    parts = [table[table["role"] == role] for role in ("labelled", "unlabelled", "valid")]
    return pd.concat(parts, ignore_index=True)[["image_id", "patient_id", "split", "label", "role"]]


def temperature(epochs_done: float, warmup_epochs: float) -> float:
    """The weight of KL_z and KL_a: linear from 0 to 1 over warmup_epochs, then 1."""
    return min(1.0, epochs_done / warmup_epochs) if warmup_epochs > 0 else 1.0


def cycled(n: int, batch: int, step: int, *key: int) -> torch.Tensor:
    """Batch number `step`, over all epochs, of n things cycled endlessly, in a new order at each pass: int64."""
    first, last = step * batch // n, ((step + 1) * batch - 1) // n
    passes = torch.cat([order(n, *key, number) for number in range(first, last + 1)])
    return passes[step * batch - first * n :][:batch]


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


@torch.no_grad()
def judge(
    fabric: Fabric,
    net: ADGM,
    images: Images,
    y: torch.Tensor,
    *,
    alpha: float,
    heat: float,
    predict_samples: int,
    prior: Sequence[float],
    batch: int,
    seed: int,
    after: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], torch.Tensor]:
    """One pass over the validation images: (the history's validation columns, probabilities N x K on the CPU).

    Each image counts as a labelled one in L and ce and as an unlabelled one in U. The noise is the same at every call.
    heat: temperature. prior: the classes' shares among the images to be predicted; probabilities are moved to them from
    the equal shares of the labelled draw and of eq. 2's p(y), by Bayes' rule: q(y|x) prior(y), normalised. after:
    called after every batch.
    """
    net.eval()
    stream = generator(seed, 5)
    noise_a, noise_z = (torch.randn(len(images), d, generator=stream) for d in (net.a_dim, net.z_dim))
    draws = torch.randn(predict_samples, len(images), net.a_dim, generator=stream)  # S x N x A
    parts, prob = [], []
    for chosen, x in in_order(images, batch):
        twice = chosen.repeat(2)
        x = x.contiguous(memory_format=torch.channels_last)
        with fabric.autocast():
            parts.append(
                net(x.repeat(2, 1, 1, 1), y[chosen], *fabric.to_device((noise_a[twice], noise_z[twice])), heat)
            )
            prob.append(net.classify(x, fabric.to_device(draws[:, chosen])).cpu())
        after()
    L, U, ce, KL_z, KL_a, mu_z, mu_a, _ = (torch.cat(column).double().cpu() for column in zip(*parts, strict=True))
    prob = torch.cat(prob) * torch.tensor(prior, dtype=torch.float32)
    prob = prob / prob.sum(1, keepdim=True)
    accuracy = float((prob.argmax(1) == y.cpu()).double().mean())
    L, U, ce, KL_z, KL_a = (float(v.mean()) for v in (L, U, ce, KL_z, KL_a))
    row = dict(zip([f"valid_{t}" for t in TERMS], [L, U, ce, L + alpha * ce + U, accuracy], strict=True))
    return row | {"KL_z": KL_z, "KL_a": KL_a, "active_z": active_units(mu_z), "active_a": active_units(mu_a)}, prob


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
) -> Trained:
    """Train from the start, or on from the newest checkpoint.

    train_images: the labelled images first, in the order of y_labelled, then the unlabelled. prior: as for judge.
    Raises ValueError when the loss is no longer finite.
    """
    n_l, n_u = len(y_labelled), len(train_images) - len(y_labelled)
    alpha = beta * (n_l + n_u) / n_l
    steps = math.ceil(n_u / batch)
    with seeded(seed, 0):
        net = ADGM(
            size=train_images.size,
            classes=classes,
            z_dim=z_dim,
            a_dim=a_dim,
            dropout=dropout,
            likelihood_weight=likelihood_weight,
        ).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay, fused=True)
    model, optimiser = fabric.setup(net, optimiser)
    judged_net = copy_of(net)  # the running average, which is what is judged and kept
    y_l, y_v = (torch.tensor(y, dtype=torch.int64, device=fabric.device) for y in (y_labelled, y_valid))
    history: list[dict] = []
    last = torch.zeros(len(y_v), classes)
    best: dict = {"epoch": 0, "acc": -1.0, "prob": last}
    epoch, step = 0, 0
    total = torch.zeros(len(TERMS), device=fabric.device)  # of the epoch's steps
    if state := checkpoints.load(epochs * steps):
        net.load_state_dict(state["net"])
        judged_net.load_state_dict(state["average"])
        restore(optimiser, state["optimiser"])
        history, best, last, (epoch, step) = state["history"], state["best"], state["last"], state["position"]
        total = state["total"].to(fabric.device)
    recent: list[torch.Tensor] = []  # the terms of the steps since the last look at whether they are finite

    def look() -> None:
        if not bool(torch.isfinite(total).all()):
            bad = next(i for i, t in enumerate(recent) if not bool(torch.isfinite(t).all()))
            values = dict(zip(TERMS, recent[bad].tolist(), strict=True))
            wrong = ", ".join(f"{name} = {v:g}" for name, v in values.items() if not math.isfinite(v))
            raise ValueError(
                f"{label}: epoch {epoch + 1}, step {step - len(recent) + bad + 1} of {steps}: {wrong}; "
                f"lower adgm.lr (now {lr:g}) or raise adgm.warmup_epochs (now {warmup_epochs:g})"
            )
        recent.clear()

    def whole() -> dict:
        look()
        return {
            "net": net.state_dict(),
            "average": judged_net.state_dict(),
            "optimiser": optimiser.state_dict(),
            "history": history,
            "best": best,
            "last": last,
            "total": total,
            "position": [epoch, step],
        }

    def keep() -> None:
        checkpoints.step(whole, epoch * steps + step)

    def one_step() -> torch.Tensor:
        """One update; the batch's means of TERMS, on the device."""
        labelled = cycled(n_l, batch, epoch * steps + step, seed, 1)
        unlabelled = order(n_u, seed, 2, epoch)[step * batch : (step + 1) * batch]
        rows = torch.cat([labelled, n_l + unlabelled])
        geometry = affine(
            len(rows), generator(seed, 3, epoch, step), flip=flip, rotate=rotate, scale=scale, shift=shift
        )
        mine = torch.arange(len(rows))[fabric.global_rank :: fabric.world_size]  # several devices share one batch
        rows, geometry = rows[mine], geometry[mine]
        x = warp(train_images.gather(rows), geometry, train_images.size).contiguous(memory_format=torch.channels_last)
        y = y_l[rows[rows < n_l].to(fabric.device)]
        with seeded(seed, 4, epoch, step, fabric.global_rank):
            noise_a, noise_z = (torch.randn(len(x), d, device=fabric.device) for d in (a_dim, z_dim))
            terms = model(x, y, noise_a, noise_z, temperature(epoch + step / steps, warmup_epochs))
            J = objective(terms, alpha)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(J)
        optimiser.step()
        follow(judged_net, net, average, epoch * steps + step)
        right = (terms.log_q_y.argmax(1) == y).float()
        return torch.stack([v.mean().float() for v in (terms.L, terms.U, terms.ce, J, right)]).detach()

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
            row = {"epoch": epoch + 1} | dict(zip([f"train_{t}" for t in TERMS], (total / steps).tolist(), strict=True))
            heat = temperature(epoch + 1, warmup_epochs)
            judged, last = judge(
                fabric,
                judged_net,
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
            history.append(row | judged | {"temperature": heat})
            if judged["valid_acc"] > best["acc"]:
                best = {"epoch": epoch + 1, "acc": judged["valid_acc"], "prob": last}
            epoch, step, total = epoch + 1, 0, torch.zeros_like(total)
            progress.line(
                f"epoch {epoch}: J {row['train_J']:.4g}, valid J {judged['valid_J']:.4g}, "
                f"accuracy {row['train_acc']:.3f}, valid {judged['valid_acc']:.3f}, "
                f"KL_z {judged['KL_z']:.3g} nats, {judged['active_z']} of {z_dim} units of z active"
            )
        checkpoints.step(whole, epochs * steps, last=True)
    return Trained(judged_net, pd.DataFrame(history), last.numpy(), best["prob"].numpy(), best["epoch"], alpha)


def collapse(last: pd.Series | dict, z_dim: int, likelihood_weight: float) -> str | None:
    """One line when z carries nothing after the history's last row: KL_z under 0.1 nats, or no active unit."""
    if last["KL_z"] >= 0.1 and last["active_z"] > 0:
        return None
    return (
        f"warning: z carries nothing (KL_z {last['KL_z']:.3g} nats, {last['active_z']:.0f} of {z_dim} units active): "
        f"a supervised network is what classifies; raise adgm.likelihood_weight (now {likelihood_weight:g})"
    )


@torch.no_grad()
def conditional_means(net: ADGM, columns: int, seed: int) -> np.ndarray:
    """Means of p(x|z,y) as one uint8 picture: a row per class, a column per z."""
    net.eval()
    K, device = net.classes, next(net.parameters()).device
    z = torch.randn(columns, net.z_dim, generator=generator(seed, 6)).to(device).repeat(K, 1)  # K columns x Z
    y = torch.eye(K, device=device).repeat_interleave(columns, dim=0)
    mu = net.p_x(z, y).mu.clamp(0, 1).cpu()  # K columns x 1 x H x W
    H, W = mu.shape[-2:]
    picture = mu.view(K, columns, H, W).permute(0, 2, 1, 3).reshape(K * H, columns * W)
    return (picture * 255).round().to(torch.uint8).numpy()
