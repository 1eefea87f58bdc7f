"""The tables of the classifiers and the ADGM: against direct computations and numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from cxr.adgm.variants import Run
from cxr.core.findings import FINDINGS
from cxr.evaluation import adgm, intervals, metrics
from cxr.evaluation.classifiers import judge, summary
from tests.evaluation.make import SETTINGS, once, one, predictions

RARE = ["Pneumonia", "Lung Lesion"]


def test_auc_rows_carry_their_n_and_the_interval_over_patients(models):
    auc = judge(once(models), "u_zeroes", SETTINGS)["auc"]
    assert len(auc) == 3 * 2 * (len(FINDINGS) + 1)
    row = one(auc, model="final", finding="Pneumonia", split="test")
    test = models["final"].query("split == 'test'")
    truth, score = test[["truth.pneumonia"]].to_numpy(), test[["score.pneumonia"]].to_numpy()
    known = ~np.isnan(truth[:, 0])
    assert (row["n"], row["positives"]) == (known.sum(), np.nansum(truth)) and row["n"] < len(test)
    assert row["positives"] + row["negatives"] == row["n"] and row["patients"] == 90
    draws = metrics.draw_patients(test["patient_id"].to_numpy(), 60, seed=0)
    wanted = intervals.auc_interval(truth[known, 0], score[known, 0], draws.owner[known], 0.95)
    assert (row["auc"], row["low"], row["high"]) == wanted and row["auc"] == metrics.auc(truth, score)[0]
    assert row["missing"] == np.isnan(metrics.bootstrap_auc(truth, score, draws)).sum()
    assert one(auc, model="final", finding="Edema", split="valid")["n"] == 60


def test_a_finding_with_too_few_positives_keeps_its_row_and_leaves_the_mean(models):
    auc = (
        judge(once(models), "u_zeroes", SETTINGS)["auc"]
        .query("model == 'final' and split == 'test'")
        .set_index("finding")
    )
    assert np.isnan(auc.loc["Fracture", ["auc", "low", "high"]].astype(float)).all()
    assert auc.loc["Fracture", "positives"] == 3 and auc.loc["Fracture", "n"] == 180
    others = auc.drop(index=["Fracture", "macro"])["auc"]
    assert others.notna().all() and auc.loc["macro", "auc"] == pytest.approx(others.mean())
    assert auc.loc["macro", "findings"] == len(FINDINGS) - 1
    assert auc.loc["macro", "low"] < auc.loc["macro", "auc"] < auc.loc["macro", "high"]
    # The mean varies less than its parts.
    assert auc.loc["macro", "high"] - auc.loc["macro", "low"] < auc.loc["Edema", "high"] - auc.loc["Edema", "low"]


def test_no_finding_with_enough_positives(models):
    tables = judge(once(models), "u_zeroes", SETTINGS._replace(min_positives=10_000))
    assert tables["auc"]["auc"].isna().all() and tables["compare"]["difference"].isna().all()
    assert list(tables["roc"]) == ["model", "finding", "fpr", "tpr"] and not len(tables["roc"])
    shown = summary(tables, ["u_zeroes"], "u_zeroes", RARE)
    assert shown == {"test": {"images": 180, "patients": 90, "findings": 0}}


def test_an_ensemble_is_the_mean_score_of_its_members_on_the_same_patients(models):
    """Two trainings with independent errors: their mean is better than either."""
    pair = [models["u_zeroes"], models["final"]]
    table = judge({"u_zeroes": pair, "final": pair[:1] * 2}, "u_zeroes", SETTINGS)["ensemble"]
    row = one(table, model="u_zeroes", finding="Edema")
    tests = [t.query("split == 'test'") for t in pair]
    truth, scores = tests[0]["truth.edema"].to_numpy(), [t["score.edema"].to_numpy() for t in tests]
    each = [metrics.auc(truth[:, None], s[:, None])[0] for s in scores]
    assert row["auc"] == metrics.auc(truth[:, None], np.mean(scores, axis=0)[:, None])[0]
    assert row["members"] == pytest.approx(np.mean(each)) and row["difference"] == row["auc"] - row["members"]
    assert row["low"] <= row["difference"] <= row["high"] and row["trainings"] == 2
    same = one(table, model="final", finding="macro")  # equal members
    assert same["difference"] == same["low"] == same["high"] == 0
    assert judge(once(models), "u_zeroes", SETTINGS)["ensemble"].empty


def test_compare_pairs_the_two_models_on_the_same_patients(models):
    compare = judge(once(models), "u_zeroes", SETTINGS)["compare"]
    row = one(compare, finding="Edema")
    before, after = (models[name].query("split == 'test'") for name in ("u_zeroes", "final"))
    assert row["final"] - row["baseline"] == pytest.approx(row["difference"])
    draws = metrics.draw_patients(before["patient_id"], 60, seed=0)
    first, second = (metrics.bootstrap_auc(t[["truth.edema"]].to_numpy(), t[["score.edema"]].to_numpy(), draws)[0]
                     for t in (before, after))  # fmt: skip
    assert (row["low"], row["high"]) == metrics.interval(second - first, 0.95)[:2]
    assert one(compare, finding="macro")["difference"] > 0 and one(compare, finding="Fracture")["positives"] == 3


def test_the_test_against_the_metadata_baseline_counts_patients(models):
    row = one(judge(once(models), "u_zeroes", SETTINGS, "u_ones")["floor"], finding="Edema", model="final")
    before, after = (models[name].query("split == 'test'") for name in ("u_ones", "final"))
    owner = np.unique(before["patient_id"], return_inverse=True)[1]  # two images each
    columns = [t[c].to_numpy() for t, c in ((before, "truth.edema"), (before, "score.edema"), (after, "score.edema"))]
    assert (row["difference"], row["z"], row["p"]) == metrics.delong_test(*columns, owner)
    assert row["p"] != metrics.delong_test(*columns).p


def test_a_mean_over_trainings_has_the_interval_of_both(models):
    both = judge({"u_zeroes": [models["u_zeroes"]] * 2, "final": [models["final"]] * 2}, "u_zeroes", SETTINGS)["auc"]
    first = judge(once(models), "u_zeroes", SETTINGS)["auc"]
    for finding in ("Edema", "macro"):  # a training twice is no more patients
        pair = [one(t, model="final", finding=finding, split="test") for t in (both, first)]
        for column in ("auc", "low", "high"):
            assert pair[0][column] == pytest.approx(pair[1][column])


def test_one_training_of_each_has_no_p(models):
    compare = judge(once(models), "u_zeroes", SETTINGS)["compare"]
    assert compare[["p", "p_holm", "sd", "total_low", "total_high", "detectable"]].isna().all(axis=None)
    assert (compare["trainings"] == 1).all()


def test_several_trainings_are_averaged_and_paired_by_seed():
    seeds = range(3)
    before, after = ([predictions(10 * k + s, signal) for s in seeds] for k, signal in ((1, 0.5), (2, 1.5)))
    tables = judge({"u_zeroes": before, "final": after}, "u_zeroes", SETTINGS)
    row = one(tables["compare"], finding="Edema")
    single = [[judge(once({"final": t}), "final", SETTINGS)["auc"] for t in trainings] for trainings in (before, after)]
    areas = [[one(auc, finding="Edema", split="test")["auc"] for auc in tables] for tables in single]
    gains = np.subtract(areas[1], areas[0])
    assert (row["difference"], row["sd"]) == (pytest.approx(gains.mean()), pytest.approx(gains.std(ddof=1)))
    assert row["total_low"] < row["difference"] < row["total_high"] and row["p"] < 0.05
    assert tables["compare"]["p_holm"].iloc[:-1].equals(pd.Series(metrics.holm(tables["compare"]["p"].to_numpy()[:-1])))
    auc = one(tables["auc"], model="final", finding="Edema", split="test")
    assert (auc["auc"], auc["sd"], auc["trainings"]) == (np.mean(areas[1]), pytest.approx(np.std(areas[1], ddof=1)), 3)


def test_a_model_compared_with_itself_differs_by_nothing():
    trainings = [predictions(s, 0.5) for s in (0, 1)]
    compare = judge({"u_zeroes": trainings, "final": trainings}, "u_zeroes", SETTINGS)["compare"]
    compare = compare.query("finding != 'Fracture'")
    assert (compare[["difference", "low", "high"]] == 0).all(axis=None) and (compare["p"] == 1).all()


def test_adgm_tables_by_hand():
    table = pd.DataFrame(
        {"image_id": list("abcde"), "patient_id": list("ABCDE"), "split": "valid", "label": [0, 0, 0, 1, 1]}
    )
    for which, first in (("last", [0.9, 0.8, 0.3, 0.4, 0.6]), ("best", [0.9, 0.8, 0.7, 0.4, 0.1])):
        table[f"prob_{which}.0"], table[f"prob_{which}.1"] = first, 1 - np.array(first)
    tables = adgm.tables({Run("corrected", 2, 20, 0): table}, SETTINGS)
    last, best = (one(tables["adgm"], which=which) for which in ("last", "best"))
    assert (last["n"], last["patients"], last["accuracy"], last["majority_share"]) == (5, 5, 0.6, 0.6)
    assert (last["recall.0"], last["recall.1"], best["accuracy"]) == (2 / 3, 0.5, 1)
    assert last["balanced_accuracy"] == pytest.approx(7 / 12)
    assert last["macro_auc"] == pytest.approx(4 / 6)  # .9 and .8 beat both, .3 neither
    assert (last["wilson_low"], last["wilson_high"]) == metrics.wilson(3, 5, 0.95)
    cells = tables["confusion"].query("which == 'last'").set_index(["true", "predicted"])["n"]
    assert cells.to_dict() == {
        ("Abnormal", "Abnormal"): 2, ("Abnormal", "Normal"): 1, ("Normal", "Abnormal"): 1, ("Normal", "Normal"): 1,
    }  # fmt: skip
