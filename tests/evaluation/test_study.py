"""The study of control arms: its combination of trainings and patients, what it finds, and what it must not look at."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import SLUGS
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Settings
from cxr.evaluation.study import best_control, check, judge_study, summary
from cxr.synthesis.arms import ARMS
from stages import evaluate
from stages.cli import main
from tests.evaluation.make import stage, words

SETTINGS = Settings(replicates=100, min_positives=10)
RARE = ["Pneumonia", "Lung Lesion", "Consolidation"]


def training(seed, signal, n=320):
    """One training's predictions: patients of two images; cases are as hard for every training, the rest is its own."""
    own, common = np.random.default_rng([1, seed]), np.random.default_rng(99)
    table = pd.DataFrame({"image_id": [f"i{k:04d}" for k in range(n)], "patient_id": [f"p{k // 2}" for k in range(n)]})
    table["split"] = np.where(np.arange(n) // 2 % 2 == 0, "valid", "test")
    table["split_sha256"] = "0a"
    for name in SLUGS:
        truth = (common.random(n) < 0.3).astype(np.float32)
        if name == "consolidation":
            truth = (np.arange(n) >= n - 6).astype(np.float32)
        x = signal * truth + common.normal(size=n) + 0.3 * own.normal(size=n)
        table[f"score.{name}"] = (1 / (1 + np.exp(-x))).astype(np.float32)
        table[f"truth.{name}"] = truth
    return table


def study(seeds=(0, 1, 2), **signals):
    return {(arm, s): training(10 * list(ARMS).index(arm) + s, v) for arm, v in signals.items() for s in seeds}


@pytest.fixture(scope="module")
def made():
    trainings = study(baseline=0.6, oversampling=1.0, gan=2.2, gan_untrained=1.0)
    return trainings, judge_study(trainings, RARE, SETTINGS)


def test_a_planted_gain_is_found_and_equal_arms_are_not_told_apart(made):
    differences = made[1]["study_differences"].set_index(["arm", "reference", "finding"])
    for name in ("Pneumonia", "Lung Lesion", "rare", "macro"):
        row = differences.loc["gan", "best control", name]
        assert row["control"] == "oversampling" and row["p_holm"] < 0.05 and row["total_low"] > 0, name
        assert row["low"] < row["difference"] < row["high"] and row["difference"] < row["total_high"], name
        assert differences.loc["gan_untrained", "best control", name]["p_holm"] > 0.05, name
    assert ("oversampling", "best control", "rare") not in differences.index
    assert ("baseline", "baseline", "rare") not in differences.index and len(differences) == 2 * 3 * 5


def test_differences_are_paired_by_seed_and_by_patient(made):
    trainings, tables = made
    row = tables["study_differences"].set_index(["arm", "reference", "finding"]).loc["gan", "baseline", "Pneumonia"]
    test = {key: t[t["split"] == "test"] for key, t in trainings.items()}
    draws = metrics.draw_patients(test["gan", 0]["patient_id"], 100, seed=0)
    area, drawn = {}, {}
    for key, t in test.items():
        truth, score = t["truth.pneumonia"].to_numpy(np.float64), t["score.pneumonia"].to_numpy()
        area[key] = metrics.auc(truth[:, None], score[:, None])[0]
        drawn[key] = metrics.weighted_auc(truth, score, draws)
    pairs = np.array([area["gan", s] - area["baseline", s] for s in range(3)])
    assert row["difference"] == pytest.approx(pairs.mean()) and row["sd"] == pytest.approx(pairs.std(ddof=1))
    low, high, _ = metrics.interval(
        np.mean([drawn["gan", s] - drawn["baseline", s] for s in range(3)], axis=0), confidence=0.95
    )
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    own = tables["study"].set_index(["arm", "finding"]).loc["gan", "Pneumonia"]
    assert own["auc"] == pytest.approx(np.mean([area["gan", s] for s in range(3)]))
    assert (own["patients"], own["n"], own["seeds"]) == (80, 160, 3)


def test_holms_family_is_the_arms_and_rare_findings_of_one_reference(made):
    table = made[1]["study_differences"]
    for reference in ("baseline", "best control"):
        for group in (RARE, ["rare"], ["macro"]):
            family = table[(table["reference"] == reference) & table["finding"].isin(group)]
            assert family["p_holm"].to_numpy() == pytest.approx(metrics.holm(family["p"].to_numpy()), nan_ok=True)


def test_a_finding_with_too_few_positives_stays_listed_without_a_number(made):
    row = made[1]["study"].set_index(["arm", "finding"]).loc["gan", "Consolidation"]
    assert row[["auc", "low", "sd"]].isna().all() and row["positives"] == 4
    rows = made[1]["study_differences"].query("finding == 'Consolidation'")
    assert len(rows) == 6 and rows[["difference", "p", "p_holm", "detectable"]].isna().all(axis=None)
    table = made[1]["study"].set_index(["arm", "finding"]).loc["gan"]
    assert table["auc"]["rare"] == pytest.approx(table["auc"][["Pneumonia", "Lung Lesion"]].mean())
    # 4 positive test images of it and 2 validation ones: 13 findings of 14 have enough, 2 rare ones.
    counted = table.loc[["rare", "macro"], ["findings", "valid_findings"]]
    assert counted.to_numpy().tolist() == [[2, 2], [13, 13]] and table["findings"].isna().sum() == 3


def test_the_best_control_is_the_same_whatever_the_test_labels_are(made):
    turned = {key: table.copy() for key, table in made[0].items()}
    for table in turned.values():
        at = table["split"] == "test"
        for name in SLUGS:
            table.loc[at, f"truth.{name}"] = 1 - table.loc[at, f"truth.{name}"]
    tables = judge_study(turned, RARE, SETTINGS)
    assert set(tables["study_differences"].query("reference == 'best control'")["control"]) == {"oversampling"}
    old, new = (t["study"].set_index(["arm", "finding"]) for t in (made[1], tables))
    assert new["valid_auc"].equals(old["valid_auc"])
    assert new.loc["gan", "Pneumonia"]["auc"] == pytest.approx(1 - old.loc["gan", "Pneumonia"]["auc"])


def test_the_best_control_uses_no_generated_image_and_needs_validation():
    arms = ["baseline", "gan", "blurred"]
    assert best_control(arms, np.array([[0.6, 0.9], [0.9, 0.9], [0.7, 0.1]])) == "blurred"
    assert best_control(arms, np.array([[np.nan, 0.6], [np.nan, 0.9], [np.nan, 0.5]])) == "baseline"
    assert best_control(arms, np.full((3, 2), np.nan)) is None and best_control(["gan"], np.ones((1, 2))) is None
    assert {name for name, arm in ARMS.items() if arm.generated} == {"gan", "gan_untrained", "pretrained"}


def test_one_seed_has_no_p_and_no_combined_interval():
    tables = judge_study(study((4,), baseline=0.6, gan=2.0), RARE, SETTINGS)
    row = tables["study_differences"].set_index(["reference", "finding"]).loc["best control", "rare"]
    assert row["low"] > 0
    assert row[["sd", "total_low", "total_high", "p", "p_holm", "detectable"]].isna().all()
    shown = summary(tables)["study"]
    assert set(shown["gan"]["rare_auc"]) == {"auc", "low", "high"}
    assert set(shown["gan_against_best_control"]) == {"difference", "low", "high"}


def test_metrics_hold_each_arm_and_the_gans_answer(made):
    shown = summary(made[1])["study"]
    assert list(shown) == ["baseline", "oversampling", "gan", "gan_untrained", "gan_against_best_control"]
    assert list(shown["baseline"]["macro_auc"]) == ["auc", "low", "high", "sd"]
    assert shown["gan_against_best_control"]["p_holm"] < 0.05 < shown["gan_against_best_control"]["difference"]


@pytest.mark.parametrize(
    ("arms", "seeds", "message"),
    [
        (["gam"], [0], "unknown arm 'gam' in study.arms: choose from baseline, baseline_steps"),
        (["gan", "gan"], [0], "study.arms names 'gan' twice"),
        (["gan"], [1, 2, 1], "study.seeds names 1 twice"),
        (["gan"], [], "study.seeds is empty"),
    ],
)
def test_what_is_no_study_is_said(arms, seeds, message):
    with pytest.raises(ValueError, match=message):
        check(arms, seeds)


@pytest.fixture
def trained(folder):
    (folder / "study").mkdir()
    for arm in ("baseline", "gan"):
        for seed in (0, 1):
            table = pd.read_parquet(folder / "final.parquet")
            noise = np.random.default_rng([list(ARMS).index(arm), seed]).normal(size=len(table)) * 0.02
            table["score.pneumonia"] = (table["score.pneumonia"] + noise).clip(0, 1).astype(np.float32)
            table.to_parquet(folder / "study" / f"{arm}-{seed}.parquet", index=False)
    return folder


def test_the_stage_writes_the_study_only_where_there_is_one(trained, tmp_path):
    without = stage(trained, tmp_path / "a")
    assert not list((without / "evaluate").glob("study*"))
    assert "study" not in json.loads((without / "metrics.json").read_text())
    out = stage(trained, tmp_path / "b", arms=["baseline", "gan"], seeds=[0, 1])
    table = pd.read_csv(out / "evaluate" / "study.csv")
    assert set(table["arm"]) == {"baseline", "gan"} and (table["seeds"] == 2).all()
    assert len(pd.read_csv(out / "evaluate" / "study_differences.csv")) == 2 * 4
    shown = json.loads((out / "metrics.json").read_text())["study"]
    rare = table.query("arm == 'gan' and finding == 'rare'")["auc"].item()
    assert shown["gan"]["rare_auc"]["auc"] == pytest.approx(rare, abs=6e-5) and "gan_against_best_control" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "gan-1.parquet: no such file; `dvc repro study@gan-1` makes it"),
        (
            lambda path: pd.read_parquet(path).assign(split_sha256="9f").to_parquet(path),
            "gan-1.parquet and .*u_zeroes.parquet were made under different splits",
        ),
        (lambda path: pd.read_parquet(path)[2:].to_parquet(path), "2 image.s. are in only one of them"),
    ],
)
def test_predictions_that_are_missing_or_of_other_images_are_one_line(trained, tmp_path, capsys, change, message):
    change(trained / "study" / "gan-1.parquet")
    given = ["--predictions", str(trained), "--metrics", str(tmp_path / "m.json"), "--out", str(tmp_path / "evaluate")]
    given += [*words(trained), "--labels", "20", "--arms", "baseline", "--arms", "gan", "--seeds", "0", "--seeds", "1"]
    with pytest.raises(SystemExit) as stop:
        main(evaluate.run, given)
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1 and not (tmp_path / "evaluate").exists()
    assert re.search(message, error), error
