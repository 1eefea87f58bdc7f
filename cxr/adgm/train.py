"""Training an ADGM: few labelled images, many unlabelled ones, and validation images that train nothing.

A step takes `batch` labelled and `batch` unlabelled images. An epoch is one pass over the unlabelled images; the
labelled ones are cycled, in a new order at each pass. Adam minimises J of eq. 11. The temperature T of the divergences
rises linearly from 0 to 1 over `warmup_epochs` (Cerri & Fraccaro, section 3). The random numbers of a step depend on
(seed, epoch, step) alone.

A variant is a subclass of AdgmTraining: the paper's model here, its published code in cxr/adgm/published.py, the
control arms in cxr/adgm/controls.py. The best epoch is chosen on the validation images, so its accuracy there is too
high; it is kept beside the last epoch's because papers report it. Test images, where there are any, choose nothing:
the best and the last epoch's nets predict them.

Shapes: N images (N_l labelled, N_u unlabelled), K classes, Z latent, A auxiliary.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cxr.adgm.encoded import Vectors
from cxr.adgm.nets import ADGM, objective, shares_of
from cxr.adgm.settings import OPTIONAL, Settings
from cxr.adgm.validate import predictions, validate
from cxr.training import feed
from cxr.training.average import Average
from cxr.training.batches import Images, affine, cycled, order, warp
from cxr.training.loop import Training
from cxr.training.machine import adam, generator, restore, seeded

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Data(NamedTuple):
    """The images of a training, as pixels or as features. train: the N_l labelled ones first. y_*: classes, int64.
    prior: the K class shares that predictions assume. test: None where the split has no test part.
    """

    train: Images | Vectors
    y_labelled: np.ndarray
    valid: Images | Vectors
    y_valid: np.ndarray
    prior: Sequence[float]
    test: Images | Vectors | None = None


Temperature = float | Tensor | tuple[float, float] | tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """One step's images on this device, labelled ones first, and what is drawn for them."""

    drawn: feed.Batch  # what it is made from
    x: Tensor  # N x 1 x H x W
    y: Tensor  # N_l
    noise_a: Tensor  # N x A, standard normal, as the net's `noise` says
    noise_z: Tensor  # N x Z
    temperature: Temperature  # on a GPU in tensors, for it differs from step to step


def as_given(temperature: Tensor) -> Temperature:
    """T of a batch, or T of the labelled and of the unlabelled images: on a CPU as numbers."""
    if temperature.device.type == "cpu":
        given = temperature.tolist()
        return tuple(given) if isinstance(given, list) else given
    return temperature if not temperature.dim() else temperature.unbind()


