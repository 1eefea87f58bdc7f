"""Generated X-rays on whose finding classifiers of real X-rays agree.

A generator does not always draw what its condition asks for, and a wrong label is worse than no image (Fan et al.
2024). The ensemble is the baselines, each trained on real images alone; its score is their mean probability. It calls a
finding present from the score at which sensitivity plus specificity is largest on validation images (Youden 1950).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from cxr.classifier.formats import Model
from cxr.classifier.net import probability
from cxr.classifier.trained import inputs, open_trained
from cxr.core.files import read_json, read_table
from cxr.core.findings import SLUGS

FILTERS = ("none", "agree", "soft")
ROUNDS = 8  # of candidates, at most, as many in each as are wanted
BATCH = 64


class Ensemble(NamedTuple):
    """score: uint8 N x S x S -> mean probabilities N x 14. present: slug -> score from which the finding is present."""

    score: Callable[[np.ndarray], np.ndarray]
    present: Mapping[str, float]


def youden(truth: np.ndarray, scores: np.ndarray) -> float:
    """The score from which on sensitivity + specificity is largest; the higher one where several are equal.

    truth: N of 1, 0 and NaN, which is left out. Raises ValueError where one of the two is missing.
    """
    certain = ~np.isnan(truth)
    positive, scores = truth[certain] == 1, scores[certain]
    if positive.all() or not positive.any():
        raise ValueError("validation has no certain positive, or no certain negative")
    cuts, place = np.unique(scores, return_inverse=True)
    above = [np.bincount(place[chosen], minlength=len(cuts))[::-1].cumsum()[::-1] for chosen in (positive, ~positive)]
    gain = above[0] * (~positive).sum() - above[1] * positive.sum()  # whole numbers, so that equal ones are equal
    return float(cuts[len(cuts) - 1 - int(gain[::-1].argmax())])


def open_ensemble(
    models: Sequence[Path], predictions: Sequence[Path], findings: Sequence[str], device: torch.device
) -> Ensemble:
    """models: folders of trained classifiers; predictions: their parquet files, which hold the validation images.

    Raises ValueError where a finding has no certain validation image of both kinds, with the cure.
    """
    nets, sizes = [], []
    for folder in models:
        meta = read_json(folder / "model.json", f"baseline@{folder.name}", Model)
        nets.append(open_trained(folder, meta).to(device).eval())
        sizes.append(meta.size)
    tables = [read_table(path) for path in predictions]
    valid = [table[table["split"] == "valid"].sort_values("image_id") for table in tables]
    present = {}
    for name in findings:
        mean = np.mean([part[f"score.{name}"].to_numpy(np.float64) for part in valid], axis=0)
        try:
            present[name] = youden(valid[0][f"truth.{name}"].to_numpy(np.float64), mean)
        except ValueError as error:
            raise ValueError(f"balance.filter: {name}: {error}; set balance.filter to none") from None

    @torch.no_grad()
    def score(images: np.ndarray) -> np.ndarray:
        means = np.zeros((len(images), len(SLUGS)))
        for start in range(0, len(images), BATCH):
            block = images[start : start + BATCH]
            for net, size in zip(nets, sizes, strict=True):
                means[start : start + BATCH] += probability(net(inputs(block, size, device))).cpu().numpy() / len(nets)
        return means

    return Ensemble(score, present)


def agreed(
    name: str,
    wanted: tuple[int, int],
    rounds: Iterable[tuple[Iterator[np.ndarray], pd.DataFrame]],
    ensemble: Ensemble,
) -> tuple[list[np.ndarray], pd.DataFrame]:
    """(images, label rows) of a finding on which the ensemble agrees: as many with it, then without it, as `wanted`.

    rounds: each the images and rows of as many candidates, positives first. Raises ValueError where all rounds together
    hold too few.
    """
    k, kept, seen = SLUGS.index(name), ([], []), 0
    for images, rows in rounds:
        pixels = np.stack(list(images))
        shown = ensemble.score(pixels)[:, k] >= ensemble.present[name]
        asked = rows[f"target.{name}"].to_numpy() == 1
        seen += len(rows)
        for label, most, chosen in zip((True, False), wanted, kept, strict=True):
            fitting = np.flatnonzero((asked == label) & (shown == label))[: most - len(chosen)]
            chosen += [(pixels[i], rows.iloc[i]) for i in fitting]
        if all(len(chosen) == most for most, chosen in zip(wanted, kept, strict=True)):
            break
    else:
        raise ValueError(
            f"{name}: the classifiers agree with {len(kept[0]):,} positives and {len(kept[1]):,} negatives of "
            f"{seen:,} generated X-rays, and {wanted[0]:,} and {wanted[1]:,} are wanted: the generator does not show "
            "what it is asked for; lower balance.dose, or set balance.filter to none"
        )
    print(f"balance: {name}: the classifiers agree with {sum(map(len, kept)):,} of {seen:,} generated X-rays")
    chosen = [pair for part in kept for pair in part]
    rows = pd.DataFrame([row for _, row in chosen]).reset_index(drop=True)
    rows["image_id"] = [f"synthetic/{name}/{i:06d}" for i in range(len(rows))]
    return [image for image, _ in chosen], rows


def soft(images: Sequence[np.ndarray], rows: pd.DataFrame, ensemble: Ensemble) -> pd.DataFrame:
    """The rows with the ensemble's probabilities as targets, all of weight 1."""
    scores = ensemble.score(np.stack(list(images))).astype(np.float32)
    targets = {f"target.{slug}": scores[:, k] for k, slug in enumerate(SLUGS)}
    return rows.assign(**targets, **{f"weight.{slug}": np.float32(1) for slug in SLUGS})
