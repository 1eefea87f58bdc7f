"""Radiologists beside a classifier: rates by hand, the ROC's sensitivity against scikit-learn, bad files."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from cxr.core.findings import FINDINGS, SLUGS
from cxr.evaluation import metrics, readers
from cxr.evaluation.ranked import each_once, sensitivity_at
from cxr.evaluation.studies import per_study
from tests.evaluation.make import SETTINGS, one, predictions, stage
from tests.evaluation.test_studies import two_views


def made(table, wrong=0.2, seed=0):
    """Two readers of every test study, each wrong in a share of the calls; the second does not read fractures."""
    rng, rows = np.random.default_rng(seed), []
    test = per_study(table[table["split"] == "test"], two_views(table), "max")
    for reader in ("a", "b"):
        calls = {"study_id": test["study_id"], "reader": reader}
        for finding, name in zip(FINDINGS, SLUGS, strict=True):
            flipped = rng.random(len(test)) < wrong
            calls[finding] = np.where(flipped, 1 - test[f"truth.{name}"].fillna(0), test[f"truth.{name}"].fillna(0))
        rows.append(pd.DataFrame(calls))
    rows[1]["Fracture"] = np.nan
    return pd.concat(rows, ignore_index=True)


def test_rates_of_a_reader_are_counted_on_the_test_studies():
    table = predictions(0, 1.0)
    calls = made(table)
    rows = readers.table({"m": table}, two_views(table), calls, SETTINGS)
    test = per_study(table[table["split"] == "test"], two_views(table), "max").set_index("study_id")
    of_a = calls[calls["reader"] == "a"].set_index("study_id").loc[test.index]
    truth = test["truth.edema"]
    row = one(rows, reader="a", finding="Edema")
    assert row["sensitivity"] == pytest.approx(of_a.loc[truth == 1, "Edema"].mean())
    assert row["specificity"] == pytest.approx(1 - of_a.loc[truth == 0, "Edema"].mean())
    fpr, tpr, _ = roc_curve(truth, test["score.edema"], drop_intermediate=False)
    assert row["at"] == pytest.approx(tpr[fpr <= 1 - row["specificity"] + 1e-12].max())
    assert row["difference"] == pytest.approx(row["at"] - row["sensitivity"])
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert row["n"] == len(test) and not (rows["finding"] == "Fracture").any()


@pytest.mark.parametrize("specificity", [0.0, 0.37, 0.8, 1.0])
def test_sensitivity_at_a_specificity_is_read_off_scikit_learns_curve(specificity):
    rng = np.random.default_rng(2)
    truth = (rng.random(90) < 0.4).astype(float)
    scores, draws = (rng.normal(size=90) + truth).round(1), metrics.draw_patients(np.arange(90) // 3, 40, 0)
    ours = sensitivity_at(truth, scores, np.full(40, specificity), draws)
    for b in range(0, 40, 5):
        weight = draws.counts[draws.owner, b]
        fpr, tpr, _ = roc_curve(truth, scores, sample_weight=weight, drop_intermediate=False)
        assert ours[b] == pytest.approx(tpr[fpr <= 1 - specificity + 1e-9].max())


def test_sensitivity_is_not_a_number_where_a_class_is_missing_and_zero_where_no_threshold_is_specific_enough():
    scores = np.array([0.1, 0.4])
    assert np.isnan(sensitivity_at(np.ones(2), scores, np.full(1, 0.5), each_once(2)))
    assert np.isnan(sensitivity_at(np.array([1.0, 0]), scores, np.full(1, np.nan), each_once(2)))
    assert sensitivity_at(np.array([1.0, 0]), scores, np.full(1, 1.0), each_once(2)) == 0
    assert sensitivity_at(np.array([0.0, 1]), scores, np.full(1, 1.0), each_once(2)) == 1


def test_readers_of_other_studies_or_none_give_no_table():
    table = predictions(0, 1.0)
    assert readers.table({"m": table}, two_views(table), None, SETTINGS) is None
    elsewhere = made(table).assign(study_id=lambda t: "patient9/" + t["study_id"])
    assert readers.table({"m": table}, two_views(table), elsewhere, SETTINGS) is None


def test_the_stage_writes_the_table_where_the_file_is_there(folder, tmp_path):
    table = pd.read_parquet(folder / "final/0.parquet")
    ids = table[table["split"] == "test"]["image_id"]  # in these records an image is a study
    calls = pd.DataFrame(
        {"study_id": ids, "reader": "bc4", **{f: (np.arange(len(ids)) % 3 == 0) * 1.0 for f in FINDINGS}}
    )
    calls.to_parquet(tmp_path / "readers.parquet")
    written = pd.read_csv(
        stage(folder, tmp_path / "with", readers=tmp_path / "readers.parquet") / "evaluate/readers.csv"
    )
    assert set(written["model"]) == {"u_zeroes", "final"} and set(written["reader"]) == {"bc4"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.assign(Edema=0.5),
            "Edema of study 's1' is 0.5 for reader 'a', must be 1, 0 or blank; `dvc repro -f",
        ),
        (lambda t: pd.concat([t, t[:1]]), "reader 'a' has study 's1' twice; `dvc repro -f download@chexpert`"),
        (lambda t: t.drop(columns="Fracture"), "column 'Fracture' is missing; `dvc repro -f download@chexpert`"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, change, message):
    path = tmp_path / "readers.parquet"
    change(made(predictions(0, 1.0))).to_parquet(path)
    with pytest.raises(ValueError) as error:
        readers.read(path)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
