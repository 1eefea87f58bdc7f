"""bf16 changes nothing that a reader would notice: the classifier trained alike in fp32 and bf16, macro AUC compared.

python -m benchmarks.precision
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from benchmarks import made_up
from benchmarks.steps import Silent
from benchmarks.timing import Line, main
from cxr.classifier import net as classifier_net
from cxr.classifier import train
from cxr.classifier.objectives import CrossEntropy
from cxr.classifier.settings import Settings
from cxr.core import findings
from cxr.training.machine import fabric

AUC_DIFFERENCE = 0.01
aten = torch.ops.aten
PRODUCTS = {aten.convolution.default, aten.convolution_backward.default, aten.mm.default, aten.addmm.default}


class SummedWide(TorchDispatchMode):
    """bf16 convolutions and matrix products as tensor cores, AMX and AVX512-BF16 compute them: products of bf16 numbers
    summed in fp32, the sum rounded to bf16. Elsewhere PyTorch's own bf16 kernels take 10 to 50 times as long as fp32's.
    """

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if op not in PRODUCTS or all(v.dtype != torch.bfloat16 for v in args if isinstance(v, torch.Tensor)):
            return op(*args, **kwargs)
        args, kwargs = tree_map_only(torch.Tensor, torch.Tensor.float, (args, kwargs))
        return tree_map_only(torch.Tensor, torch.Tensor.bfloat16, op(*args, **kwargs))


class Trained(NamedTuple):
    """auc: macro, on held-out pictures; seconds: of the training."""

    auc: float
    seconds: float


def trained(precision: str, folder: Path, size: int, n: int, epochs: int, batch: int, order: int) -> Trained:
    """From the same weights on the same pictures; order: seed of the batches."""
    from cxr.evaluation.metrics import auc  # with scipy, which a bare GPU box may lack

    machine = fabric(precision)
    images, labels = made_up.findings(folder / "train", n, size, 1, machine.device)
    held_out, truth = made_up.findings(folder / "held_out", n, size, 2, machine.device)
    few, few_labels = made_up.findings(folder / "valid", 8, size, 3, machine.device)
    started = time.perf_counter()
    settings = Settings(
        epochs=epochs, batch=batch, lr=1e-3, average=0.98, crop_min=0.9, flip=0.0, rotate=0.0, seed=order
    )
    parts = train.Labelled(labels, images), train.Labelled(few_labels, few)
    start = classifier_net.build("none", 0)
    net, _, _ = train.fit(machine, start, *parts, Silent(), CrossEntropy(), settings, label=precision, select_on=[])
    took = time.perf_counter() - started
    scores = classifier_net.predict(machine, net, held_out)
    return Trained(float(auc(findings.columns_of(truth, "truth").astype(np.float64), scores).mean()), took)


def native() -> bool:
    """Whether this machine computes bf16 itself."""
    return fabric("auto").strategy.precision.precision == "bf16-mixed"


def lines(quick: bool, at_most: float = AUC_DIFFERENCE) -> Iterator[Line]:
    own = native()
    sizes = size, n, epochs, _ = (32, 16, 1, 4) if quick else (64, 3072, 8, 32) if own else (32, 3072, 8, 16)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exact = trained("32-true", folder / "fp32", *sizes, 0)
        reordered = trained("32-true", folder / "again", *sizes, 1)
        with contextlib.nullcontext() if own else SummedWide():
            rounded = trained("bf16-mixed", folder / "bf16", *sizes, 0)
    apart = abs(rounded.auc - exact.auc)
    how = "" if own else ", emulated with sums in fp32"
    yield Line(
        f"DenseNet121 at {size}, {epochs} epochs of {n:,} images in bf16{how}, against fp32",
        "training", rounded.seconds if own else float("nan"), exact.seconds,
        f"macro AUC {rounded.auc:.4f} against {exact.auc:.4f}", f"within {at_most:g}", apart <= at_most,
        f"fp32 with its batches in another order: {reordered.auc:.4f}",
    )  # fmt: skip


if __name__ == "__main__":
    main(lines)
