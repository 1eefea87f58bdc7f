"""A training step of the classifier, end to end with its input, beside torchvision's DenseNet121 fed from JPEGs.

python -m benchmarks.densenet_step
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks import inputs
from benchmarks.classifier_input import AUGMENTATION, store, transforms
from benchmarks.plain_data import Files, endless, loader
from benchmarks.steps import Silent, step_line
from benchmarks.timing import Line, agree, main
from cxr.classifier import net as classifier_net
from cxr.classifier import train as classifier_train
from cxr.classifier.objectives import CrossEntropy
from cxr.classifier.settings import Settings
from cxr.core import findings
from cxr.core.findings import SLUGS
from cxr.training.batches import Images
from cxr.training.machine import fabric

TOLERANCE = 2e-3  # of two losses, relative, after an update: Adam's first step magnifies rounding


def labels(n: int) -> pd.DataFrame:
    """A label table of n rows, the findings drawn at random."""
    drawn = np.random.default_rng(0).random((n, len(SLUGS)))
    columns = {f"target.{name}": (drawn[:, k] < 0.3).astype(np.float32) for k, name in enumerate(SLUGS)}
    weights = {f"weight.{name}": np.ones(n, np.float32) for name in SLUGS}
    truth = {f"truth.{name}": columns[f"target.{name}"].astype(np.float64) for name in SLUGS}
    return pd.DataFrame(columns | weights | truth)


def ours(machine, net, table: pd.DataFrame, images: Images, checkpoints, batch: int, lr: float, **augment):
    options = {"crop_min": 1.0, "flip": 0.0, "rotate": 0.0} | augment
    settings = Settings(epochs=1, batch=batch, lr=lr, average=0.0, seed=0, **options)
    part = classifier_train.Labelled(table, images)
    return classifier_train.fit(
        machine, net, part, part, checkpoints, CrossEntropy(), settings, label="benchmark", select_on=[]
    )


class Plain:
    """torchvision's net and Adam, as they come: float32, NCHW, eager; normalised RGB batches from `batches`."""

    def __init__(self, weights: dict[str, torch.Tensor] | None, lr: float, device: torch.device | str = "cpu") -> None:
        from torchvision.models import densenet121

        self.net = densenet121(num_classes=len(SLUGS)).to(device)
        if weights:
            self.net.load_state_dict(weights)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=lr)
        self.criterion = nn.BCEWithLogitsLoss()
        self.device = device

    def step(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.net.train()
        self.optimiser.zero_grad()
        loss = self.criterion(self.net(x.to(self.device)), target.to(self.device))
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def agreement(machine, images: Images, batch: int) -> str:
    """One update of either from the same weights on the same batch: the losses before and after must be equal.
    Raises Difference.
    """
    lr = 1e-4
    net = classifier_net.build("none", 0)
    plain = Plain({k: v.cpu().contiguous() for k, v in net.net.state_dict().items()}, lr, machine.device)
    table = labels(batch)
    few = Images(images.stores, images.stores[0].index["image_id"][:batch], machine.device)
    _, history, _ = ours(machine, net, table, few, Silent(), batch, lr)
    gray = few.gather(torch.arange(batch)).to(torch.float32) / 255
    x = (gray.expand(-1, 3, -1, -1) - 0.5) / 0.25  # the normalisation of a net that starts from nothing
    target = torch.from_numpy(findings.columns_of(table, "target"))
    before = float(plain.step(x, target))
    plain.net.eval()
    with torch.no_grad():
        after = float(plain.criterion(plain.net(x.to(machine.device)), target.to(machine.device)))
    theirs, mine = np.array([before, after]), history[["train_loss", "valid_loss"]].to_numpy()[0]
    return agree(
        float(np.abs(mine / theirs - 1).max()), TOLERANCE, "relative difference of the losses around an update"
    )


def plainly(paths: list[Path], size: int, batch: int) -> Callable[[], torch.Tensor]:
    """The plain step with its input, to be made again and again."""
    plain = Plain(None, 1e-4)
    target = torch.from_numpy(findings.columns_of(labels(len(paths)), "target"))
    batches = endless(loader(Files(paths, transforms(size, True)), 64 * batch, batch))

    def step() -> torch.Tensor:
        x, numbers = next(batches)
        return plain.step(x, target[numbers])

    return step


def lines(quick: bool) -> Iterator[Line]:
    size, batch, n, repeats = (64, 4, 8, 1) if quick else (224, 16, 32, 5)
    machine = fabric("auto")
    with tempfile.TemporaryDirectory() as temporary:
        paths = inputs.files(Path(temporary) / "files", n, inputs.SMALL)
        images = store(Path(temporary) / "store", paths, size)
        exact = fabric("32-true")
        checked = agreement(exact, images, min(batch, 8))
        ids = np.resize(images.stores[0].index["image_id"].to_numpy(object), (repeats + 2) * batch)
        images, table = Images(images.stores, ids, machine.device), labels(len(ids))  # one epoch is never at its end
        geometry = {"crop_min": AUGMENTATION["crop"][0], "flip": AUGMENTATION["flip"]}

        def train(checkpoints) -> None:
            ours(machine, classifier_net.build("none", 0), table, images, checkpoints, batch, 1e-4, **geometry)

        yield step_line(
            f"DenseNet121 training step at {size}, batch {batch}", machine, train, plainly, paths, size, batch,
            repeats=repeats, checked=checked, bar=2.5,
        )  # fmt: skip


if __name__ == "__main__":
    main(lines)
