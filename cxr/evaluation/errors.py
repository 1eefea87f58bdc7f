"""The most confident errors of a classifier: positives with the lowest scores, negatives with the highest."""

from __future__ import annotations

import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS

KINDS = {"missed": 1.0, "false alarm": 0.0}  # kind -> the label


def most_confident(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """finding, kind, image_id, score: at most `count` test images of each finding and kind, the most confident first.

    One image a patient, so that one patient does not fill the row. Uncertain labels are no errors. Equal scores come in
    the order of image_id.
    """
    test, rows = predictions[predictions["split"] == "test"], []
    for finding, name in zip(FINDINGS, SLUGS, strict=True):
        for kind, label in KINDS.items():
            part = test[test[f"truth.{name}"] == label]
            part = part.sort_values([f"score.{name}", "image_id"], ascending=[label == 1, True], kind="stable")
            part = part.drop_duplicates("patient_id")[:count]
            rows += [(finding, kind, *pair) for pair in zip(part["image_id"], part[f"score.{name}"], strict=True)]
    return pd.DataFrame(rows, columns=["finding", "kind", "image_id", "score"])
