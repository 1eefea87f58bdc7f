"""Labels that a control arm needs for the ADGM's AUC: by hand on straight curves, and its interval in a simulation."""

import numpy as np
import pytest

from cxr.adgm.variants import Run
from cxr.evaluation import efficiency
from cxr.evaluation.adgm import Judged, by_draw
from cxr.evaluation.classifiers import Settings

SETTINGS = Settings(replicates=400)


def run(auc, rng=None, patients=0.0, b=400):
    noise = rng.normal(0, patients, b) if rng is not None else np.zeros(b)
    return Judged({"macro_auc": auc}, {"macro_auc": auc + noise}, [])


@pytest.mark.parametrize(
    ("wanted", "needed"),
    [(0.65, 50), (0.6, 25), (0.5, 25), (0.7, 100), (0.75, 200), (0.8, 400), (0.81, np.inf)],
)
def test_the_curve_is_straight_over_the_logarithm_and_first_reached(wanted, needed):
    """0.6, 0.7, 0.8 at 25, 100, 400 labels: halfway between 25 and 100 lie 50."""
    assert efficiency.labels_needed(wanted, [25, 100, 400], [0.6, 0.7, 0.8]) == pytest.approx(needed)


def test_a_curve_that_falls_is_reached_where_it_first_was():
    assert efficiency.labels_needed(0.65, [25, 100, 400], [0.6, 0.7, 0.6]) == pytest.approx(50)


def test_the_table_has_the_number_its_interval_and_the_ends_of_the_curve():
    rng = np.random.default_rng(0)
    cells = {}
    for d in (0, 1):
        for n, auc in ((25, 0.6), (100, 0.7), (400, 0.8)):
            cells[Run("supervised", 2, n, d)] = run(auc + 0.01 * (-1) ** d, rng, 0.005)
        for n, auc in ((25, 0.65), (100, 0.9)):
            cells[Run("corrected", 2, n, d)] = run(auc, rng, 0.005)
    rows = efficiency.table(by_draw(cells), SETTINGS).set_index("labels")
    assert set(rows["control"]) == {"supervised"} and (rows["draws"] == 2).all()
    assert rows.loc[25, "equal"] == pytest.approx(50) and rows.loc[25, "low"] < 50 < rows.loc[25, "high"]
    assert np.isnan(rows.loc[100, "equal"]) and rows.loc[100, "most"] == 400  # never reached
    assert (rows["fewest"] == 25).all()


def test_one_number_of_labels_is_no_curve_and_no_draw_in_common_no_row():
    one = {Run(v, 2, 25, 0): run(0.7) for v in ("corrected", "supervised")}
    assert efficiency.table(by_draw(one), SETTINGS).empty
    apart = {Run("supervised", 2, n, 1): run(0.7) for n in (25, 100)} | {Run("corrected", 2, 25, 0): run(0.7)}
    assert efficiency.table(by_draw(apart), SETTINGS).empty


def test_the_interval_holds_the_truth_where_draws_and_patients_vary():
    """The truth is 50; draws vary by 0.02, patients by 0.01: of 60 studies of five draws nine in ten hold it."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(60):
        patients = {n: rng.normal(0, 0.01) for n in (25, 100, 400)}
        cells = {
            Run("supervised", 2, n, d): run(auc + patients[n] + rng.normal(0, 0.02), rng, 0.01, 100)
            for d in range(5)
            for n, auc in ((25, 0.6), (100, 0.7), (400, 0.8))
        }
        cells |= {Run("corrected", 2, 25, d): run(0.65 + rng.normal(0, 0.02), rng, 0.01, 100) for d in range(5)}
        row = efficiency.table(by_draw(cells), Settings(replicates=100)).iloc[0]
        high = np.inf if np.isnan(row["high"]) else row["high"]
        held += (row["low"] <= 50 <= high) or (row["low"] <= row["fewest"] and high >= 50)
    assert held >= 48
