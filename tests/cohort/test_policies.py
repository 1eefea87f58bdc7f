"""Label policies by truth table, and the label table."""

import numpy as np
import pandas as pd
import pytest

from cxr.cohort import policies
from cxr.core import findings

VALUES = np.array([[1.0, 0.0, -1.0, np.nan]], np.float32)


@pytest.mark.parametrize(
    ("policy", "target", "weight"),
    [
        ("u_zeroes", [1, 0, 0, 0], [1, 1, 1, 1]),
        ("u_ones", [1, 0, 1, 0], [1, 1, 1, 1]),
        ("u_ignore", [1, 0, 0, 0], [1, 1, 0, 1]),
        ("u_multiclass", [1, 0, 0, 0], [1, 1, 0, 1]),  # as positive or negative it says nothing
        ("u_zeroes_lsr", [1, 0, 0.075, 0], [1, 1, 1, 1]),
        ("u_ones_lsr", [1, 0, 0.625, 0], [1, 1, 1, 1]),
    ],
)
def test_policy_truth_table(policy, target, weight):
    """A quarter of the way: 0 + 0.3 / 4, and 0.55 + 0.3 / 4."""
    got_target, got_weight = policies.apply(policy, VALUES, np.full((1, 4), 0.25))
    assert got_target.tolist() == [pytest.approx(target)]
    assert got_weight.tolist() == [weight]
    assert np.isnan(VALUES[0, 3]), "a policy must not write into the records"


def records(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    ids = [f"i{k:04d}" for k in range(n)]
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "path": ids, "projection": "frontal"})
    return table.assign(
        **{f: rng.choice([1, 0, -1, np.nan], n).astype(np.float32) for f in findings.FINDINGS},
    )


def tiny_records() -> pd.DataFrame:
    table = records(3).assign(image_id=list("abc"), patient_id=list("ppq"))
    return table.assign(**{name: np.array([1, -1, np.nan], np.float32) for name in findings.FINDINGS})


def split_of(table: pd.DataFrame) -> pd.DataFrame:
    part = np.where(np.arange(len(table)) % 5 < 3, "train", np.where(np.arange(len(table)) % 5 == 3, "valid", "test"))
    return table[["image_id", "patient_id"]].assign(split=part)


def test_table_keeps_the_splits_images_and_scores_every_policy_on_one_truth():
    split = pd.DataFrame({"image_id": ["b", "a"], "patient_id": ["p", "p"], "split": ["test", "train"]})
    tables = {policy: policies.table(tiny_records(), split, policy) for policy in policies.POLICIES}
    for policy, table in tables.items():
        assert table["image_id"].tolist() == ["b", "a"]  # c was rejected: it has no place in the split
        assert np.isnan(table.loc[0, "truth.edema"]) and table.loc[1, "truth.edema"] == 1
        third = findings.UNCERTAIN if policy == "u_multiclass" else ()
        assert tuple(table) == (*findings.COLUMNS, *third)
    assert tables["u_ones"].loc[0, "target.edema"] == 1 and tables["u_zeroes"].loc[0, "target.edema"] == 0
    assert tables["u_multiclass"]["uncertain.edema"].tolist() == [1, 0]


@pytest.mark.parametrize(("policy", "low", "high"), [("u_zeroes_lsr", 0, 0.3), ("u_ones_lsr", 0.55, 0.85)])
def test_smoothed_targets_fill_their_bounds_and_depend_on_seed_and_image_alone(policy, low, high):
    whole = records(400)
    split = split_of(whole)
    table = policies.table(whole, split, policy, seed=3)
    drawn = np.concatenate([table.loc[table[f"truth.{s}"].isna(), f"target.{s}"] for s in findings.SLUGS])
    assert len(drawn) > 1000 and drawn.min() >= low and drawn.max() <= high
    steps = np.histogram(drawn, bins=10, range=(low, high))[0] / len(drawn)
    assert np.abs(steps - 0.1).max() < 0.03  # uniform; a share's standard error is 0.008
    assert abs(np.corrcoef(table["target.edema"], table["target.fracture"])[0, 1]) < 0.2
    few = split.sample(frac=0.5, random_state=1)
    other = policies.table(whole.sample(frac=1, random_state=0), few, policy, seed=3).set_index("image_id")
    assert other.equals(table.set_index("image_id").loc[few["image_id"]])
    changed = policies.table(whole, split, policy, seed=4)
    same = (
        changed[[f"target.{s}" for s in findings.SLUGS]] == table[[f"target.{s}" for s in findings.SLUGS]]
    ).to_numpy()
    certain = table[[f"truth.{s}" for s in findings.SLUGS]].notna().to_numpy()
    assert same[certain].all() and same[~certain].mean() < 0.01


def test_relabelling_replaces_the_uncertain_labels_of_the_images_given_and_nothing_else():
    whole = records(50)
    table = policies.table(whole, split_of(whole), "u_ignore")
    kept = table.copy()
    train = table.loc[table["split"] == "train", "image_id"].sample(frac=1, random_state=0)
    scores = np.random.default_rng(1).random((len(train), 14)).astype(np.float32)
    result = policies.relabelled(table, train, scores)
    assert table.equals(kept)
    at = dict(zip(train, scores, strict=True))
    for k, slug in enumerate(findings.SLUGS):
        for before, after in zip(table.to_dict("records"), result.to_dict("records"), strict=True):
            uncertain = before["split"] == "train" and np.isnan(before[f"truth.{slug}"])
            target = at[before["image_id"]][k] if uncertain else before[f"target.{slug}"]
            assert after[f"target.{slug}"] == target
            assert after[f"weight.{slug}"] == (1 if uncertain else before[f"weight.{slug}"])
    others = [c for c in table if not c.startswith(("target.", "weight."))]
    assert result[others].equals(table[others]) and result.dtypes.equals(table.dtypes)


def test_positives_are_counted_by_their_part():
    table = pd.DataFrame(
        {"split": ["train", "train", "test"]} | {f"target.{s}": [1.0, 0.75, 1.0] for s in findings.SLUGS}
    )
    table["target.edema"] = [0.2, 0.1, 1.0]
    assert policies.summary(table).startswith("no_finding 2, ") and "edema 0, " in policies.summary(table)


@pytest.mark.parametrize(
    ("chosen", "selftrained", "message"),
    [
        (["u_maybe"], [], "unknown policy 'u_maybe': choose from u_zeroes, u_ones, u_ignore, u_zeroes_lsr"),
        (["u_selftrained"], [], "move it to arms.selftrained"),
        (["u_ignore"], ["u_ones"], "unknown policy 'u_ones' in arms.selftrained"),
        (["u_zeroes", "u_ones"], ["u_selftrained"], r"arms.policies = \[u_zeroes, u_ones\]: add u_ignore to them"),
    ],
)
def test_what_a_list_of_policies_gets_wrong(chosen, selftrained, message):
    with pytest.raises(ValueError, match=message):
        policies.all_policies(chosen, selftrained)
    assert policies.all_policies(["u_ones", "u_ignore"], ["u_selftrained"]) == ["u_ones", "u_ignore", "u_selftrained"]


def test_unknown_policy_names_the_choices():
    with pytest.raises(ValueError, match="unknown policy 'u_maybe': choose from u_zeroes, u_ones, u_ignore"):
        policies.table(tiny_records(), pd.DataFrame({"image_id": [], "patient_id": [], "split": []}), "u_maybe")