class AdgmTraining(Training):
    """What the variants share: batches, the optimiser's step, the running average, validation.

    A variant gives `build`, `loss`, `names` (of the loss's terms) and, where it differs, `fixed`, `reads`,
    `sees_unlabelled`, `steps_per_epoch` and `temperature`.
    """

    sees_unlabelled: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset()  # of OPTIONAL
    section: ClassVar[str] = "adgm"  # of params.yaml, that beta and likelihood_weight are set in

    def __init__(self, settings: Settings, machine: Fabric, data: Data) -> None:
        """settings: as `settle` gives them. Raises ValueError when there is too little to train the variant on."""
        self.settings, self.fabric, self.data = settings, machine, data
        self.n_l, self.n_u = len(data.y_labelled), len(data.train) - len(data.y_labelled)
        self.alpha = settings.beta * (self.n_l + self.n_u) / self.n_l  # of eq. 10
        drawn = np.bincount(data.y_labelled, minlength=settings.classes) / self.n_l
        self.correction = torch.tensor(np.asarray(data.prior) / drawn, dtype=torch.float32)  # of Bayes' rule, K
        self.shares = shares_of(settings.weighting, self.n_l, self.n_u)  # of eq. 11
        self.steps = self.steps_per_epoch()
        self.cure = f"lower adgm.lr (now {settings.lr:g}) or raise adgm.warmup_epochs (now {settings.warmup_epochs:g})"
        with seeded(settings.seed, 0):
            self.net = self.build(settings, data).to(memory_format=torch.channels_last)
        options = {"lr": settings.lr, "betas": (0.9, 0.999), "weight_decay": settings.weight_decay}
        self.model, self.optimiser = machine.setup(self.net, adam(self.net, machine, **options))
        self.average = Average(self.net, settings.average)
        self.averaged = self.average.net  # validated, and the training's result
        self.y_labelled = torch.tensor(data.y_labelled, dtype=torch.int64)
        self.y_valid = torch.tensor(data.y_valid, dtype=torch.int64, device=machine.device)
        self.last = torch.zeros(len(data.valid), settings.classes)  # the last epoch's probabilities
        self.best: dict = {"epoch": 0, "acc": -1.0, "prob": self.last, "test": None}

    @classmethod
    def fixed(cls, settings: Settings) -> dict:
        """Settings whose value the variant chooses, whatever was asked for."""
        return {}

    @classmethod
    def settle(cls, settings: Settings) -> Settings:
        """The settings that this variant trains under; the number of the labelled draw is added to the seed."""
        return settings.model_copy(update={"seed": settings.seed + settings.draw} | cls.fixed(settings))

    @classmethod
    def shaping(cls, settings: Settings) -> dict:
        """The settings by name, without the length and those that this variant does not read."""
        return settings.model_dump(exclude={"epochs"} | OPTIONAL - cls.reads)

    @staticmethod
    @abstractmethod
    def build(settings: Settings, data: Data) -> ADGM:
        """The net, newly initialised."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, J in most variants, and what the history averages: `names`, each per image or a mean."""

    def steps_per_epoch(self) -> int:
        return math.ceil(self.n_u / self.settings.batch)

    def temperature(self, epoch: int, step: int) -> float | tuple[float, float]:
        """T, the weight of KL_z and KL_a: linear from 0 to 1 over warmup_epochs, then 1."""
        warmup = self.settings.warmup_epochs
        return min(1.0, (epoch + step / self.steps) / warmup) if warmup > 0 else 1.0

    def drawn(self, places: Tensor, *key: int) -> tuple[Tensor, Tensor]:
        """The images at `places` and a random geometry for each, as `augmented` takes them.

        The geometry of an image depends on the key and on its position in the batch: without the unlabelled images,
        which come last, the labelled ones have the same geometry.
        """
        geometry = affine(len(places), generator(self.settings.seed, *key), **self.settings.geometry)
        seen = slice(None if self.sees_unlabelled else self.settings.batch)
        return self.data.train.drawn(places[seen]), geometry[seen]

    def augmented(self, images: Tensor, geometry: Tensor) -> Tensor:
        """N x 1 x H x W on the device, of `drawn`."""
        x = warp(self.data.train.pixels(images), geometry, self.data.train.size)
        return x.contiguous(memory_format=torch.channels_last)

    def start_epoch(self, epoch: int) -> None:
        self.model.train()

    def places(self, epoch: int, step: int) -> Tensor:
        """A step's images, by their place in the training images: the labelled ones, then the unlabelled ones."""
        settings = self.settings
        labelled = cycled(self.n_l, settings.batch, epoch * self.steps + step, settings.seed, 1)
        unlabelled = order(self.n_u, settings.seed, 2, epoch)[step * settings.batch : (step + 1) * settings.batch]
        return torch.cat([labelled, self.n_l + unlabelled])

    def draw(self, epoch: int, step: int) -> feed.Batch:
        places = self.places(epoch, step)
        images, geometry = self.drawn(places, 3, epoch, step)
        temperature = torch.tensor(self.temperature(epoch, step), dtype=torch.float64)
        y = self.y_labelled[places[: self.settings.batch]]
        return {"images": images, "geometry": geometry, "y": y, "temperature": temperature}

    def key(self, epoch: int, step: int) -> tuple[int, ...]:
        return self.settings.seed, 4, epoch, step, 0

    def update(self, batch: feed.Batch, form: tuple) -> Tensor:
        x = self.augmented(batch["images"], batch["geometry"])
        noise_a, noise_z = (torch.randn(len(x), *shape, device=x.device) for shape in self.net.noise)
        J, terms = self.loss(Batch(batch, x, batch["y"], noise_a, noise_z, as_given(batch["temperature"])))
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(J)
        self.optimiser.step()
        return torch.stack([terms[name].mean().float() for name in self.names]).detach()

    def after(self, epoch: int, step: int) -> None:
        self.average.update(epoch * self.steps + step)

    def end_epoch(self, epoch: int, means: dict[str, float], keep: Callable[[], None]) -> dict:
        temperature = self.temperature(epoch, 0)
        row, self.last = validate(
            self.fabric, self.averaged, self.data.valid, self.y_valid, self.settings,
            alpha=self.alpha, shares=self.shares, temperature=temperature, correction=self.correction, after=keep,
        )  # fmt: skip
        if row["valid_acc"] > self.best["acc"]:
            self.best = {"epoch": epoch, "acc": row["valid_acc"], "prob": self.last, "test": self.tested()}
        return {f"train_{name}": mean for name, mean in means.items()} | row | {"temperature": temperature}

    def tested(self) -> Tensor | None:
        """The test images' probabilities, N x K on the CPU; None without test images."""
        if self.data.test is None:
            return None
        return predictions(self.fabric, self.averaged, self.data.test, self.settings, self.correction)

    def line(self, history: list[dict]) -> str:
        row = history[-1]
        accuracy = f"accuracy {row['train_acc']:.3f}, valid {row['valid_acc']:.3f}"
        return f"epoch {row['epoch']}: J {row['train_J']:.4g}, {accuracy}"

    def warning(self, last: dict) -> str | None:
        """One line on a training that did not do what it is for. last: the history's last row."""
        return None

    def state(self) -> dict:
        return {
            "net": self.net.state_dict(),
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "last": self.last,
        }

    def load(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.average.load(state["average"])
        restore(self.optimiser, state["optimiser"])
        self.best, self.last = state["best"], state["last"]


class Generative(AdgmTraining):
    """Variant `corrected`: the model of the paper's equations 1 to 11, as cxr/adgm/nets.py corrects them."""

    names = ("L", "U", "ce", "J", "acc")
    reads = frozenset({"likelihood_weight", "free_bits", "sample_weight"})

    @staticmethod
    def build(settings: Settings, data: Data) -> ADGM:
        return ADGM(**settings.sizes, likelihood_weight=settings.likelihood_weight, free_bits=settings.free_bits)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        terms = self.model(batch.x, batch.y, batch.noise_a, batch.noise_z, batch.temperature)  # eq. 8 and 9
        J = objective(terms, self.alpha, self.shares)  # eq. 10 and 11
        right = terms.log_q_y.argmax(1) == batch.y
        loss = J
        if self.settings.sample_weight:
            with self.fabric.autocast():
                loss = J + self.settings.sample_weight * self.net.sample_ce(batch.noise_z)
        return loss, {"L": terms.L, "U": terms.U, "ce": terms.ce, "J": J, "acc": right.float()}

    def line(self, history: list[dict]) -> str:
        row = history[-1]
        latent = f"KL_z {row['KL_z']:.3g} nats, {row['active_z']} of {self.settings.z_dim} units of z active"
        return f"{super().line(history)}, valid J {row['valid_J']:.4g}, {latent}"

    def warning(self, last: dict) -> str | None:
        """One line when z carries nothing after the last epoch: KL_z below 0.1 nats, or no active unit."""
        if last["KL_z"] >= 0.1 and last["active_z"] > 0:
            return None
        settings = self.settings
        latent = f"KL_z {last['KL_z']:.3g} nats, {last['active_z']:.0f} of {settings.z_dim} units active"
        text = f"warning: z carries nothing ({latent}): the classifier works as a supervised network"
        if "likelihood_weight" in self.fixed(settings):
            return text
        return f"{text}; raise {self.section}.likelihood_weight (now {settings.likelihood_weight:g})"


class Paper(Generative):
    """Variant `paper`: the paper's text has no weight of the likelihood, no free bits, no average, no class shares."""

    @classmethod
    def fixed(cls, settings: Settings) -> dict:
        own = {"likelihood_weight": 1.0, "free_bits": 0.0, "sample_weight": 0.0}
        return own | {"average": 0.0, "prior": "uniform", "weighting": "sum"}


class WithoutZ(Generative):
    """Variant `no_z`: p(x|y) and p(a|y,x), where no z can carry anything."""

    reads = frozenset({"likelihood_weight"})

    @classmethod
    def fixed(cls, settings: Settings) -> dict:
        return {"sample_weight": 0.0}

    @staticmethod
    def build(settings: Settings, data: Data) -> ADGM:
        return ADGM(**settings.sizes, likelihood_weight=settings.likelihood_weight, use_z=False)

    def warning(self, last: dict) -> None:
        return None
