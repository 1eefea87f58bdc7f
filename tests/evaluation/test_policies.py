"""The label question's numbers: the mix chosen on validation, each policy against the final's."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr.core.findings import FINDINGS, SLUGS
from cxr.evaluation import metrics, policies
from tests.evaluation.make import SETTINGS, once, one, predictions


@pytest.fixture
def models():
    return {name: predictions(k, 0.5 + 0.1 * k) for k, name in enumerate(("u_zeroes", "u_ones", "u_ignore"))}


def test_best_of_takes_each_finding_from_the_policy_with_the_highest_validation_auc(models):
    mix, choice = policies.best_of(models, "u_ones", SETTINGS)
    taken = set()
    for k, slug in enumerate(SLUGS):
        row = choice.iloc[k]
        assert row["finding"] == FINDINGS[k]
        valid = {
            name: table[(table["split"] == "valid") & table[f"truth.{slug}"].notna()] for name, table in models.items()
        }
        assert row["positives"] == (valid["u_ones"][f"truth.{slug}"] == 1).sum()
        if row["positives"] < SETTINGS.min_positives:
            assert row["policy"] == "u_ones" and math.isnan(row["auc.u_ones"])
        else:
            areas = {name: roc_auc_score(t[f"truth.{slug}"], t[f"score.{slug}"]) for name, t in valid.items()}
            assert row["policy"] == max(areas, key=areas.get)
            assert all(row[f"auc.{name}"] == pytest.approx(area) for name, area in areas.items())
        assert mix[f"score.{slug}"].equals(models[row["policy"]][f"score.{slug}"])
        taken.add(row["policy"])
    assert len(taken) > 1 and choice["auc.u_ones"].isna().any()
    others = [c for c in mix if not c.startswith("score.")]
    assert mix[others].equals(models["u_ones"][others])


def test_best_of_does_not_look_at_test_labels_or_test_scores(models):
    _, choice = policies.best_of(models, "u_zeroes", SETTINGS)
    for table in models.values():
        test = table["split"] == "test"
        for slug in SLUGS:
            table.loc[test, f"truth.{slug}"] = 1 - table.loc[test, f"truth.{slug}"]
            table.loc[test, f"score.{slug}"] = 1 - table.loc[test, f"score.{slug}"]
    _, again = policies.best_of(models, "u_zeroes", SETTINGS)
    assert again.equals(choice)


def test_of_equal_policies_the_finals_is_taken(models):
    same = {name: models["u_ones"] for name in models}
    assert set(policies.best_of(same, "u_ignore", SETTINGS)[1]["policy"]) == {"u_ignore"}


def test_each_policy_is_compared_on_the_same_patients(models):
    table = policies.against(once(models), "u_zeroes", SETTINGS)
    assert set(table["policy"]) == {"u_ones", "u_ignore"}
    assert len(table) == 2 * len(FINDINGS)  # thirteen findings, Fracture has too few, and the mean
    test = {name: t[t["split"] == "test"] for name, t in models.items()}
    draws = metrics.draw_patients(test["u_zeroes"]["patient_id"], SETTINGS.replicates, SETTINGS.seed)
    slugs = [s for s in SLUGS if s != "fracture"]
    areas, replicates = {}, {}
    for name, t in test.items():
        truth, score = (t[[f"{kind}.{s}" for s in slugs]].to_numpy() for kind in ("truth", "score"))
        areas[name], replicates[name] = metrics.auc(truth, score), metrics.bootstrap_auc(truth, score, draws)
    row = one(table, policy="u_ones", finding="macro")
    gain = (replicates["u_ones"] - replicates["u_zeroes"]).mean(axis=0)
    assert row["difference"] == pytest.approx((areas["u_ones"] - areas["u_zeroes"]).mean())
    assert (row["low"], row["high"]) == pytest.approx(metrics.interval(gain, 0.95)[:2])
    assert (row["findings"], row["patients"], row["trainings"]) == (13, 90, 1)
    assert table[["p", "p_holm", "total_low"]].isna().all(axis=None)  # one training of each has no test
    edema = one(table, policy="u_ignore", finding="Edema")
    assert edema["positives"] == (test["u_zeroes"]["truth.edema"] == 1).sum()


def test_holms_families_are_the_findings_of_all_policies_and_the_policies_means():
    seeds = (0, 1, 2)
    models = {name: [predictions(10 * k + s, 0.5 + 0.2 * k) for s in seeds] for k, name in enumerate(("a", "b", "c"))}
    table = policies.against(models, "a", SETTINGS)
    macro = table[table["finding"] == "macro"]
    assert np.allclose(macro["p_holm"], metrics.holm(macro["p"].to_numpy()))
    assert np.allclose(table.drop(macro.index)["p_holm"], metrics.holm(table.drop(macro.index)["p"].to_numpy()))
    assert (macro["trainings"] == 3).all() and macro["sd"].notna().all()


def test_a_policy_compared_with_itself_differs_by_nothing(models):
    trainings = [models["u_zeroes"], models["u_ones"]]
    table = policies.against({"u_zeroes": trainings, "u_ones": trainings}, "u_zeroes", SETTINGS)
    assert (table[["difference", "low", "high"]] == 0).all(axis=None) and (table[["p", "p_holm"]] == 1).all(axis=None)


def test_nothing_to_judge_and_a_single_policy(models):
    few = SETTINGS._replace(min_positives=10_000)
    _, tables = policies.tables(once(models), "u_zeroes", few)
    assert set(tables["best_of"]["policy"]) == {"u_zeroes"} and tables["policies"]["difference"].isna().all()
    assert policies.summary(tables) == {}
    assert policies.tables(once({"u_zeroes": models["u_zeroes"]}), "u_zeroes", SETTINGS) == ({}, {})
    assert policies.summary({}) == {}
