"""The ADGM's tables: scores against scikit-learn, means over draws and paired differences by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score

from cxr.adgm.variants import Run, leading, runs
from cxr.evaluation import adgm, metrics, names
from cxr.evaluation.classifiers import Settings
from cxr.evaluation.names import MAJORITY

SETTINGS = Settings(replicates=200)


def predicted(label: np.ndarray, right: list[bool]) -> pd.DataFrame:
    """Predictions of two classes that are right where `right` says so."""
    said = np.where(right, label, 1 - label)
    table = pd.DataFrame({"patient_id": [f"p{i}" for i in range(len(label))], "label": label})
    for which in ("last", "best"):
        table[f"prob_{which}.0"], table[f"prob_{which}.1"] = 0.9 - 0.8 * said, 0.1 + 0.8 * said
    return table


def test_scores_are_scikit_learns_in_every_replicate():
    rng = np.random.default_rng(0)
    label, probability = rng.integers(3, size=90), rng.dirichlet(np.ones(3), 90)
    said = probability.argmax(1)
    found = adgm.scores(label, probability)
    assert found["macro_f1"] == pytest.approx(f1_score(label, said, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, said))
    draws = metrics.draw_patients(np.arange(90) // 2, 7, 0)
    drawn = adgm.judge(label, probability, draws, 0.95).replicates
    for b in range(7):
        rows = np.repeat(np.arange(90), draws.counts[draws.owner, b])
        expected = adgm.scores(label[rows], probability[rows])
        assert {name: values[b] for name, values in drawn.items()} == pytest.approx(expected)


def test_a_class_without_images_has_no_mean_over_the_classes():
    found = adgm.scores(np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert all(math.isnan(found[name]) for name in ("balanced_accuracy", "macro_f1", "macro_auc"))


def test_draws_are_averaged_and_their_spread_kept_apart_from_that_of_patients():
    label = np.array([0, 1] * 10)
    rights = {("corrected", 0): 18, ("corrected", 1): 16, ("supervised", 0): 15, ("supervised", 1): 11}
    given = {Run(v, 2, 5, d): predicted(label, [i < n for i in range(20)]) for (v, d), n in rights.items()}
    found = adgm.tables(given, SETTINGS)
    arm = found["adgm_arms"].set_index("variant").loc["corrected"]
    assert arm["draws"] == 2 and arm["accuracy"] == pytest.approx(0.85)
    assert arm["accuracy_sd"] == pytest.approx(0.1 / math.sqrt(2))  # of .9 and .8
    assert arm["accuracy_low"] < 0.85 < arm["accuracy_high"]
    row = found["adgm_compare"].query("score == 'accuracy'").iloc[0]
    assert (row["control"], row["draws"], row["difference"]) == ("supervised", 2, pytest.approx(0.2))
    assert row["sd"] == pytest.approx(0.1 / math.sqrt(2))  # of .15 and .25
    assert row["total_low"] < row["low"] and row["high"] < row["total_high"] and row["detectable"] > 0
    one = adgm.tables({r: t for r, t in given.items() if r.draw == 0}, SETTINGS)
    assert one["adgm_arms"]["accuracy_sd"].isna().all()
    assert one["adgm_compare"][["sd", "total_low", "p"]].isna().all(axis=None)  # one draw says nothing of another
    shown = adgm.summary(found)["adgm"]["2-5"]
    assert shown["accuracy"] == 0.85 and shown["over_supervised"]["difference"] == 0.2
    assert shown["over_supervised"]["p"] == round(row["p"], 4)


def test_a_run_compared_with_itself_never_differs():
    table = predicted(np.array([0, 1] * 5), [True] * 8 + [False] * 2)
    given = {Run(v, 2, 5, d): table for v in ("corrected", "no_z") for d in (0, 1)}
    found = adgm.tables(given, SETTINGS)["adgm_compare"].query("control == 'no_z'")
    assert (
        len(found) == 4
        and (found[["difference", "low", "high", "total_low"]] == 0).all(axis=None)
        and (found["p"] == 1).all()
    )


def test_the_model_of_features_is_compared_with_every_control_arm_of_both_kinds():
    table = predicted(np.array([0, 1] * 5), [True] * 8 + [False] * 2)
    arms = ("corrected", "supervised", "features", "features_supervised", "probe")
    found = adgm.tables({Run(v, 2, 5, 0): table for v in arms}, SETTINGS)["adgm_compare"].query("score == 'macro_auc'")
    pairs = set(zip(found["variant"], found["control"], strict=True))
    assert pairs - {(v, MAJORITY) for v in arms} == {
        ("corrected", control) for control in arms[1:]
    } | {("features", control) for control in ("supervised", "features_supervised", "probe")}  # fmt: skip


def test_runs_are_named_ordered_and_checked():
    found = runs(["supervised", "corrected"], [3, 2], [20], [1, 0])
    assert found[0].name == "corrected-2-20-0" and len(found) == 8 and found[-1] == ("supervised", 3, 20, 1)
    assert leading(["supervised", "no_z"]) == "no_z"
    assert Run("probe", 2, 20, 0).stage == "adgm_of_features@probe-2-20-0"
    with pytest.raises(ValueError, match="unknown variant 'adgm' in adgm_runs: choose from corrected, paper"):
        runs(["adgm"], [2], [20], [0])


def test_the_commonest_class_is_counted_on_the_same_images_and_patients():
    """76 % right where 68 % are of one class: the paired difference varies more than the accuracy."""
    label = np.r_[np.zeros(136, int), np.ones(64, int)]
    rng = np.random.default_rng(1)
    table = predicted(label, list(rng.permutation(200) < 152))
    found = adgm.tables({Run("corrected", 2, 5, 0): table}, SETTINGS)
    row, over = found["adgm"].iloc[0], found["adgm_compare"].set_index(["control", "score"])
    assert list(over.index) == [("majority", name) for name in names.SCORES]
    first = over.loc[("majority", "accuracy")]
    assert first["difference"] == pytest.approx(0.76 - 0.68) and row["majority_share"] == pytest.approx(0.68)
    draws = metrics.draw_patients(table["patient_id"], 200, 0)
    right = table["prob_last.1"].round() == table["label"]
    gains = [
        (right[rows].mean() - (label[rows] == 0).mean())
        for rows in (np.repeat(np.arange(200), draws.counts[draws.owner, b]) for b in range(200))
    ]
    assert (first["low"], first["high"]) == pytest.approx(tuple(np.quantile(gains, [0.025, 0.975])))
    assert first["high"] - first["low"] > 1.3 * (row["accuracy_high"] - row["accuracy_low"])  # the share varies, too
    assert over.loc[("majority", "balanced_accuracy"), "difference"] == pytest.approx(row["balanced_accuracy"] - 0.5)
    assert over.loc[("majority", "macro_auc"), "difference"] == pytest.approx(row["macro_auc"] - 0.5)
    only_first, only_second = int((~right & (label == 0)).sum()), int((right & (label == 1)).sum())
    exact = binomtest(only_second, only_first + only_second).pvalue
    assert row["mcnemar_p"] == pytest.approx(exact)
    assert adgm.summary(found)["adgm"]["2-5"]["over_majority"]["difference"] == 0.08


def test_mcnemar_by_hand_and_with_patients():
    # Six images only one is right about, five of them the second: 2 (1 + 6) / 64.
    first, second = np.array([1, 0, 0, 0, 0, 0, 1, 1]) > 0, np.array([0, 1, 1, 1, 1, 1, 1, 1]) > 0
    assert metrics.mcnemar(first, second) == pytest.approx(14 / 64)
    assert metrics.mcnemar(second, first) == pytest.approx(14 / 64)
    assert metrics.mcnemar(first, first) == 1
    # Patients (-1 + 1 + 1), (1 + 1), (1), 0: differences 1, 2, 1. All signs: sums of 4 twice in eight.
    assert metrics.mcnemar(first, second, np.array([0, 0, 0, 1, 1, 2, 3, 3])) == pytest.approx(2 / 8)
    # Two images of every patient with the same answers are one answer.
    twice = metrics.mcnemar(np.repeat(first, 2), np.repeat(second, 2), np.repeat(np.arange(8), 2))
    assert twice == pytest.approx(14 / 64)
