"""Label policies by truth table, and the label table."""

import numpy as np
import pandas as pd
import pytest

from cxr import labels

VALUES = np.array([[1.0, 0.0, -1.0, np.nan]], np.float32)


@pytest.mark.parametrize(
    ("policy", "target", "weight"),
    [
        ("u_zeroes", [1, 0, 0, 0], [1, 1, 1, 1]),
        ("u_ones", [1, 0, 1, 0], [1, 1, 1, 1]),
        ("u_ignore", [1, 0, 0, 0], [1, 1, 0, 1]),
    ],
)
def test_policy_truth_table(policy, target, weight):
    got_target, got_weight = labels.POLICIES[policy](VALUES)
    assert got_target.tolist() == [target]
    assert got_weight.tolist() == [weight]
    assert np.isnan(VALUES[0, 3]), "a policy must not write into the records"


def test_truth_masks_the_uncertain_and_only_them():
    assert np.array_equal(labels.truth(VALUES), [[1, 0, np.nan, 0]], equal_nan=True)


def test_slugs_and_names_are_each_others_inverse():
    assert len(set(labels.SLUGS)) == 14
    assert all(labels.finding(labels.slug(name)) == name for name in labels.FINDINGS)
    with pytest.raises(ValueError, match="unknown finding 'pneumoniae': choose from no_finding, "):
        labels.finding("pneumoniae")


def tiny_records() -> pd.DataFrame:
    records = pd.DataFrame(
        {"image_id": list("abc"), "patient_id": list("ppq"), "path": list("xyz"), "projection": "frontal"}
    )
    for name in labels.FINDINGS:
        records[name] = np.array([1, -1, np.nan], np.float32)
    return records


def test_table_keeps_the_splits_images_and_scores_every_policy_on_one_truth():
    split = pd.DataFrame({"image_id": ["b", "a"], "patient_id": ["p", "p"], "split": ["test", "train"]})
    tables = {policy: labels.table(tiny_records(), split, policy) for policy in labels.POLICIES}
    for table in tables.values():
        assert table["image_id"].tolist() == ["b", "a"]  # c was rejected: it has no place in the split
        assert np.isnan(table.loc[0, "truth.edema"]) and table.loc[1, "truth.edema"] == 1
    assert tables["u_ones"].loc[0, "target.edema"] == 1 and tables["u_zeroes"].loc[0, "target.edema"] == 0


def test_unknown_policy_names_the_choices():
    with pytest.raises(ValueError, match="unknown policy 'u_maybe': choose from u_zeroes, u_ones, u_ignore"):
        labels.table(tiny_records(), pd.DataFrame({"image_id": [], "patient_id": [], "split": []}), "u_maybe")
