"""How well heat maps point at boxes, with intervals over patients, and whether they beat the floor.

The scores of each image are of cxr/explain/boxes.py, which this file does not import: a table is the border.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.evaluation import metrics

MEASURES = ("hit", "iou")


def table(
    scores: pd.DataFrame, methods: Sequence[str], floors: Sequence[str], replicates: int, confidence: float, seed: int
) -> pd.DataFrame:
    """A row for each method or floor and measure: the mean over images, and its difference from the best floor.

    scores: patient_id, and <method>.<measure> of every method and floor. Columns: method, measure, images, patients,
    value, value_low, value_high, floor (the best one by its mean), gain, gain_low, gain_high (percentile intervals over
    patients; NaN for a floor). beats: whether the gain's interval lies above 0.
    """
    draws = metrics.draw_patients(scores["patient_id"].to_numpy(), replicates, seed)
    columns = [f"{name}.{measure}" for name in (*methods, *floors) for measure in MEASURES]
    sums = metrics.bootstrap_sums(np.column_stack([scores[columns].to_numpy(np.float64), np.ones(len(scores))]), draws)
    means = dict(zip(columns, sums[:-1] / sums[-1], strict=True))
    value = scores[columns].mean()
    rows: list[dict] = []
    for name in (*methods, *floors):
        for measure in MEASURES:
            levels = [float(value[f"{floor}.{measure}"]) for floor in floors]
            best = floors[int(np.argmax(levels))]
            own, floor = f"{name}.{measure}", f"{best}.{measure}"
            row: dict = {"method": name, "measure": measure, "images": len(scores), "patients": len(draws.counts)}
            row |= metrics.with_interval("value", float(value[own]), means[own], confidence) | {"floor": best}
            gain = (value[own] - value[floor], means[own] - means[floor]) if name in methods else (np.nan, np.array([]))
            row |= metrics.with_interval("gain", float(gain[0]), gain[1], confidence)
            rows.append(row | {"beats": bool(row["gain_low"] > 0)})
    return pd.DataFrame(rows)
