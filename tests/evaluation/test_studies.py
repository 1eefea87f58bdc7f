"""Scores per study against a loop, against scikit-learn on tables in the form that CheXpert's test set is published in,
and the mean over the competition's findings.
"""

import io

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr.core.findings import FINDINGS, SLUGS, slug
from cxr.evaluation import studies
from cxr.evaluation.classifiers import Settings
from cxr.evaluation.names import FIVE
from tests.evaluation.make import one, predictions

SETTINGS = Settings(replicates=40, min_positives=5)


def two_views(table):
    """image_id -> study_id: images 2k and 2k + 1, which are of one patient, are one study."""
    return pd.Series([f"s{k // 2}" for k in range(len(table))], index=table["image_id"])


@pytest.mark.parametrize("way", ["max", "mean"])
def test_a_study_has_the_maximum_or_the_mean_of_its_views_and_the_worst_of_their_labels(way):
    table = predictions(0, 1.0)
    rows = studies.per_study(table, two_views(table), way)
    assert len(rows) == len(table) / 2 and rows["study_id"].is_unique
    for row in rows.sample(20, random_state=0).to_dict("records"):
        views = table[two_views(table).to_numpy() == row["study_id"]]
        assert row["patient_id"] == views["patient_id"].iloc[0] and row["split"] == views["split"].iloc[0]
        for name in ("edema", "pneumonia"):
            assert row[f"score.{name}"] == pytest.approx(getattr(views[f"score.{name}"], way)())
            truth = views[f"truth.{name}"].tolist()
            expected = 1 if 1 in truth else np.nan if any(map(np.isnan, truth)) else 0
            assert row[f"truth.{name}"] == expected or (np.isnan(expected) and np.isnan(row[f"truth.{name}"]))


def test_the_order_of_the_images_changes_nothing():
    table = predictions(0, 1.0)
    mixed = table.sample(frac=1, random_state=1)
    first, second = (studies.per_study(t, two_views(table), "max") for t in (table, mixed))
    assert first.equals(second)


def test_a_study_of_one_view_each_is_scored_as_its_images_are():
    table = predictions(0, 1.0)
    alone = pd.Series(table["image_id"].to_numpy(), index=table["image_id"])
    areas = studies.tables({"m": [table]}, alone, [], [], SETTINGS)["per_study"]
    by_image, by_study = (areas.query(f"unit == '{u}'").drop(columns="unit").round(9) for u in ("image", "study"))
    assert by_image.reset_index(drop=True).equals(by_study.reset_index(drop=True))


def published(studies_read=80):
    """(groundtruth.csv, a model's predictions.csv) of a test set, as text in the published form: a row a study, 0 and 1
    for fourteen findings; the model's probabilities for the competition's five, in another order of rows and columns.
    """
    rng = np.random.default_rng(7)
    names = [f"CheXpert-v1.0/test/patient{64741 + k}/study1" for k in range(studies_read)]
    truth = pd.DataFrame(rng.random((studies_read, 14)) < 0.3, columns=FINDINGS).astype(int)
    scores = {f: (0.4 * truth[f] + rng.random(studies_read)).round(2) / 1.4 for f in reversed(FIVE)}  # with ties
    model = pd.DataFrame({"Study": names, **scores}).sample(frac=1, random_state=0)
    return tuple(t.to_csv(index=False) for t in (truth.assign(Study=names)[["Study", *FINDINGS]], model))


def test_leaderboard_check_the_auc_per_study_of_published_tables_is_scikit_learns():
    truth, model = (pd.read_csv(io.StringIO(text)).set_index("Study") for text in published())
    both = truth.join(model.add_suffix("_score"))
    # The test set's predictions are per study; two images of each, of which the second never has the maximum.
    images = [both.assign(image_id=both.index + f"/view{k}_frontal.jpg", weight=w) for k, w in ((1, 1.0), (2, 0.5))]
    table = pd.concat(images)
    study = pd.Series(table.index.str.split("/").str[2:].str.join("/"), index=table["image_id"])
    predicted = table[["image_id"]].assign(patient_id=study.str.split("/").str[0].to_numpy(), split="test")
    for finding in FINDINGS:
        predicted[f"truth.{slug(finding)}"] = table[finding].astype(np.float32)
        score = table["weight"] * table[f"{finding}_score"] if finding in FIVE else 0.5
        predicted[f"score.{slug(finding)}"] = score
    areas = studies.tables({"m": [predicted.reset_index(drop=True)]}, study, ["m"], [], SETTINGS)
    expected = {f: roc_auc_score(both[f], both[f"{f}_score"]) for f in FIVE}
    for finding, value in expected.items():
        row = one(areas["per_study"], unit="study", finding=finding)
        assert row["auc"] == pytest.approx(value, abs=1e-12) and row["n"] == len(both) == 80
    row = one(areas["per_study"], unit="study", finding="five")
    assert row["auc"] == pytest.approx(np.mean(list(expected.values()))) and row["findings"] == 5
    assert row["low"] < row["auc"] < row["high"]
    assert set(areas["study_roc"]["finding"]) == set(FIVE)


def test_the_mean_of_the_competition_leaves_out_a_finding_with_too_few_positives():
    table = predictions(0, 1.0).rename(columns=lambda c: c.replace("fracture", "x").replace("edema", "fracture"))
    table = table.rename(columns=lambda c: c.replace(".x", ".edema"))  # edema has the three positives of fracture
    areas = studies.tables({"m": [table]}, two_views(table), [], [], SETTINGS)["per_study"].query("unit == 'image'")
    row, single = one(areas, finding="five"), areas.set_index("finding")["auc"]
    assert row["findings"] == 4
    assert row["auc"] == pytest.approx(single[[f for f in FIVE if f != "Edema"]].mean())
    none = table.assign(**{f"truth.{name}": np.float32(0) for name in SLUGS})
    row = one(
        studies.tables({"m": [none]}, two_views(table), [], [], SETTINGS)["per_study"], finding="five", unit="study"
    )
    assert np.isnan(row["auc"]) and row["findings"] == 0
