"""How many synthetic images of each rare finding balance the training table, and which labels they have.

Paper 1 adds "enough to almost balance" and gives no number. Here, n_i images of each finding i are added so that its
share of all images is `target_prevalence` r,
    p_i + n_i = r (N + X),   X = sum of n_j over the findings,
with p_i positives among N real training images. A synthetic image is positive for its own finding only, so every image
added for one finding dilutes the others. A generator of all training images may add m negatives beside each positive,
so that being generated says nothing of the finding; then X = (1 + m) S, with S the sum of n_j. Summed over k findings
with P positives, S (1 - (1 + m) k r) = k r N - P has a finite solution only for r < 1 / ((1 + m) k): 50 / 50 for three
findings would need a negative number of images (docs/papers.md, E26). A finding that is frequent enough already gets
none and drops out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core.findings import SLUGS, UNCERTAIN

if TYPE_CHECKING:
    from cxr.synthesis.samplers import Sampler

LABELLINGS = ("masked", "one_hot", "sampled")
VIEWS = ("kept", "independent")


def solve(positives: dict[str, int], n: int, target_prevalence: float, negatives: float = 0.0) -> dict[str, int]:
    """Number of synthetic positives per finding (slug), for N = n real images with these positives. negatives: m.

    Raises ValueError, with the arithmetic, when no finite number of images reaches the target.
    """
    r = target_prevalence
    if not 0 < r < 1:
        raise ValueError(f"balance.target_prevalence = {r} must lie between 0 and 1")
    active, each = dict(positives), 1 + negatives
    while active:
        k, p = len(active), sum(active.values())
        room = 1 - each * k * r
        if room <= 0:
            if all(count >= r * n for count in active.values()):
                break  # nothing to add
            added = (k * r * n - p) / room if room else math.inf
            raise ValueError(
                f"balance.target_prevalence = {r:g} can't be reached for {k} findings at once: "
                f"S (1 - {each:g} x {k} x {r:g}) = {k} x {r:g} x {n:,} - {p:,} gives S = "
                f"{'infinitely many' if math.isinf(added) else f'{added:,.0f}'} synthetic positives; "
                f"choose less than 1/{each * k:g} = {1 / (each * k):.3f}"
            )
        added = (k * r * n - p) / room
        most = max(active, key=active.__getitem__)
        share = r * (n + max(each * added, 0))
        if active[most] < share:
            whole = r * (n + each * added)
            return {f: max(0, round(whole - p)) if f in active else 0 for f, p in positives.items()}
        del active[most]  # one at a time: the others then need more images, which may dilute the next one
    return dict.fromkeys(positives, 0)


def wanted(
    train: pd.DataFrame, findings: list[str], target_prevalence: float, dose: float = 0.0, negatives: float = 0.0
) -> dict[str, tuple[int, int, int]]:
    """Finding (slug) -> (positives, synthetic positives, synthetic negatives), for the real training rows.

    dose: synthetic positives as a multiple of the real ones; 0: as many as reach target_prevalence. negatives: a
    multiple of the synthetic positives. Raises ValueError where no finding needs an image.
    """
    positives = {name: round(prevalence(train, name) * len(train)) for name in findings}
    if dose:
        added = {name: round(dose * count) for name, count in positives.items()}
    else:
        added = solve(positives, len(train), target_prevalence, negatives)
    if not any(added.values()):
        raise ValueError(
            f"no finding needs an image: {positives} positives of {len(train):,}; "
            f"raise balance.{'dose' if dose else 'target_prevalence'} = {dose or target_prevalence:g}"
        )
    return {name: (positives[name], added[name], round(negatives * added[name])) for name in findings}


def sources(findings: list[str], n: int, real: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """n random real training rows, with repeats, that are certainly positive for one of the findings (slugs) or more.

    Raises ValueError where there is none.
    """
    positives = real[(real[[f"truth.{name}" for name in findings]] == 1).any(axis=1)]
    if positives.empty:
        raise ValueError(
            f"{' and '.join(findings)}: no real training image of the classifier's view to take labels from; "
            "set balance.labels to masked, or take it out of rare.findings"
        )
    return positives.iloc[rng.integers(len(positives), size=n)]


def negatives(name: str, n: int, real: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """n random real training rows, with repeats, that are certainly negative for the finding (slug)."""
    absent = real[real[f"truth.{name}"] == 0]
    if absent.empty:
        raise ValueError(f"{name}: no negative training image; set balance.negatives to 0")
    return absent.iloc[rng.integers(len(absent), size=n)]


def check(labels: str, negatives: float, view: str, sampler: Sampler, views: str = "kept") -> None:
    """Raises ValueError for labels, negatives or views (of VIEWS) that the generator's images can't have, and for a
    classifier.view (view) that they don't have.
    """
    generator, gan_view = sampler.folder.name, sampler.meta.view
    if negatives and not sampler.whole:
        raise ValueError(
            f"balance.negatives = {negatives:g}, but {sampler.meta.kind} {generator} draws positives alone: set "
            "balance.negatives to 0, or balanced_by.samplers to a generator of all training images (diffusion)"
        )
    if views == "independent" and (sampler.edits or not sampler.whole):
        raise ValueError(
            f"balance.views = independent, but {sampler.meta.kind} {generator} does not choose its X-rays' view: set "
            "balance.views to kept, or balanced_by.samplers to a generator of all training images (diffusion)"
        )
    if not sampler.certain and labels == "masked":
        raise ValueError(
            f"balance.labels = masked, but the pooled generator {generator} makes X-rays of no known finding: "
            "set balance.labels to sampled or one_hot (the paper's reading), or gan.mode to conditional"
        )
    if view not in ("all", gan_view):
        raise ValueError(
            f"classifier.view = {view}, but the generator {generator} was trained on {gan_view} X-rays: set "
            f"its view to {view}, or classifier.view to all"
        )


def check_copies(name: str, share: float | None, generated: int, folder: object, most: float) -> None:
    """Raises ValueError when more than `most` of a finding's generated images are copies of training images.

    share: of the `generated` images that fidelity judged, in `folder`; None: it could not judge them, which is printed.
    """
    if share is None:
        print(f"balance: {name}: unknown whether its generator replays training images: it has no held-out X-ray")
    elif share > most:
        raise ValueError(
            f"{name}: {share:.1%} of {generated:,} generated X-rays replay training images ({folder}), "
            f"more than balance.max_duplicates = {most:g}: train its GAN for fewer gan.epochs, take it out of "
            "rare.findings, or raise the limit"
        )


def synthetic_rows(
    finding: str,
    n: int,
    labels: str,
    real: pd.DataFrame,
    projection: str,
    drawn: pd.DataFrame | None = None,
    *,
    made_for_finding: bool = True,
    present: bool = True,
    first: int = 0,
) -> pd.DataFrame:
    """Label rows for n synthetic images of one finding (a slug), as in the label table, with synthetic = True.

    labels: masked - only the finding itself counts in the loss (weight 1, target 1), the other 13 have weight 0;
    one_hot - the other 13 count as absent (the paper's reading; false wherever the image shows more);
    sampled - targets and weights of `drawn`, n real training rows. made_for_finding: whether the image is made to show
    the finding; a pooled generator's is not, and its sampled labels stay as drawn. Where uncertain is a class of its
    own (columns uncertain.<slug>), only sampled labels may be of it. projection: the view that the generator was
    trained on, which may be 'all'. present: whether the images show the finding. first: number of the first image.
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
    if made_for_finding or labels != "sampled":
        k = SLUGS.index(finding)
        target[:, k], weight[:, k] = present, 1
    name = [f"synthetic/{finding}/{i:06d}" for i in range(first, first + n)]
    head = pd.DataFrame({"image_id": name, "patient_id": name, "split": "train", "projection": projection})
    blocks = [head.astype(object)]
    for kind, values in (("target", target), ("weight", weight), ("truth", np.full_like(target, np.nan))):
        blocks.append(pd.DataFrame(values, columns=[f"{kind}.{s}" for s in SLUGS]))
    blocks.append(pd.DataFrame(uncertain, columns=third))
    return pd.concat(blocks, axis=1).assign(synthetic=True)


def prevalence(table: pd.DataFrame, finding: str) -> float:
    """Mean target of the finding over the training rows: the share of positives, where a target between 0 and 1 (a
    smoothed or predicted label) counts in part.
    """
    train = table[table["split"] == "train"]
    return float(train[f"target.{finding}"].to_numpy(np.float64).mean())


def plan(
    train: pd.DataFrame,
    enriched: pd.DataFrame,
    counts: dict[str, tuple[int, int, int]],
    gans: dict[str, dict[str, int]],
) -> dict:
    """The counts of plan.json. train and enriched: the training rows in the classifier's view before and after; counts:
    of `wanted`; gans: finding -> gan_images and gan_epochs of its generator.
    """
    findings = {}
    for name, (positives, generated, without) in counts.items():
        before, after = (round(prevalence(table, name), 6) for table in (train, enriched))
        findings[name] = {"positives": positives, "generated": generated, "negatives": without}
        findings[name] |= {"prevalence_before": before, "prevalence_after": after, **gans[name]}
    added = sum(generated + without for _, generated, without in counts.values())
    return {"train_images": len(train), "synthetic_images": added, "findings": findings}
