"""The condition of a generator that draws any X-ray: 14 labels, sex, age and view, as one vector.

Positions: the findings in the order of FINDINGS (1 present, 0.5 uncertain, 0 absent or not mentioned); male, female
(both 0: unknown); age / 100, age known; AP, PA (both 0: unknown); lateral.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, matrix

CONDITIONS = (*SLUGS, "male", "female", "age", "age_known", "ap", "pa", "lateral")
OLDEST = 110.0  # years; an age outside [0, OLDEST] counts as unknown


def encode(records: pd.DataFrame) -> np.ndarray:
    """Records -> float32 N x len(CONDITIONS), each in [0, 1.1]."""
    labels = matrix(records)
    present = np.where(labels == 1, 1.0, np.where(labels == -1, 0.5, 0.0))
    age = records["age"].to_numpy(np.float32)
    known = (age >= 0) & (age <= OLDEST)  # False for NaN
    columns = [
        *(records["sex"] == sex for sex in ("M", "F")),
        np.where(known, age, 0) / 100,
        known,
        *(records["view"] == view for view in ("AP", "PA")),
        records["projection"] == "lateral",
    ]
    assert len(FINDINGS) + len(columns) == len(CONDITIONS)
    return np.column_stack([present, *(np.asarray(column, np.float32) for column in columns)]).astype(np.float32)
