"""A predictor as one ONNX file: the network, its calibration and its limit for outliers, for any ONNX runtime.

    input    image        float32 N x 1 x S x S, gray from 0 to 1: the 8-bit values of a squashed X-ray, divided by 255
    outputs  score        float32 N x 14, the network's own
             probability  float32 N x 14, calibrated; NaN for a finding without calibration
             ratio        float32 N, distance from the training images as a share of the largest accepted, 1

The file's metadata hold the findings, size, view, operating points (thresholds, on scores) and the weights' SHA-256.
What is not in it: decoding, resizing and what predict refuses by the header. N is free.
"""

from __future__ import annotations

import contextlib
import copy
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cxr.classifier.net import probability
from cxr.evaluation import calibration
from cxr.evaluation.operating import Fitted
from cxr.predict.model import Predictor

OPSET = 18
INPUT, OUTPUTS = "image", ("score", "probability", "ratio")
TOLERANCE = 1e-4  # between the file's outputs and the predictor's
MISSING = "onnx, onnxscript and onnxruntime are needed: pip install 'cxr[onnx]'"


def line(fitted: Fitted) -> tuple[float, float]:
    """(slope, intercept) from a score's logit to the calibrated probability's, which is linear in it; NaN without."""
    if fitted.scaling is None:
        return np.nan, np.nan
    scaled = calibration.apply(fitted.scaling, calibration.shift(np.zeros(1), fitted.trained, fitted.valid))
    return fitted.scaling.slope, float(calibration.shift(scaled, fitted.valid, fitted.true)[0])


class Whole(nn.Module):
    """What the file computes: gray images N x 1 x S x S in [0, 1] -> score, probability, ratio."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        net = copy.deepcopy(predictor.net).cpu().float().eval()
        head = net.head
        self.head, self.body = head, net
        for module in list(net.modules()):  # the features are what the head reads
            for name, child in list(module.named_children()):
                if child is head:
                    setattr(module, name, nn.Identity())
        lines = torch.tensor([line(f) for f in predictor.fitted], dtype=torch.float32)
        self.register_buffer("slope", lines[:, 0])
        self.register_buffer("intercept", lines[:, 1])
        # Rounding matters where a distance is a small difference of large products.
        self.register_buffer("means", torch.from_numpy(predictor.gaussians.means).double())
        self.register_buffer("whitening", torch.from_numpy(predictor.gaussians.whitening).double())
        self.limit = float(predictor.calibration.outliers.threshold)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        features = self.body(image)
        score = probability(functional.linear(features, self.head.weight, self.head.bias))
        clipped = score.double().clamp(calibration.TINY, 1 - calibration.TINY)
        logit = torch.log(clipped) - torch.log1p(-clipped)
        calibrated = torch.sigmoid(self.slope * logit + self.intercept).float()
        moved = (features.double()[:, None] - self.means) @ self.whitening
        ratio = moved.square().sum(dim=2).sqrt().amin(dim=1) / self.limit
        return score, calibrated, ratio.float()


def metadata(predictor: Predictor) -> dict[str, str]:
    """What a program needs beside the arrays, as strings."""
    meta, known = predictor.meta, predictor.calibration
    thresholds = {slug: known.findings[slug].threshold for slug in meta.findings}
    return {
        "findings": json.dumps(list(meta.findings)),
        "thresholds": json.dumps(thresholds),
        "size": str(meta.size),
        "view": meta.view,
        "data": known.data,
        "weights_sha256": known.weights_sha256,
        "note": "research only: no medical device",
    }


def write(predictor: Predictor, file: Path) -> None:
    """Write the predictor as an ONNX file. Raises ValueError where the packages are missing."""
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter imports it
    except ImportError:
        raise ValueError(MISSING) from None
    whole, example = Whole(predictor), torch.rand(2, 1, predictor.size, predictor.size)
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")  # of torch's own code
        program = torch.onnx.export(
            whole.eval(), (example,), input_names=[INPUT], output_names=list(OUTPUTS), opset_version=OPSET,
            dynamic_shapes={"image": {0: torch.export.Dim("images", min=1)}}, dynamo=True, verbose=False,
        )  # fmt: skip
    proto = program.model_proto
    _forget_sources(proto.graph)
    for key, value in metadata(predictor).items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(file))


def _forget_sources(graph) -> None:
    """Remove what the exporter notes of each node and array: lines of source files, with the paths of this machine."""
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def run(file: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What an ONNX file says of uint8 N x S x S images, by onnxruntime on the CPU."""
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(MISSING) from None
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    x = images[:, None].astype(np.float32) / 255
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: x}), strict=True))


def difference(predictor: Predictor, file: Path, seed: int = 0, images: int = 8) -> float:
    """The largest difference between the file's outputs and the predictor's, on random soft images; ratios as shares of
    themselves. Raises ValueError above TOLERANCE.
    """
    rng, size = np.random.default_rng(seed), predictor.size
    coarse = torch.from_numpy(rng.random((images, 1, 8, 8)).astype(np.float32))
    soft = functional.interpolate(coarse, (size, size), mode="bilinear")[:, 0].numpy()
    x = (255 * soft + rng.normal(0, 6, soft.shape)).clip(0, 255).astype(np.uint8)
    ours, theirs = predictor.judge(x), run(file, x)
    if (np.isnan(ours.probability) != np.isnan(theirs["probability"])).any():
        raise ValueError("the ONNX file calibrates other findings than the predictor: please report this")
    gaps = [
        np.abs(ours.scores - theirs["score"]).max(),
        np.nan_to_num(np.abs(ours.probability - theirs["probability"])).max(),
        np.abs(ours.ratio / theirs["ratio"] - 1).max(),
    ]
    if (gap := float(max(gaps))) > TOLERANCE:
        raise ValueError(f"the ONNX file differs from the predictor by {gap:.2g}, more than {TOLERANCE:g}")
    return gap
