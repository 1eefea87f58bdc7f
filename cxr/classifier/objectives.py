"""What the classifier minimises: objectives of logits N x K, targets N x K, weights N x K (0 masks a label out) and
rows N, the batch's places in the training table, which GroupDro alone needs.

An objective is a module, so the training's state holds what it keeps from step to step. `done` is the share of the
training's steps already taken, in [0, 1). During the first `warmup_share` of the steps an objective is not yet itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cxr.classifier.formats import Arm
from cxr.core.files import read_json
from cxr.core.findings import SLUGS

# A training without a control arm (cxr/synthesis/arms.py). images: in the arm's own store. epoch_images: length of an
# epoch, 0 for all rows. lead: True trains on the table's synthetic rows first, and then on the others.
BASELINE = {
    "objective": "cross_entropy",
    "images": 0,
    "epoch_images": 0,
    "lead": False,
    "shares": {},
    "augmentation": "set",
}


Rows = torch.Tensor | None


def weighted_mean(losses: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum(w l) / sum(w); 0 where every weight is 0."""
    return (losses * weight).sum() / weight.sum().clamp(min=1e-8)


class CrossEntropy(nn.Module):
    """Binary cross-entropy, weighted mean. positive: K factors for the positives' part of it, None for 1."""

    warmup_share = 0.0

    def __init__(self, positive: Sequence[float] | None = None) -> None:
        super().__init__()
        factors = None if positive is None else torch.tensor(positive, dtype=torch.float32)
        self.register_buffer("positive", factors, persistent=False)

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, done: float, rows: Rows = None
    ) -> torch.Tensor:
        losses = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none", pos_weight=self.positive)
        return weighted_mean(losses, weight)


class LogitAdjusted(CrossEntropy):
    """Binary cross-entropy of logits to which the log odds of the finding are added in training alone (Menon et al.
    2021, Long-tail learning via logit adjustment, eq. 10, tau = 1), weighted mean.

    prevalence: K shares of positives among the labels that count. A finding with the share 0 or 1 stays as it is.
    """

    def __init__(self, prevalence: Sequence[float]) -> None:
        super().__init__()
        share = torch.tensor(prevalence, dtype=torch.float32)
        self.register_buffer("odds", torch.logit(share).nan_to_num(0.0, 0.0, 0.0), persistent=False)

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, done: float, rows: Rows = None
    ) -> torch.Tensor:
        return super().forward(logits.float() + self.odds, target, weight, done, rows)


class GroupDro(nn.Module):
    """Group DRO (Sagawa et al. 2020, Distributionally robust neural networks for group shifts, algorithm 1).

    The loss is sum_g q_g l_g over G groups, where l_g is the binary cross-entropy of a batch's images of group g,
    weighted mean. Before each step q_g <- q_g exp(rate l_g), of groups that the batch has, and q is scaled to the sum
    1: the groups with the largest losses weigh more and more.

    group: of each training row, int64 in [0, G). rate: the authors' 0.01.
    """

    warmup_share = 0.0

    def __init__(self, group: Sequence[int], rate: float = 0.01) -> None:
        super().__init__()
        member = F.one_hot(torch.as_tensor(np.asarray(group))).float()  # rows x G
        self.rate = rate
        self.register_buffer("member", member, persistent=False)
        self.register_buffer("q", torch.full((member.shape[1],), 1 / member.shape[1]))

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, done: float, rows: torch.Tensor
    ) -> torch.Tensor:
        losses = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
        member = self.member[rows].t()  # G x N
        each = (member @ (losses * weight).sum(1)) / (member @ weight.sum(1)).clamp(min=1e-8)
        raised = self.q * torch.exp(self.rate * each.detach())  # of an absent group the loss is 0
        self.q.copy_(raised / raised.sum())
        return (self.q.clone() * each).sum()


class MultiClass(nn.Module):
    """U-MultiClass (Irvin et al. 2019, section 3): cross-entropy over three classes per finding, weighted mean.

    logits N x 3K, target N x K of 0 negative, 1 positive, 2 uncertain.
    """

    warmup_share = 0.0

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, done: float, rows: Rows = None
    ) -> torch.Tensor:
        each = logits.float().view(*target.shape, 3).permute(0, 2, 1)  # N x 3 x K
        return weighted_mean(F.cross_entropy(each, target.long(), reduction="none"), weight)


