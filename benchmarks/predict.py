"""cxr predict beside what it is made of: its decoding beside the stage resize, the whole beside its network alone.

python -m benchmarks.predict
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import inputs
from benchmarks.timing import Line, agree, main, side_by_side
from cxr.core.findings import SLUGS
from cxr.data.pack import pack
from cxr.data.sources.archive import Folder

PROCESSES = 2
MANY, OFTEN = 80, 40  # times each large and each small file: enough for the start of two processes not to count


def write_predictor(folder: Path, size: int, backbone: str) -> None:
    """A predictor of random weights that accepts every image."""
    import torch

    from cxr.classifier.formats import Model
    from cxr.classifier.net import build
    from cxr.core.files import sha256, write_json
    from cxr.predict.formats import Calibration, Finding, Outliers
    from cxr.training import weights

    folder.mkdir()
    torch.manual_seed(0)
    net = build("none", 0, 2, backbone)
    meta = Model(
        backbone=backbone, size=size, epochs=1, batch=2, lr=1e-3, weights="none", seed=0, findings=list(SLUGS),
        classes=2, select_on=[], best_epoch=1, split_sha256="", train_images=1,
    )  # fmt: skip
    weights.save(folder / "model.safetensors", net.state_dict(), meta.model_dump())
    width = net.head.in_features
    weights.write(
        folder / "features.safetensors", {"means": torch.zeros(1, width), "whitening": torch.eye(width, width)}
    )
    finding = Finding(
        trained_share=0.5, valid_share=0.5, true_share=0.5, slope=1.0, intercept=0.0, threshold=0.5, valid_positives=9,
        valid_negatives=9, test_positives=9, test_negatives=9, sensitivity=None, specificity=None,
        quantiles=list(np.linspace(0, 1, 21)),
    )  # fmt: skip
    outliers = Outliers(
        images=1, views=["frontal"], false_alarms=0.0, threshold=1e9, valid_images=1, valid_refused=0.0,
        test_refused=0.0, view_accuracy=None,
    )  # fmt: skip
    calibration = Calibration(
        data="phantom", scaling="platt", sensitivity=0.9, confidence=0.95, test_images=1, test_patients=1,
        split_sha256="", weights_sha256=sha256(folder / "model.safetensors"), findings=dict.fromkeys(SLUGS, finding),
        outliers=outliers,
    )  # fmt: skip
    write_json(folder / "calibration.json", calibration)


def lines(quick: bool) -> Iterator[Line]:
    from cxr.predict.decoding import decoded
    from cxr.predict.model import BATCH, Predictor
    from cxr.predict.run import predict
    from cxr.predict.source import Source
    from cxr.training.machine import fabric

    repeats = 1 if quick else 5
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        full, size = (inputs.SMALL, 32) if quick else (inputs.FULL, 224)
        paths = inputs.files(folder / "full", 3 if quick else 12, full)
        table = inputs.records(paths, 12 if quick else MANY)
        tree = Folder(folder / "full")

        def ours() -> np.ndarray:
            images = decoded(tree, list(table["path"]), frozenset(), [size], PROCESSES)
            return np.stack([file.images[size] for files in images for file in files])

        def resized() -> np.ndarray:
            with _without_progress():
                pack(tree, table, [size], folder / "store", PROCESSES, max_rejected=0)
            return np.load(folder / "store" / str(size) / "images.npy")

        yield side_by_side(
            f"predict's decoding, {full[1]} x {full[0]} JPEG ({inputs.size_of(paths)}) to {size}, two processes, "
            "against the stage resize",
            ours, resized, _same, unit="image", per=len(table), repeats=repeats, bar=0.8,
        )  # fmt: skip

        backbone = "densenet_small" if quick else "densenet121"
        write_predictor(folder / "predictor", size, backbone)
        machine = fabric("auto")
        model = Predictor(folder / "predictor", machine, "predictor")
        small = inputs.files(folder / "small", 3 if quick else 32, inputs.SMALL)
        source = Source(Folder(folder / "small"), [path.name for path in small] * (11 if quick else OFTEN))
        names = source.names
        pixels = {
            names[file.number]: file.images[size]
            for files in decoded(source.tree, names[: len(small)], frozenset(), [size], 1)
            for file in files
        }
        blocks = [np.stack([pixels[name] for name in names[k : k + BATCH]]) for k in range(0, len(names), BATCH)]

        def whole() -> np.ndarray:
            import pandas as pd

            shutil.rmtree(folder / "out", ignore_errors=True)
            with _without_progress():
                counts = predict([model], source, folder / "out", pseudonyms=False, cards=0, processes=PROCESSES)
            assert counts.accepted == len(names)
            written = pd.read_parquet(folder / "out" / "predictions.parquet")
            return written[[f"probability.{name}" for name in SLUGS]].to_numpy()

        yield side_by_side(
            f"predict at {size}, {inputs.SMALL[1]} x {inputs.SMALL[0]} JPEGs, {len(names)} files to tables, against "
            f"{backbone} alone ({machine.strategy.precision.precision})",
            whole, lambda: np.concatenate([model.judge(block).probability for block in blocks]), _close, unit="image",
            per=len(names), repeats=1 if quick else 3, bar=0.9,
        )  # fmt: skip


def _without_progress() -> contextlib.AbstractContextManager:
    return contextlib.redirect_stderr(io.StringIO())


def _same(ours: np.ndarray, theirs: np.ndarray) -> str:
    return agree(int((ours != theirs).sum()), 0, "bytes that differ")


def _close(ours: np.ndarray, theirs: np.ndarray) -> str:
    return agree(float(np.abs(ours - theirs).max()), 1e-5, "largest difference of a probability")


if __name__ == "__main__":
    main(lines)
