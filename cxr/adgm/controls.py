"""The ADGM's control arms: its classifier, q(y|a,x) over q(a|x), from the same initial weights, without the rest.

A control arm minimises J = s alpha (ce + w extra): ce is the classification loss of the labelled images, w the weight
of a term on the unlabelled images, which most arms raise with the temperature. The factors alpha (eq. 10) and s (the
labelled images' share in eq. 11) are the ADGM's, so that Adam's weight decay counts as much as it does there.

Shapes: N images (N_l labelled first, N_u unlabelled), K classes, A auxiliary.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from cxr.adgm.nets import ADGM, Discriminative
from cxr.adgm.settings import Settings
from cxr.adgm.train import AdgmTraining, Batch, Data
from cxr.training import feed
from cxr.training.appearance import altered, appearance
from cxr.training.average import Average
from cxr.training.batches import affine
from cxr.training.machine import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Control(AdgmTraining):
    """What the control arms share; each gives its term on the unlabelled images."""

    names = ("ce", "unlabelled", "J", "acc")

    def __init__(self, settings: Settings, machine: Fabric, data: Data) -> None:
        if not settings.beta:
            beta = f"{self.section}.beta"
            raise ValueError(f"{beta} = 0 leaves variant {settings.variant} no loss to train on; raise {beta}")
        super().__init__(settings, machine, data)

    @staticmethod
    def build(settings: Settings, data: Data) -> ADGM:
        return Discriminative(**settings.sizes)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        log_q = self.model(batch.x, batch.noise_a)  # N x K
        labelled = log_q[: len(batch.y)]
        ce = F.nll_loss(labelled, batch.y)
        weight, extra = self.unlabelled(log_q, batch)
        J = self.shares[0] * self.alpha * (ce + weight * extra)
        right = labelled.argmax(1) == batch.y
        return J, {"ce": ce, "unlabelled": extra, "J": J, "acc": right.float()}

    @abstractmethod
    def unlabelled(self, log_q: Tensor, batch: Batch) -> tuple[float | Tensor, Tensor]:
        """The weight w and the term. log_q: of all images of the batch, N x K."""


class Supervised(Control):
    """Variant `supervised`: the labelled images alone."""

    sees_unlabelled = False

    def unlabelled(self, log_q: Tensor, batch: Batch) -> tuple[float | Tensor, Tensor]:
        return 0.0, log_q.new_zeros(())


class PseudoLabel(Control):
    """Variant `pseudo_label` (Lee 2013, Pseudo-label): confident answers on unlabelled images count as labels."""

    reads = frozenset({"threshold", "pseudo_weight"})

    def __init__(self, settings: Settings, machine: Fabric, data: Data) -> None:
        super().__init__(settings, machine, data)
        self.correction_here = self.correction.to(machine.device)

    def unlabelled(self, log_q: Tensor, batch: Batch) -> tuple[float | Tensor, Tensor]:
        log_q = log_q[len(batch.y) :]
        term = pseudo_label(log_q, log_q, self.settings.threshold, self.correction_here)
        return batch.temperature * self.settings.pseudo_weight, term


class FixMatch(PseudoLabel):
    """Variant `fixmatch` (Sohn et al. 2020, FixMatch): confident answers on a weak view label a strong view.

    The weak view is the training's own geometry. The strong view of an unlabelled image has wider ranges of geometry,
    another brightness and contrast, and a cutout, and a draw of a of its own. The term's weight is the same in every
    step: few answers are confident in the first ones.
    """

    reads = frozenset({"threshold", "fixmatch_weight", "strong_geometry", "strong_jitter", "strong_cutout"})

    def draw(self, epoch: int, step: int) -> feed.Batch:
        weak, settings = super().draw(epoch, step), self.settings
        n_u, stream = len(weak["images"]) - len(weak["y"]), generator(settings.seed, 10, epoch, step)
        geometry = affine(n_u, stream, **settings.wide_geometry)
        shades = appearance(n_u, stream, jitter=settings.strong_jitter)
        return weak | {"strong geometry": geometry, "strong appearance": shades}

    def unlabelled(self, log_q: Tensor, batch: Batch) -> tuple[float | Tensor, Tensor]:
        n_l, settings, drawn = len(batch.y), self.settings, batch.drawn
        moved = self.augmented(drawn["images"][n_l:], drawn["strong geometry"])
        x = altered(moved, drawn["strong appearance"], settings.strong_cutout)
        strong = self.model(x, torch.randn_like(batch.noise_a[n_l:]))
        return settings.fixmatch_weight, pseudo_label(strong, log_q[n_l:], settings.threshold, self.correction_here)


class MeanTeacher(Control):
    """Variant `mean_teacher` (Tarvainen & Valpola 2017, Mean teachers are better role models).

    The teacher is an exponential moving average of the weights, in evaluation mode. It sees another augmentation of
    the same images and another draw of a; the student is kept close to its probabilities on all images.
    """

    reads = frozenset({"consistency_weight", "teacher"})

    def __init__(self, settings: Settings, machine: Fabric, data: Data) -> None:
        super().__init__(settings, machine, data)
        self.teacher = Average(self.net, settings.teacher, apart=True)

    def draw(self, epoch: int, step: int) -> feed.Batch:
        images, geometry = self.drawn(self.places(epoch, step), 7, epoch, step)
        return super().draw(epoch, step) | {"teacher's images": images, "teacher's geometry": geometry}

    def unlabelled(self, log_q: Tensor, batch: Batch) -> tuple[float | Tensor, Tensor]:
        x = self.augmented(batch.drawn["teacher's images"], batch.drawn["teacher's geometry"])
        with torch.no_grad(), self.fabric.autocast():
            answer = self.teacher.net(x, torch.randn_like(batch.noise_a))
        return batch.temperature * self.settings.consistency_weight, consistency(log_q, answer)

    def after(self, epoch: int, step: int) -> None:
        super().after(epoch, step)
        self.teacher.update(epoch * self.steps + step)

    def state(self) -> dict:
        return super().state() | {"teacher": self.teacher.state()}

    def load(self, state: dict) -> None:
        super().load(state)
        self.teacher.load(state["teacher"])


def pseudo_label(log_q: Tensor, answer: Tensor, threshold: float, correction: Tensor) -> Tensor:
    """-log q of each image's likeliest class where its probability reaches the threshold, else 0; the mean over all.

    log_q, answer: of the unlabelled images, N_u x K each, at the class shares of the labelled draw. The answer gives
    the likeliest class and gets no gradient; it may be of another view of the same images. correction K: as in
    `validate`; how likely a class is depends on the shares among the images that are asked about.
    """
    confidence, label = torch.softmax(answer.detach() + correction.log(), dim=1).max(1)
    return (F.nll_loss(log_q, label, reduction="none") * (confidence >= threshold)).sum() / max(len(log_q), 1)


def consistency(log_q: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared distance of the student's and the teacher's probabilities, over images and classes.

    log_q, teacher: log q(y|a,x), N x K each; no gradient reaches the teacher.
    """
    return ((log_q.exp() - teacher.detach().exp()) ** 2).mean()