class AucMargin(nn.Module):
    """The AUC margin loss of Yuan et al. 2021 (Large-scale robust deep AUC maximization, eq. 3).

    The authors start from a net trained with cross-entropy, so cross-entropy it is in the first `warmup_share` of the
    steps. For each finding, with scores h = sigmoid(logit):

        E[(h - a)^2 | +] + E[(h - b)^2 | -] + 2 alpha (m + E[h | -] - E[h | +]) - alpha^2,

    minimised over a, b and the net, maximised over alpha >= 0, with margin m. The inner problem has a closed form:
    a = E[h | +], b = E[h | -], alpha = max(0, m + b - a). The net's gradient takes these as constants. A batch may lack
    positives, so a and b are running means over the batches.

    prevalence: K shares of positives among the labels that count. A finding with the share 0 or 1 does not count.
    """

    def __init__(
        self, prevalence: Sequence[float], margin: float = 1.0, warmup_share: float = 0.5, decay: float = 0.9
    ) -> None:
        super().__init__()
        share = torch.tensor(prevalence, dtype=torch.float32)
        self.margin, self.warmup_share, self.decay = margin, warmup_share, decay
        self.cross_entropy = CrossEntropy()
        self.register_buffer("prevalence", share, persistent=False)
        # Places, not a mask: to count what a mask leaves, the host waits for the GPU.
        usable = torch.nonzero((share > 0) & (share < 1))[:, 0]
        self.register_buffer("usable", usable, persistent=False)
        self.register_buffer(
            "means", torch.full((2, len(share)), 0.5)
        )  # b and a: mean scores of negatives and positives

    @torch.no_grad()
    def _update_means(self, h: torch.Tensor, parts: torch.Tensor) -> None:
        n = parts.sum(1)  # 2 x K
        now = (parts * h).sum(1) / n.clamp(min=1e-8)
        self.means.copy_(torch.where(n > 0, self.decay * self.means + (1 - self.decay) * now, self.means))

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, done: float, rows: Rows = None
    ) -> torch.Tensor:
        h = torch.sigmoid(logits.float())
        parts = torch.stack([(1 - target) * weight, target * weight])  # 2 x N x K: negatives, positives
        self._update_means(h.detach(), parts)
        if done < self.warmup_share:
            return self.cross_entropy(logits, target, weight, done, rows)
        b, a = self.means
        alpha = (self.margin + b - a).clamp(min=0)
        p = self.prevalence
        total = weight.sum(0).clamp(min=1e-8)
        negative, positive = parts[0] / (1 - p).clamp(min=1e-8) / total, parts[1] / p.clamp(min=1e-8) / total
        inner = negative * ((h - b) ** 2 + 2 * alpha * h) + positive * ((h - a) ** 2 - 2 * alpha * h)
        each = inner.sum(0) + 2 * alpha * self.margin - alpha**2
        return each.index_select(0, self.usable).sum() / max(len(self.usable), 1)


def read(path: str | os.PathLike) -> dict:
    """The spec in an arm's JSON. Raises ValueError with the file's name when it is none."""
    folder = Path(path).parent
    return read_json(path, f"arm@{folder.name}-{folder.parent.name}", Arm).model_dump()


def objective(
    spec: dict, target: np.ndarray, weight: np.ndarray, classes: int = 2, group: Sequence[int] | None = None
) -> nn.Module:
    """The objective of an arm. target, weight: of the training rows, N x K; group: theirs, for group_dro. classes: per
    finding, 2 or 3.

    pos_weight: a finding with the share r gets the factor w with w p / (w p + n) = r, for p positives and n negatives
    that count, but at least 1, because `balance` removes no image. Raises ValueError for an objective that has no form
    for three classes.
    """
    if classes == 3:
        if spec["objective"] != "cross_entropy":
            raise ValueError(
                f"{spec['objective']} weighs positives against negatives, u_multiclass has a third class: take "
                f"{spec['objective']} out of study.arms, or choose another final.policy"
            )
        return MultiClass()
    if spec["objective"] == "group_dro":
        assert group is not None
        return GroupDro(group)
    positives, count = (target * weight).sum(0), weight.sum(0)
    if spec["objective"] in ("auc_margin", "logit_adjusted"):
        kind = AucMargin if spec["objective"] == "auc_margin" else LogitAdjusted
        return kind(positives / np.maximum(count, 1e-8))
    if spec["objective"] == "cross_entropy":
        return CrossEntropy()
    share = np.array([spec["shares"].get(name, 0.0) for name in SLUGS])
    wanted = share / (1 - share) * (count - positives) / np.maximum(positives, 1e-8)
    return CrossEntropy(np.where(positives > 0, np.maximum(wanted, 1), 1).astype(np.float32))
