"""The ADGM's control arms: the same classifier, q(y|a,x) over q(a|x), from the same initial weights, without a
generative model. What each adds to the classification loss ce of the labelled images:

- supervised: nothing, and it sees no unlabelled image;
- pseudo_label (Lee 2013, Pseudo-label): -log q of the likeliest class of each unlabelled image whose probability
  reaches `threshold`, a mean over all of them;
- mean_teacher (Tarvainen & Valpola 2017, Mean teachers are better role models): the squared distance between the
  probabilities of all images and those that an exponential moving average of the weights gives for another augmentation
  and another draw of a; the teacher is in evaluation mode.

Either's weight rises from 0 as the temperature does. The whole is multiplied by alpha, as ce is in eq. 10, so that
Adam's weight decay counts for as much as it does in the ADGM.

Shapes: N images (N_l labelled first), K classes, A auxiliary.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from cxr.adgm.nets import ADGM


class Semi(NamedTuple):
    """threshold: the least probability of a pseudo-label, 0 to 1; pseudo_weight, consistency_weight: of the two terms;
    teacher: decay of the teacher's average."""

    threshold: float = 0.95
    pseudo_weight: float = 1.0
    consistency_weight: float = 10.0
    teacher: float = 0.999


class Discriminative(ADGM):
    """q(a|x) and q(y|a,x) of an ADGM of these sizes, initialised as there; the other nets are dropped."""

    def __init__(self, *, size: int, classes: int, z_dim: int, a_dim: int, dropout: float) -> None:
        super().__init__(size=size, classes=classes, z_dim=z_dim, a_dim=a_dim, dropout=dropout)
        del self.p_x, self.q_z, self.p_a

    def forward(self, x: Tensor, noise_a: Tensor) -> Tensor:
        """x: N x 1 x H x W, noise_a: N x A -> log q(y|a,x), N x K."""
        f = self.features(x, ("q_a", "q_y"))
        return self.q_y(f["q_y"], self.q_a(f["q_a"]).sample(noise_a))

    def measure(self, x: Tensor, y: Tensor, noise_a: Tensor, noise_z: Tensor, temperature: float) -> dict[str, Tensor]:
        return {"ce": F.nll_loss(self(x, noise_a), y, reduction="none")}


def pseudo_label(log_q: Tensor, threshold: float) -> Tensor:
    """log_q: of the unlabelled images, N_u x K -> the term."""
    confidence, label = log_q.detach().exp().max(1)
    return (F.nll_loss(log_q, label, reduction="none") * (confidence >= threshold)).sum() / max(len(log_q), 1)


def consistency(log_q: Tensor, teacher: Tensor) -> Tensor:
    """The student's and the teacher's log q, N x K each -> the mean squared distance over images and classes."""
    return ((log_q.exp() - teacher.detach().exp()) ** 2).mean()
