"""The tables of the classifiers and the ADGM: against direct computations and numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from cxr.adgm.variants import Run
from cxr.core.findings import FINDINGS
from cxr.evaluation import adgm, metrics
from cxr.evaluation.classifiers import judge, summary
from tests.evaluation.make import SETTINGS, one

RARE = ["Pneumonia", "Lung Lesion"]


def test_auc_rows_carry_their_n_and_the_interval_of_resampled_patients(models):
    auc = judge(models, "u_zeroes", SETTINGS)["auc"]
    assert len(auc) == 3 * 2 * (len(FINDINGS) + 1)
    row = one(auc, model="final", finding="Pneumonia", split="test")
    test = models["final"].query("split == 'test'")
    truth, score = test[["truth.pneumonia"]].to_numpy(), test[["score.pneumonia"]].to_numpy()
    known = ~np.isnan(truth[:, 0])
    assert (row["n"], row["positives"]) == (known.sum(), np.nansum(truth)) and row["n"] < len(test)
    assert row["positives"] + row["negatives"] == row["n"] and row["patients"] == 90
    draws = metrics.draw_patients(test["patient_id"].to_numpy(), 60, seed=0)
    low, high, missing = metrics.interval(metrics.bootstrap_auc(truth, score, draws)[0], 0.95)
    assert (row["auc"], row["low"], row["high"]) == (metrics.auc(truth, score)[0], low, high) and row[
        "missing"
    ] == missing
    assert one(auc, model="final", finding="Edema", split="valid")["n"] == 60


def test_a_finding_with_too_few_positives_keeps_its_row_and_leaves_the_mean(models):
    auc = judge(models, "u_zeroes", SETTINGS)["auc"].query("model == 'final' and split == 'test'").set_index("finding")
    assert np.isnan(auc.loc["Fracture", ["auc", "low", "high"]].astype(float)).all()
    assert auc.loc["Fracture", "positives"] == 3 and auc.loc["Fracture", "n"] == 180
    others = auc.drop(index=["Fracture", "macro"])["auc"]
    assert others.notna().all() and auc.loc["macro", "auc"] == pytest.approx(others.mean())
    assert auc.loc["macro", "findings"] == len(FINDINGS) - 1
    assert auc.loc["macro", "low"] < auc.loc["macro", "auc"] < auc.loc["macro", "high"]
    # The mean varies less than its parts.
    assert auc.loc["macro", "high"] - auc.loc["macro", "low"] < auc.loc["Edema", "high"] - auc.loc["Edema", "low"]


def test_no_finding_with_enough_positives(models):
    tables = judge(models, "u_zeroes", SETTINGS._replace(min_positives=10_000))
    assert tables["auc"]["auc"].isna().all() and tables["compare"]["difference"].isna().all()
    assert list(tables["roc"]) == ["model", "finding", "fpr", "tpr"] and not len(tables["roc"])
    shown = summary(tables, ["u_zeroes"], "u_zeroes", RARE)
    assert shown == {"test": {"images": 180, "patients": 90, "findings": 0}}


def test_compare_pairs_the_two_models_on_the_same_patients(models):
    compare = judge(models, "u_zeroes", SETTINGS)["compare"]
    row = one(compare, finding="Edema")
    before, after = (models[name].query("split == 'test'") for name in ("u_zeroes", "final"))
    test = metrics.delong_test(
        *(t[c].to_numpy() for t, c in ((before, "truth.edema"), (before, "score.edema"), (after, "score.edema")))
    )
    assert (row["difference"], row["z"], row["p"]) == test
    assert row["final"] - row["baseline"] == pytest.approx(row["difference"])
    draws = metrics.draw_patients(before["patient_id"], 60, seed=0)
    first, second = (metrics.bootstrap_auc(t[["truth.edema"]].to_numpy(), t[["score.edema"]].to_numpy(), draws)[0]
                     for t in (before, after))  # fmt: skip
    assert (row["low"], row["high"]) == metrics.interval(second - first, 0.95)[:2]
    assert compare["p_holm"].equals(pd.Series(metrics.holm(compare["p"].to_numpy())))
    assert one(compare, finding="macro")["difference"] > 0 and np.isnan(one(compare, finding="macro")["p"])
    assert np.isnan(one(compare, finding="Fracture")["p"]) and one(compare, finding="Fracture")["positives"] == 3


def test_a_model_compared_with_itself_differs_by_nothing(models):
    compare = judge(models | {"final": models["u_zeroes"]}, "u_zeroes", SETTINGS)["compare"].query(
        "finding != 'Fracture'"
    )
    assert (compare[["difference", "low", "high"]] == 0).all(axis=None)
    assert (compare.query("finding != 'macro'")[["p", "p_holm"]] == 1).all(axis=None)


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
