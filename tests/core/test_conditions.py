"""The condition of a generator that draws any X-ray."""

import numpy as np
import pandas as pd

from cxr.core.conditions import CONDITIONS, encode
from cxr.core.findings import FINDINGS


def records(**columns) -> pd.DataFrame:
    whole = {"sex": "F", "age": 50.0, "view": "AP", "projection": "frontal", **dict.fromkeys(FINDINGS, 0.0)} | columns
    return pd.DataFrame({name: value if isinstance(value, list) else [value] * 3 for name, value in whole.items()})


def column(table, name):
    return encode(table)[:, CONDITIONS.index(name)].tolist()


def test_labels_are_present_half_or_absent():
    table = records(Pneumonia=[1.0, -1.0, np.nan])
    assert column(table, "pneumonia") == [1, 0.5, 0] and column(table, "edema") == [0, 0, 0]


def test_what_is_unknown_is_no_value_of_its_own():
    table = records(sex=["M", "F", None], age=[50.0, np.nan, 150.0], view=["AP", "PA", None])
    assert (column(table, "male"), column(table, "female")) == ([1, 0, 0], [0, 1, 0])
    assert (column(table, "age"), column(table, "age_known")) == ([0.5, 0, 0], [1, 0, 0])
    assert (column(table, "ap"), column(table, "pa")) == ([1, 0, 0], [0, 1, 0])
    assert column(records(projection=["lateral", "frontal", "frontal"]), "lateral") == [1, 0, 0]


def test_shape_and_range():
    y = encode(records(age=[0.0, 110.0, 60.0]))
    assert y.shape == (3, len(CONDITIONS)) and y.dtype == np.float32 and y.min() == 0 and y.max() <= 1.1
    assert encode(records()[:0]).shape == (0, len(CONDITIONS))
