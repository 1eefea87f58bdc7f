"""The control arms of the GAN question: what else than a trained GAN could explain a gain of the enriched table.

Each arm is the baseline's classifier, settings, validation and test patients, and takes as many steps as `gan` (paper
1's final model) but for the first. From `baseline_steps` it differs in its training table or in its objective:

baseline        the real images, the baseline's own number of steps
baseline_steps  the real images alone
oversampling    real positives drawn again, as many as `gan` adds, with all their own labels
pos_weight      the positives' loss weighted until their share of it is that of the enriched table
auc_margin      the AUC margin loss (Yuan et al. 2021) in the second half of the steps
gan             the generated images of `balance`
gan_untrained   the same rows, images of the generators with their initial weights: does any extra image do it?
blurred         the same rows, real positives through the GAN's size and back: does lost resolution alone do it? Where
                `balance` samples whole label vectors, theirs are their own
pretrained      the generated images first, the real ones after (as RoentGen-v2's authors do, arXiv 2508.16783); where
                `balance` masks the other labels, each finding is the others' negative
"""

from __future__ import annotations

import numpy as np
import pandas as pd

ARMS = (
    *("baseline", "baseline_steps", "oversampling", "pos_weight", "auc_margin"),
    *("gan", "gan_untrained", "blurred", "pretrained"),
)


def check_arm(arm: str) -> str:
    """The arm's name. Raises ValueError, with the choices, for another."""
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r} in study.arms: choose from {', '.join(ARMS)}")
    return arm


def repeat_positives(finding: str, n: int, train: pd.DataFrame, seed: int) -> pd.DataFrame:
    """n rows of `train` that are certain positives of the finding, none a second time before every one was used once.

    Raises ValueError when n rows are wanted of none.
    """
    having = train[train[f"truth.{finding}"] == 1].sort_values("image_id", ignore_index=True)
    if n and having.empty:
        raise ValueError(f"{finding}: no certain positive to draw again; take it out of rare.findings")
    rng = np.random.default_rng([seed, *finding.encode()])
    passes = [rng.permutation(len(having)) for _ in range(-(-n // len(having)))] if n else [np.array([], int)]
    return having.iloc[np.concatenate(passes)[:n]].reset_index(drop=True)
