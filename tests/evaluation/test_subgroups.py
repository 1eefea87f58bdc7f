"""Calibration, operating points and subgroups as tables: against the numbers of their parts, and what must not leak."""

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import FINDINGS, SLUGS, columns_of
from cxr.evaluation import calibration, metrics, names, operating, subgroups
from cxr.evaluation.classifiers import Settings

SETTINGS = Settings(replicates=80, min_positives=10, bins=5)
TRAINED, TRUE = np.full(14, 0.4), np.full(14, 0.2)


@pytest.fixture
def predicted():
    """600 images of 300 patients; scores learnt at a share of 0.4; Fracture has no positive on validation."""
    rng, n = np.random.default_rng(3), 600
    table = pd.DataFrame({"image_id": [f"i{k:04d}" for k in range(n)], "patient_id": [f"p{k // 2}" for k in range(n)]})
    table["split"] = np.where(np.arange(n) // 2 % 2 == 0, "valid", "test")
    for name in SLUGS:
        x = rng.normal(size=n)
        truth = (rng.random(n) < calibration.sigmoid(1.5 * x - 1.7)).astype(np.float32)
        table[f"truth.{name}"] = np.where(rng.random(n) < 0.05, np.nan, truth)
        table[f"score.{name}"] = calibration.sigmoid(3 * x - 1).astype(np.float32)
    table.loc[table["split"] == "valid", "truth.fracture"] = 0
    return table


@pytest.fixture
def who(predicted):
    k = np.arange(len(predicted)) // 2
    table = pd.DataFrame({"image_id": predicted["image_id"], "projection": "frontal"})
    table["sex"], table["view"] = np.where(k % 5 < 2, "F", "M"), np.where(k % 3 == 0, "AP", "PA")
    table["age"] = np.select([k % 7 == 0, k % 7 < 3, k % 7 < 5], [np.nan, 39.9, 40.0], 85.0)
    table.loc[k == 1, "view"] = None
    table.loc[k == 3, "age"] = 155
    return table


def test_shares_of_positives_by_hand():
    table = pd.DataFrame({"split": ["train"] * 4 + ["test"]})
    for name in SLUGS:
        table[f"target.{name}"], table[f"weight.{name}"] = [1, 1, 0, 1, 1], [1.0, 0, 1, 0.5, 1]
        table[f"truth.{name}"] = [1, np.nan, 0, np.nan, 1]
    assert operating.trained_share(table) == pytest.approx(np.full(14, 1.5 / 2.5))
    assert operating.true_share(table) == pytest.approx(np.full(14, 0.5))
    masked = table.assign(**{f"weight.{s}": 0 for s in SLUGS}, **{f"truth.{s}": np.nan for s in SLUGS})
    assert np.isnan(operating.trained_share(masked)).all() and np.isnan(operating.true_share(masked)).all()


@pytest.mark.parametrize("scaling", calibration.KINDS)
def test_calibrated_probabilities_are_better_and_at_the_training_share(predicted, scaling):
    judged = operating.fit(predicted, TRAINED, TRUE, SETTINGS._replace(scaling=scaling))
    found = operating.tables({"final": predicted}, {"final": judged}, {"final": TRAINED}, TRUE, SETTINGS)["calibration"]
    row = found.set_index("finding").loc["macro"]
    assert row["ece_calibrated"] < row["ece_raw"] and row["brier_calibrated"] < row["brier_raw"]
    assert row["findings"] == 13 and row["perfect_calibrated_low"] < row["ece_calibrated"]
    # The scores are of slope 2 in truth: too extreme as given, at 1 and 0 once scaled.
    assert row["slope_raw_high"] < 1
    if scaling == "platt":
        assert row["slope_calibrated_low"] < 1 < row["slope_calibrated_high"]
    parts = found.set_index("finding").drop(index=["macro", "Fracture"])
    for name in ("ece_raw", "perfect_raw", "slope_raw", "intercept_calibrated"):
        assert row[name] == pytest.approx(parts[name].mean())
    width = parts["slope_raw_high"] - parts["slope_raw_low"]
    assert row["slope_raw_high"] - row["slope_raw_low"] < width.min()
    edema = SLUGS.index("edema")
    prior = calibration.sigmoid(calibration.shift(calibration.logit(judged.probability["raw"][:, edema]), 0.4, 0.2))
    assert np.array_equal(judged.probability["prior"][:, edema], prior)


def test_platt_does_not_depend_on_the_share_it_was_trained_at(predicted):
    """Whatever balancing did to the prior, a scaling with an intercept takes it out again."""
    one, other = (
        operating.fit(predicted, np.full(14, t), TRUE, SETTINGS).probability["calibrated"] for t in (0.1, 0.6)
    )
    assert np.allclose(one, other, atol=1e-4, equal_nan=True) and np.isfinite(one).sum() == 13 * 300


def test_test_labels_change_nothing_that_is_fitted(predicted):
    at = predicted["split"] == "test"
    other = predicted.copy()
    for name in SLUGS:
        other.loc[at, f"truth.{name}"] = 1 - other.loc[at, f"truth.{name}"]
    one, two = (operating.fit(t, TRAINED, TRUE, SETTINGS) for t in (predicted, other))
    assert np.array_equal(one.threshold, two.threshold, equal_nan=True)
    for form in names.FORMS:
        assert np.array_equal(one.probability[form], two.probability[form], equal_nan=True)
    valid = predicted.assign(**{f"truth.{s}": np.where(at, predicted[f"truth.{s}"], 1) for s in SLUGS})
    assert np.isnan(operating.fit(valid, TRAINED, TRUE, SETTINGS).threshold).all()  # no negative left to fit on


def test_too_few_on_validation_and_no_validation_at_all(predicted):
    judged = operating.fit(predicted, TRAINED, TRUE, SETTINGS)
    found = operating.tables({"final": predicted}, {"final": judged}, {"final": TRAINED}, TRUE, SETTINGS)
    row = found["calibration"].set_index("finding").loc["Fracture"]
    assert row["valid_positives"] == 0 and np.isnan(row["ece_calibrated"]) and row["ece_prior"] > 0
    point = found["operating"].set_index("finding").loc["Fracture"]
    assert np.isnan(point["threshold"]) and np.isnan(point["sensitivity"]) and point["positives"] > 10
    test = predicted[predicted["split"] == "test"]
    judged = operating.fit(test, TRAINED, TRUE, SETTINGS)
    found = operating.tables({"final": test}, {"final": judged}, {"final": TRAINED}, TRUE, SETTINGS)
    assert found["operating"]["sensitivity"].isna().all() and found["calibration"]["ece_raw"].notna()[:14].all()
    assert found["calibration"].set_index("finding").loc["macro", "findings"] == 0
    unknown = operating.fit(predicted, np.full(14, np.nan), TRUE, SETTINGS).probability
    assert np.isnan(unknown["prior"]).all() and np.isnan(unknown["calibrated"]).all()


def test_operating_points_by_their_definition(predicted):
    judged = operating.fit(predicted, TRAINED, TRUE, SETTINGS)
    found = operating.tables({"final": predicted}, {"final": judged}, {"final": TRAINED}, TRUE, SETTINGS)["operating"]
    row = found.set_index("finding").loc["Edema"]
    valid, test = (predicted[predicted["split"] == s].dropna(subset="truth.edema") for s in ("valid", "test"))
    assert (valid.loc[valid["truth.edema"] == 1, "score.edema"] >= row["threshold"]).mean() >= 0.9
    called = test["score.edema"] >= row["threshold"]
    assert row["sensitivity"] == pytest.approx(called[test["truth.edema"] == 1].mean())
    assert row["specificity"] == pytest.approx((~called)[test["truth.edema"] == 0].mean())
    assert row["sensitivity_low"] < row["sensitivity"] < row["sensitivity_high"]


def test_groups_and_their_unknowns(who):
    found = {(a, g): m.sum() for a, g, m in subgroups.groups(who, (80, 40, 40))}
    assert list(found)[:3] == [("all", "all"), ("sex", "women"), ("sex", "men")]
    ages = ["under 40", "40 to 79", "80 and over", "unknown"]
    assert [g for a, g in found if a == "age"] == ages and ("sex", "unknown") not in found
    for attribute in ("sex", "age", "view"):
        assert sum(n for (a, _), n in found.items() if a == attribute) == len(who)
    assert found["age", "unknown"] == who["age"].isna().sum() + 2 and found["view", "unknown"] == 2


def test_a_subgroups_numbers_are_those_of_its_images(predicted, who):
    judged = {"final": operating.fit(predicted, TRAINED, TRUE, SETTINGS)}
    table = subgroups.table({"final": predicted}, judged, who, SETTINGS)["subgroups"]
    row = table.set_index(["finding", "attribute", "group"]).loc[("Edema", "sex", "women")]
    test = (predicted["split"] == "test").to_numpy()
    women, truth = (who["sex"] == "F")[test].to_numpy(), predicted["truth.edema"][test].to_numpy(float)
    score, k = predicted["score.edema"][test].to_numpy(), SLUGS.index("edema")
    probability, limit = judged["final"].probability["calibrated"][:, k], judged["final"].threshold[k]

    def numbers(rows):
        t, s, p = truth[rows], score[rows], probability[rows]
        known = ~np.isnan(t)
        t, s, p = t[known], s[known], p[known]
        return metrics.auc(t[:, None], s[:, None])[0], (s[t == 1] < limit).mean(), p.mean() - t.mean()

    inside, outside = numbers(np.flatnonzero(women)), numbers(np.flatnonzero(~women))
    for name, mine, other in zip(names.GROUP_NUMBERS, inside, outside, strict=True):
        assert row[name] == pytest.approx(mine) and row[f"{name}_gap"] == pytest.approx(mine - other)
    draws = metrics.draw_patients(predicted["patient_id"][test], 80, 0)
    gaps = []
    for b in range(80):  # the slow way: every drawn patient's images, as often as drawn
        rows = np.repeat(np.arange(len(truth)), draws.counts[draws.owner, b])
        gaps.append(np.subtract(numbers(rows[women[rows]]), numbers(rows[~women[rows]])))
    for name, replicates in zip(names.GROUP_NUMBERS, np.transpose(gaps), strict=True):
        expected = np.quantile(replicates, [0.025, 0.975])
        assert (row[f"{name}_gap_low"], row[f"{name}_gap_high"]) == pytest.approx(tuple(expected))


def test_a_group_with_too_few_has_counts_and_no_number(predicted, who):
    judged = {"final": operating.fit(predicted, TRAINED, TRUE, SETTINGS)}
    table = subgroups.table({"final": predicted, "floor": predicted}, judged, who, SETTINGS)["subgroups"]
    rows = table.set_index(["model", "finding", "attribute", "group"])
    few = rows.loc[("final", "Edema", "view", "unknown")]
    assert few["n"] <= 2 and few[list(names.GROUP_NUMBERS)].isna().all()
    found = subgroups.table({"final": predicted}, judged, who, SETTINGS._replace(min_positives=1000))
    strict = found["subgroups"]
    assert (found["worst_gaps"]["groups"] == 0).all() and found["worst_gaps"]["gap"].isna().all()
    assert strict[[f"{n}{gap}" for n in names.GROUP_NUMBERS for gap in ("", "_gap")]].isna().all(axis=None)
    assert (strict.query("finding == 'macro'")["findings"] == 0).all() and (strict["n"] > 0).any()
    numbers = rows[list(names.GROUP_NUMBERS)].astype(float)
    no_limit = numbers.loc[("final", "Fracture", "sex", "men")]
    assert no_limit["auc"] > 0.5 and np.isnan(no_limit["fnr"]) and np.isnan(no_limit["offset"])
    assert np.isnan(numbers.loc[("floor", "Edema", "sex", "men"), "fnr"])
    mean = rows.loc[("final", "macro", "sex", "men")]
    each = [rows.loc[("final", f, "sex", "men"), "auc"] for f in FINDINGS]
    assert mean["auc"] == pytest.approx(np.mean(each)) and mean["findings"] == 14


def test_adgm_beside_metadata_within_views():
    rng, n = np.random.default_rng(0), 200
    label, view = rng.integers(2, size=n), np.where(np.arange(n) < 190, "AP", "PA")
    run = pd.DataFrame({"patient_id": np.arange(n), "label": label})
    run["prob_last.1"] = 0.3 * label + 0.6 * rng.random(n)
    run["prob_last.0"] = 1 - run["prob_last.1"]
    who = pd.DataFrame({"view": view, "projection": "frontal"})
    floors = {2: np.stack([np.full(n, 0.5), np.full(n, 0.5)], axis=1)}
    found = subgroups.adgm({(2, 20): run}, floors, who, SETTINGS).set_index(["labels", "view"])
    assert found.loc[(20, "AP"), "auc"] == pytest.approx(
        metrics.auc((label[:190] == 1)[:, None].astype(float), run[["prob_last.1"]].to_numpy()[:190])[0]
    )
    assert np.isnan(found.loc[(20, "PA"), "auc"]) and found.loc[(20, "PA"), "n"] == 10
    alone = found[found.index.get_level_values("labels").isna()]
    assert alone["auc"].tolist()[:2] == [0.5, 0.5]


def test_values_are_in_the_order_of_the_findings(predicted):
    assert np.array_equal(columns_of(predicted, "score")[:, SLUGS.index("edema")], predicted["score.edema"])


def gaps_of(rng, groups, spread=0.02, shift=0.0):
    """So many groups' gaps, the first moved by `shift`, with replicates that vary as the gaps do; one finding each."""
    error = rng.normal(0, spread, groups) + np.r_[shift, np.zeros(groups - 1)]
    return [("sex", str(g), [(e, e + rng.normal(0, spread, 2000))]) for g, e in enumerate(error)]


def test_the_lowest_gap_has_its_expectation_under_no_gap():
    """The lowest of nine independent normals is 1.485 standard deviations below 0 on average (Teichroew 1956)."""
    row = subgroups._worst(gaps_of(np.random.default_rng(0), 9), SETTINGS)
    assert row["groups"] == 9 and row["expected"] == pytest.approx(-1.485 * 0.02, rel=0.05)
    assert row["expected_low"] < row["expected"] < 0 and row["gap_low"] < row["gap"] < row["gap_high"]
    one = subgroups._worst(gaps_of(np.random.default_rng(0), 1), SETTINGS)
    assert one["expected"] == pytest.approx(0, abs=1e-9)
    assert subgroups._worst([("sex", "women", [])], SETTINGS) == {"groups": 0}


def test_a_lowest_gap_under_no_gap_is_seldom_called_low_and_a_true_one_often():
    rng = np.random.default_rng(1)
    null = [subgroups._worst(gaps_of(rng, 9), SETTINGS)["p"] for _ in range(400)]
    assert 0.02 < np.mean(np.array(null) < 0.05) < 0.085
    true = [subgroups._worst(gaps_of(rng, 9, shift=-0.1), SETTINGS)["p"] for _ in range(50)]
    assert np.mean(np.array(true) < 0.05) > 0.9


def test_worst_gaps_are_the_lowest_of_the_table(predicted, who):
    judged = {"final": operating.fit(predicted, TRAINED, TRUE, SETTINGS)}
    found = subgroups.table({"final": predicted}, judged, who, SETTINGS)
    for finding in ("Edema", "macro"):
        groups = found["subgroups"].query("finding == @finding").dropna(subset="auc_gap")
        row, lowest = found["worst_gaps"].set_index("finding").loc[finding], groups.loc[groups["auc_gap"].idxmin()]
        assert row["groups"] == len(groups) > 5 and (row["attribute"], row["group"]) == tuple(
            lowest[["attribute", "group"]]
        )
        for end in ("", "_low", "_high"):
            assert row[f"gap{end}"] == pytest.approx(lowest[f"auc_gap{end}"])
        assert row["expected"] < 0 and 0 < row["p"] <= 1
