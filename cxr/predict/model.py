"""A predictor's folder, opened: the network, what calibrates it, and what it refuses.

    model.safetensors, model.json   the classifier as its training wrote it
    calibration.json                scaling, operating points, thresholds (formats.py)
    features.safetensors            means and whitening of the training features (outliers.py)
    README.md                       the model card

The folder is whole: it can be copied to another machine. Shapes: N images, K = 14 findings, S image size.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cxr.classifier.formats import Model
from cxr.classifier.net import Classifier, probability
from cxr.classifier.trained import layer_inputs, open_trained
from cxr.core.files import read_json, sha256
from cxr.core.findings import SLUGS
from cxr.evaluation.calibration import Scaling
from cxr.evaluation.operating import Fitted
from cxr.predict import outliers
from cxr.predict.formats import Calibration, Finding
from cxr.training import weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BATCH = 64


class Scored(NamedTuple):
    """scores: N x K float32, as the network gives them; features: N x D float32."""

    scores: np.ndarray
    features: np.ndarray


class Judged(NamedTuple):
    """What one predictor says of N images.

    probability: N x K, NaN where a finding has no calibration; positive: N x K, 1, 0 or NaN without an operating point;
    ratio: distance as a share of the largest that is accepted, N; view: the guess, N names.
    """

    scores: np.ndarray
    probability: np.ndarray
    positive: np.ndarray
    ratio: np.ndarray
    view: list[str]


@torch.no_grad()
def score(fabric: Fabric, net: Classifier, images: np.ndarray) -> Scored:
    """Scores and last-layer features of uint8 N x S x S images, BATCH at a time, without augmentation."""
    net.eval()
    scores = []
    with layer_inputs(net.head) as features:
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH])).to(fabric.device)
            with fabric.autocast():
                logits = net(batch[:, None].to(torch.float32) / 255)
            scores.append(probability(logits).cpu().numpy())
    return Scored(np.concatenate(scores), np.concatenate(features))


def read_net(folder: Path, stage: str | None = None) -> tuple[Classifier, Model]:
    """A trained classifier and its model.json. Raises ValueError, naming the file, where it can't be read, or where its
    findings are not the fourteen in their order, by which every table, card and report calls them.
    """
    meta = read_json(folder / "model.json", stage, Model)
    if tuple(meta.findings) != SLUGS:
        raise ValueError(f"{folder}/model.json: its findings are not {', '.join(SLUGS)}, in this order")
    return open_trained(folder, meta), meta


def write_gaussians(path: Path, gaussians: outliers.Gaussians) -> None:
    tensors = {name: torch.from_numpy(getattr(gaussians, name)) for name in ("means", "whitening")}
    weights.write(path, tensors)


def fitted(finding: Finding) -> Fitted:
    """The finding's calibration as evaluate computes with it."""
    shares = (finding.trained_share, finding.valid_share, finding.true_share)
    known = [np.nan if share is None else share for share in shares]
    scaling = None
    if finding.slope is not None and finding.intercept is not None:
        scaling = Scaling(finding.slope, finding.intercept)
    return Fitted(*known, scaling, np.nan if finding.threshold is None else finding.threshold)


class Predictor:
    """A predictor's folder on this machine's device. name: how tables call it."""

    def __init__(self, folder: Path, fabric: Fabric, name: str) -> None:
        """Raises ValueError, naming the file, for a folder that is not whole or whose files don't belong together."""
        if not (folder / "calibration.json").is_file():
            raise ValueError(
                f"{folder}: no calibration.json in it; give the folder that the stage calibrate wrote, not a training's"
            )
        net, self.meta = read_net(folder)
        self.calibration = read_json(folder / "calibration.json", "calibrate", Calibration)
        if sha256(folder / "model.safetensors") != self.calibration.weights_sha256:
            raise ValueError(f"{folder}: calibration.json is of other weights; copy the whole folder again")
        if set(self.calibration.findings) != set(SLUGS):
            raise ValueError(
                f"{folder}/calibration.json: its findings are not those of model.json; copy the folder again"
            )
        arrays, _ = weights.read(folder / "features.safetensors")
        views = tuple(self.calibration.outliers.views)
        if set(arrays) != {"means", "whitening"} or len(arrays["means"]) != len(views):
            raise ValueError(f"{folder}/features.safetensors: not those of calibration.json; copy the folder again")
        self.gaussians = outliers.Gaussians(arrays["means"].numpy(), arrays["whitening"].numpy(), views)
        self.fabric, self.name = fabric, name
        self.precision = fabric.strategy.precision.precision
        self.identity = sha256(folder / "calibration.json")  # which holds that of the weights
        self.net = net.to(fabric.device)
        self.fitted = [fitted(self.calibration.findings[slug]) for slug in SLUGS]

    @property
    def size(self) -> int:
        return self.meta.size

    @property
    def view(self) -> str:
        """The view that the model was trained on: frontal, lateral or all."""
        return self.meta.view

    def thresholds(self) -> np.ndarray:
        """The operating points as calibrated probabilities, K; NaN where there is none. Scaling keeps the order."""
        known = [not np.isnan(f.threshold) for f in self.fitted]
        points = [
            f.probability(np.array([f.threshold if k else 0.5]))["calibrated"][0]
            for f, k in zip(self.fitted, known, strict=True)
        ]
        return np.where(known, points, np.nan)

    def judge(self, images: np.ndarray) -> Judged:
        """uint8 N x S x S images."""
        scored = score(self.fabric, self.net, images)
        scores = scored.scores
        columns = [f.probability(scores[:, k])["calibrated"] for k, f in enumerate(self.fitted)]
        limits = np.array([f.threshold for f in self.fitted])
        positive = np.where(np.isnan(limits), np.nan, scores >= limits)
        away = outliers.distances(self.gaussians, scored.features)
        view = [self.gaussians.views[k] for k in away.argmin(axis=1)]
        ratio = away.min(axis=1) / self.calibration.outliers.threshold
        return Judged(scores, np.stack(columns, axis=1), positive, ratio, view)
