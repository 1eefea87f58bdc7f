"""How many labels a control arm needs to be as good as the ADGM with few: the number that a curve over labels gives.

The control's mean AUC over its label draws is joined by straight lines over the logarithm of the number of labels. The
number is where it first reaches the ADGM's AUC. Patients and label draws are drawn anew together in a bootstrap, the
same ones for both arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.adgm.variants import LABELLED_ALONE, leaders
from cxr.evaluation.classifiers import Settings
from cxr.evaluation.names import frame

if TYPE_CHECKING:
    from cxr.evaluation.adgm import Judged

SCORE = "macro_auc"


def labels_needed(wanted: float, labels: Sequence[int], scores: Sequence[float]) -> float:
    """The smallest number of labels at which the curve of scores reaches the one wanted; infinite where it never does,
    and the fewest labels where it does so from the start. labels: ascending.
    """
    above = np.flatnonzero(np.asarray(scores) >= wanted)
    if not len(above):
        return np.inf
    k = int(above[0])
    if k == 0:
        return float(labels[0])
    share = (wanted - scores[k - 1]) / (scores[k] - scores[k - 1])
    return float(np.exp(np.log(labels[k - 1]) + share * np.log(labels[k] / labels[k - 1])))


def table(cells: Mapping[tuple[str, int, int], Mapping[int, Judged]], settings: Settings) -> pd.DataFrame:
    """The table adgm_efficiency (cxr/evaluation/names.py): each of `leaders` against each arm of labelled images alone,
    for each number of labels. No row where the control has fewer than two numbers of labels, or no label
    draw in common.

    cells: (variant, classes, labels) -> draw -> one of its runs.

    equal: the labels per class that the control needs; low, high: its interval; empty: more than `most`, the largest
    number that was trained. fewest: an `equal` of this says that number or fewer.
    """
    variants = [variant for variant, _, _ in cells]
    rows = []
    for lead in leaders(variants):
        for (variant, classes, labels), ours in cells.items():
            if variant != lead:
                continue
            for control in LABELLED_ALONE:
                curve = {n: draws for (v, c, n), draws in sorted(cells.items()) if (v, c) == (control, classes)}
                if len(curve) < 2 or control == lead:
                    continue
                numbers = list(curve)
                draws = sorted(set(ours).intersection(*curve.values()))
                if not draws:
                    continue
                point, drawn = _needed(ours, curve, draws, settings)
                ends = np.quantile(drawn, [0.5 - settings.confidence / 2, 0.5 + settings.confidence / 2],
                                   method="inverted_cdf")  # fmt: skip
                known = [value if np.isfinite(value) else np.nan for value in (point, *ends)]
                head = {"variant": lead, "control": control, "classes": classes, "labels": labels, "draws": len(draws)}
                head |= {"fewest": numbers[0], "most": numbers[-1]}
                rows.append(head | dict(zip(("equal", "low", "high"), known, strict=True)))
    return frame("adgm_efficiency", rows)


def _needed(
    ours: Mapping[int, Judged], curve: Mapping[int, Mapping[int, Judged]], draws: Sequence[int], settings: Settings
) -> tuple[float, np.ndarray]:
    """The number of labels, and its replicates over patients and draws."""
    numbers = list(curve)
    arms = [ours, *curve.values()]
    values = np.array([[arm[d].value[SCORE] for d in draws] for arm in arms])  # arms x draws
    replicates = np.array([[arm[d].replicates[SCORE] for d in draws] for arm in arms])  # arms x draws x B
    chosen = np.random.default_rng([settings.seed, 4]).integers(len(draws), size=(replicates.shape[2], len(draws)))
    drawn = np.array([replicates[:, again, b].mean(1) for b, again in enumerate(chosen)])  # B x arms
    point = labels_needed(values[0].mean(), numbers, values[1:].mean(1))
    whole = drawn[~np.isnan(drawn).any(axis=1)]
    return point, np.array([labels_needed(one[0], numbers, one[1:]) for one in whole] or [np.nan])
