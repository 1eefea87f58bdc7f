"""The balance equation and the labels that synthetic images carry."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr import balance, labels

CHEXPERT = {"pneumonia": 6039, "lung_lesion": 9186, "consolidation": 14783}  # positives of 223,414


@pytest.mark.parametrize(("target", "total"), [(0.10, 52880), (0.15, 128233), (0.20, 260101), (0.25, 550210)])
def test_chexperts_own_numbers(target, total):
    """PAPERS E26: the totals that reach an equal prevalence of the three findings."""
    wanted = balance.solve(CHEXPERT, 223414, target)
    assert abs(sum(wanted.values()) - total) <= 2
    n = 223414 + sum(wanted.values())
    assert all((CHEXPERT[k] + wanted[k]) / n == pytest.approx(target, abs=1e-5) for k in wanted)


def test_the_papers_half_and_half_is_refused_with_the_arithmetic():
    with pytest.raises(
        ValueError, match=r"can't be reached for 3 findings.*X = -610,226 synthetic images; choose less than 1/3"
    ):
        balance.solve(CHEXPERT, 223414, 0.5)


def test_one_finding_alone_can_reach_a_half():
    assert balance.solve({"pneumonia": 6039}, 223414, 0.5) == {"pneumonia": 211336}


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=5),
    st.integers(1, 5000).map(lambda x: x + 400),
    st.floats(0.01, 0.19),
)
def test_every_finding_reaches_the_target_or_was_there_already(positives, n, target):
    names = {f"f{i}": p for i, p in enumerate(positives)}
    wanted = balance.solve(names, n, target)
    total = n + sum(wanted.values())
    for name, p in names.items():
        assert wanted[name] >= 0
        assert (p + wanted[name]) / total >= target - 5 / total
        if wanted[name] > 3:  # not more than needed
            assert (p + wanted[name]) / total <= target + 5 / total


def test_nothing_to_add_adds_nothing():
    assert balance.solve({"a": 50, "b": 60}, 100, 0.4) == {"a": 0, "b": 0}


def real_table() -> pd.DataFrame:
    records = pd.DataFrame({"image_id": list("abcd"), "patient_id": list("abcd"), "path": "x", "projection": "frontal"})
    for name in labels.FINDINGS:
        records[name] = np.float32(0)
    records["Edema"] = np.array([1, 1, 0, -1], np.float32)
    records["Pneumonia"] = np.array([1, 0, 0, 0], np.float32)
    split = pd.DataFrame({"image_id": list("abcd"), "patient_id": list("abcd"), "split": "train"})
    return labels.table(records, split, "u_ignore")


@pytest.mark.parametrize("how", balance.LABELLINGS)
def test_synthetic_labels(how):
    rows = balance.synthetic_rows("pneumonia", 5, how, real_table(), np.random.default_rng(0))
    assert rows["synthetic"].all() and rows["image_id"].is_unique and (rows["split"] == "train").all()
    assert (rows["target.pneumonia"] == 1).all() and (rows["weight.pneumonia"] == 1).all()
    assert rows[[c for c in rows if c.startswith("truth.")]].isna().all(axis=None)  # never scored
    others = [s for s in labels.SLUGS if s != "pneumonia"]
    weight, target = rows[[f"weight.{s}" for s in others]], rows[[f"target.{s}" for s in others]]
    if how == "masked":
        assert (weight == 0).all(axis=None)
    elif how == "one_hot":
        assert (weight == 1).all(axis=None) and (target == 0).all(axis=None)
    else:
        assert (rows["target.edema"] == 1).all()  # the only real pneumonia has edema too


def test_columns_are_those_of_the_label_table():
    rows = balance.synthetic_rows("pneumonia", 2, "masked", real_table(), np.random.default_rng(0))
    assert list(rows.columns) == [*real_table().columns, "synthetic"]
