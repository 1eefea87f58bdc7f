"""Uncertain test labels left out, all 0 and all 1, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr.evaluation import sensitivity
from tests.evaluation.make import SETTINGS, one, predictions


def test_each_rule_is_the_auc_of_its_labels():
    table = predictions(0, 1.0)
    rows = sensitivity.table({"m": [table]}, SETTINGS)
    test = table[table["split"] == "test"]
    truth, score = test["truth.pneumonia"], test["score.pneumonia"]
    known = truth.notna()
    expected = {"left_out": roc_auc_score(truth[known], score[known])}
    expected |= {rule: roc_auc_score(truth.fillna(value), score) for rule, value in (("zero", 0), ("one", 1))}
    for rule, auc in expected.items():
        row = one(rows, finding="Pneumonia", rule=rule)
        assert row["auc"] == pytest.approx(auc) and row["uncertain"] == (~known).sum() > 10
        assert row["n"] == (known.sum() if rule == "left_out" else len(test))
    assert len({round(a, 6) for a in expected.values()}) == 3


def test_without_uncertain_labels_the_rules_agree():
    rows = sensitivity.table({"m": [predictions(0, 1.0)]}, SETTINGS).query("finding == 'Edema'")
    assert rows["auc"].nunique() == rows["low"].nunique() == 1 and (rows["uncertain"] == 0).all()


def test_the_means_are_over_the_same_findings_under_every_rule():
    table = predictions(0, 1.0)
    mask = (table["truth.fracture"] == 0) & (np.arange(len(table)) % 4 == 1)
    table.loc[mask, "truth.fracture"] = np.nan  # only as 1 do these give fracture enough positives
    rows = sensitivity.table({"m": [table]}, SETTINGS)
    assert np.isnan(one(rows, finding="Fracture", rule="left_out")["auc"])
    assert one(rows, finding="Fracture", rule="one")["auc"] > 0
    means = rows.query("finding == 'macro'")
    assert (means["findings"] == 13).all()
    as_one = rows.query("rule == 'one' and finding not in ('Fracture', 'macro')")["auc"].mean()
    assert one(means, rule="one")["auc"] == pytest.approx(as_one)
