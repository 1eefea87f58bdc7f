"""How many synthetic images of each rare finding balance the training table, and which labels they carry.

Paper 1 adds "enough to almost balance" without a number. Here balance has a definition: after adding n_i images of each
finding i, its share of all images is `target_prevalence` r,
    p_i + n_i = r (N + X),   X = sum of n_j over the findings,
with p_i positives among N real training images. A synthetic image is positive for its own finding only, so that every
image added for one finding dilutes the others. Summed over k findings: X (1 - k r) = k r N - P, which has a finite X
only for r < 1 / k: the literal 50 / 50 of three findings would need a negative number of images (docs/papers.md, E26).
A finding that is already frequent enough gets none and drops out.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cxr.core.findings import SLUGS, UNCERTAIN

LABELLINGS = ("masked", "one_hot", "sampled")


def solve(positives: dict[str, int], n: int, target_prevalence: float) -> dict[str, int]:
    """Synthetic images per finding (slug -> count >= 0) for N = n real images with the given positives.

    Raises ValueError, with the arithmetic, when no finite number of images reaches the target.
    """
    r = target_prevalence
    if not 0 < r < 1:
        raise ValueError(f"balance.target_prevalence = {r} must lie between 0 and 1")
    active = dict(positives)
    while active:
        k, p = len(active), sum(active.values())
        room = 1 - k * r
        if room <= 0:
            if all(count >= r * n for count in active.values()):
                break  # nothing to add in the first place
            x = (k * r * n - p) / room if room else math.inf
            raise ValueError(
                f"balance.target_prevalence = {r:g} can't be reached for {k} findings at once: "
                f"X (1 - {k} x {r:g}) = {k} x {r:g} x {n:,} - {p:,} gives X = "
                f"{'infinitely many' if math.isinf(x) else f'{x:,.0f}'} synthetic images; "
                f"choose less than 1/{k} = {1 / k:.3f}"
            )
        x = (k * r * n - p) / room
        most = max(active, key=active.__getitem__)
        if active[most] < r * (n + max(x, 0)):
            return {f: max(0, round(r * (n + x) - p)) if f in active else 0 for f, p in positives.items()}
        del active[most]  # one at a time: without it the others need more images, which may dilute the next one
    return dict.fromkeys(positives, 0)


def sources(findings: list[str], n: int, real: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """n random real training rows, with repeats, of images certainly positive for at least one of the findings
    (slugs). Raises ValueError where there is none.
    """
    having = real[(real[[f"truth.{name}" for name in findings]] == 1).any(axis=1)]
    if having.empty:
        raise ValueError(
            f"{' and '.join(findings)}: no real training image of the classifier's view to take labels from; "
            "set balance.labels to masked, or take it out of rare.findings"
        )
    return having.iloc[rng.integers(len(having), size=n)]


def check(labels: str, view: str, mode: str, learnt: str, generator: str) -> None:
    """Raises ValueError for labels that a generator's images can't carry, and for a classifier's view (classifier.view)
    that would see none of the images, or others beside its own. mode, learnt: the generator's gan.mode and gan.view.
    """
    if mode == "pooled" and labels == "masked":
        raise ValueError(
            f"balance.labels = masked, but the pooled generator {generator} makes X-rays of no known finding: "
            "set balance.labels to sampled or one_hot (the paper's reading), or gan.mode to conditional"
        )
    if view not in ("all", learnt):
        raise ValueError(
            f"classifier.view = {view}, but the generator {generator} learnt from gan.view = {learnt}: set gan.view to "
            f"{view}, or classifier.view to all"
        )


def synthetic_rows(
    finding: str,
    n: int,
    labels: str,
    real: pd.DataFrame,
    projection: str,
    drawn: pd.DataFrame | None = None,
    *,
    known: bool = True,
) -> pd.DataFrame:
    """Label rows for n synthetic images of one finding (a slug), as in the label table, with synthetic = True.

    labels: masked - only the own finding counts in the loss (weight 1, target 1), the other 13 have weight 0;
    one_hot - the other 13 count as absent (the paper's reading; a false negative wherever the image shows more);
    sampled - targets and weights of `drawn`, n real training rows. known: the image is made to show the finding; a
    pooled generator's is not, and sampled labels then stay as drawn. Where the real rows have a class of uncertain
    labels of its own (uncertain.<slug>), only sampled labels are of it. projection: what the generator learnt from; of
    one that learnt from 'all', nobody knows which an image is.
    """
    assert labels in LABELLINGS, labels
    target = np.zeros((n, len(SLUGS)), np.float32)
    weight = np.zeros_like(target) if labels == "masked" else np.ones_like(target)
    third = [name for name in UNCERTAIN if name in real]
    uncertain = np.zeros((n, len(third)), np.float32)
    if labels == "sampled":
        target = drawn[[f"target.{s}" for s in SLUGS]].to_numpy(np.float32, copy=True)
        weight = drawn[[f"weight.{s}" for s in SLUGS]].to_numpy(np.float32, copy=True)
        uncertain = drawn[third].to_numpy(np.float32, copy=True)
    if known or labels != "sampled":
        k = SLUGS.index(finding)
        target[:, k] = weight[:, k] = 1
    name = [f"synthetic/{finding}/{i:06d}" for i in range(n)]
    head = pd.DataFrame({"image_id": name, "patient_id": name, "split": "train", "projection": projection})
    blocks = [head.astype(object)]
    for kind, values in (("target", target), ("weight", weight), ("truth", np.full_like(target, np.nan))):
        blocks.append(pd.DataFrame(values, columns=[f"{kind}.{s}" for s in SLUGS]))
    blocks.append(pd.DataFrame(uncertain, columns=third))
    return pd.concat(blocks, axis=1).assign(synthetic=True)


def prevalence(table: pd.DataFrame, finding: str) -> float:
    """Mean target of the finding over the training rows: the share of positives, where a target between 0 and 1 (a
    smoothed or predicted label) counts as that part of one.
    """
    train = table[table["split"] == "train"]
    return float(train[f"target.{finding}"].to_numpy(np.float64).mean())
