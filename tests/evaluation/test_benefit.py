"""Net benefit by hand, its limits, and the table of the thresholds."""

import numpy as np
import pytest

from cxr.evaluation import benefit, metrics
from cxr.evaluation.operating import Judged
from cxr.evaluation.ranked import each_once
from tests.evaluation.make import SETTINGS, one, predictions

TRUTH = np.array([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
PROBABILITY = np.array([0.9, 0.2, 0.6, 0.2, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])


def test_net_benefit_by_hand():
    model, everyone = benefit.net_benefit(TRUTH, PROBABILITY, np.array([0.2, 0.5]), each_once(10))
    # At 0.2 four are called: 2 true, 2 false; at 0.5 one true, one false.
    assert model[:, 0] == pytest.approx([2 / 10 - 2 / 10 * 0.25, 1 / 10 - 1 / 10])
    assert everyone[:, 0] == pytest.approx([0.2 - 0.8 * 0.25, 0.2 - 0.8])


def test_a_threshold_below_every_probability_acts_on_all_and_one_above_on_none():
    model, everyone = benefit.net_benefit(TRUTH, PROBABILITY, np.array([0.01, 0.95]), each_once(10))
    assert model[0] == pytest.approx(everyone[0]) and model[1] == 0


def test_perfect_probabilities_are_worth_the_share_of_positives():
    model, everyone = benefit.net_benefit(TRUTH, TRUTH, np.array([0.1, 0.4]), each_once(10))
    assert model[:, 0] == pytest.approx([0.2, 0.2]) and (everyone < model).all()


def test_replicates_are_net_benefits_of_the_images_drawn():
    draws = metrics.draw_patients(np.arange(10) // 2, 30, 1)
    model, everyone = benefit.net_benefit(TRUTH, PROBABILITY, np.array([0.2]), draws)
    for b in range(0, 30, 5):
        index = np.repeat(np.arange(10), draws.counts[draws.owner, b])
        drawn = benefit.net_benefit(TRUTH[index], PROBABILITY[index], np.array([0.2]), each_once(len(index)))
        assert model[0, b] == pytest.approx(drawn.model[0, 0]) and everyone[0, b] == pytest.approx(drawn.everyone[0, 0])


def test_the_table_has_every_threshold_and_leaves_out_what_has_no_calibrated_probability():
    table = predictions(0, 1.0)
    test = table[table["split"] == "test"]
    probability = np.stack([test["score.edema"]] * 14, axis=1).astype(float)
    probability[:, 2] = np.nan
    rows = benefit.table(
        {"m": table}, {"m": Judged({"calibrated": probability}, np.full(14, np.nan))},
        SETTINGS._replace(thresholds=(0.125, 0.2)),
    )  # fmt: skip
    assert "Cardiomegaly" not in set(rows["finding"]) and "Fracture" not in set(rows["finding"])
    edema = rows.query("finding == 'Edema'")
    assert {0.01, 0.125, 0.2, 0.5} <= set(edema["threshold"]) and edema["threshold"].is_unique
    row = one(edema, threshold=0.2)
    expected = benefit.net_benefit(
        test["truth.edema"].to_numpy(), probability[:, 0], np.array([0.2]), each_once(len(test))
    )
    assert row["benefit"] == pytest.approx(expected.model[0, 0])
    assert row["over_all"] == pytest.approx(row["benefit"] - row["everyone"])
    assert row["benefit_low"] < row["benefit"] < row["benefit_high"]
    assert row["called"] == (probability[:, 0] >= 0.2).sum()
