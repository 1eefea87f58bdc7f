"""bf16 changes nothing that a reader would notice: the classifier trained alike in fp32 and bf16, macro AUC compared.

python -m benchmarks.precision
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import made_up
from benchmarks.steps import Silent
from benchmarks.timing import Line, agree, main
from cxr import classifier
from cxr.metrics import auc
from cxr.objectives import CrossEntropy
from cxr.runtime import fabric

AUC_DIFFERENCE = 0.01


def trained(precision: str, folder: Path, size: int, n: int, epochs: int, batch: int) -> tuple[float, float]:
    """(macro AUC on held-out pictures, seconds of training)."""
    machine = fabric(precision)
    images, labels = made_up.findings(folder / "train", n, size, 1, machine.device)
    held_out, truth = made_up.findings(folder / "held_out", n, size, 2, machine.device)
    few, few_labels = made_up.findings(folder / "valid", 8, size, 3, machine.device)
    started = time.perf_counter()
    net, _, _ = classifier.fit(
        machine, classifier.build("none", 0), labels, images, few_labels, few, Silent(), label=precision, select_on=[],
        objective=CrossEntropy(), epochs=epochs, batch=batch, lr=1e-3, average=0.0, crop_min=0.9, flip=0.0,
        rotate=0.0, seed=0,
    )  # fmt: skip
    took = time.perf_counter() - started
    scores = classifier.predict(machine, net, held_out)
    return float(auc(classifier.columns(truth, "truth").astype(np.float64), scores).mean()), took


def native() -> bool:
    """Whether this machine computes bf16 itself."""
    return fabric("auto")._precision.precision == "bf16-mixed"


def lines(quick: bool, at_most: float = AUC_DIFFERENCE) -> Iterator[Line]:
    if not quick and not native():
        print("fp32 against bf16 is left out: this machine emulates bf16, 10 to 50 times slower", file=sys.stderr)
        return
    size, n, epochs, batch = (32, 16, 1, 4) if quick else (128, 4096, 8, 32)
    with tempfile.TemporaryDirectory() as temporary:
        found = {p: trained(p, Path(temporary) / p, size, n, epochs, batch) for p in ("32-true", "bf16-mixed")}
    (exact, slow), (rounded, fast) = found.values()
    yield Line(
        f"DenseNet121 at {size}, {epochs} epochs of {n} images in bf16, against fp32",
        "training", fast, slow, f"macro AUC {rounded:.4f} against {exact:.4f}", f"within {at_most:g}", True,
        agree(abs(rounded - exact), at_most, "difference of the macro AUC"),
    )  # fmt: skip


if __name__ == "__main__":
    main(lines)
