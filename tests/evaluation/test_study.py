"""The study of control arms: its combination of trainings and patients, what it finds, and what it must not look at."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import SLUGS
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Settings
from cxr.evaluation.run import within
from cxr.evaluation.study import check, judge_study, summary
from cxr.synthesis.arms import ARMS, DOSES
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


def test_a_planted_gain_beats_every_control(made):
    claims = made[1]["study_claims"].set_index("finding")
    differences = made[1]["study_differences"].set_index(["arm", "control", "finding"])
    for name in ("Pneumonia", "Lung Lesion", "rare", "macro"):
        row, controls = claims.loc[name], ("baseline", "oversampling", "gan_untrained")
        single = {c: differences.loc[("gan", c, name), "p_greater"] for c in controls}
        assert row["p_every"] == max(single.values()) < 0.025 and row["controls"] == 3
        assert row["control"] == max(single, key=single.get) and row["total_low"] > 0
        assert differences.loc[("gan_untrained", "baseline", name), "p_holm"] > 0 and row["seeds"] == 3
    assert claims["primary"].to_dict() == {name: name == "rare" for name in claims.index}
    secondary = claims[~claims["primary"]]
    assert secondary["p_holm"].to_numpy() == pytest.approx(metrics.holm(secondary["p_every"].to_numpy()), nan_ok=True)
    assert np.isnan(claims.loc["rare", "p_holm"])


def test_a_gain_over_all_but_one_control_is_no_gain():
    trainings = study(baseline=0.6, oversampling=2.2, gan=2.2)
    row = judge_study(trainings, RARE, SETTINGS)["study_claims"].set_index("finding").loc["rare"]
    assert row["control"] == "oversampling" and row["p_every"] > 0.05
    single = judge_study(trainings, RARE, SETTINGS)["study_differences"].set_index(["arm", "control", "finding"])
    assert single.loc[("gan", "baseline", "rare"), "p_greater"] < 0.01


def test_another_use_of_the_generated_images_is_no_control():
    tables = judge_study(study(baseline=0.6, pretrained=2.2, gan=1.6), RARE, SETTINGS)
    assert set(tables["study_claims"]["control"]) == {"baseline"}
    assert {name for name, arm in ARMS.items() if not arm.control} == {
        "gan", "oracle", "pretrained", *(f"{kind}_dose_{n}" for kind in ("gan", "oracle") for n in DOSES),
    }  # fmt: skip


def test_differences_are_paired_by_seed_and_by_patient(made):
    trainings, tables = made
    row = tables["study_differences"].set_index(["arm", "control", "finding"]).loc["gan", "baseline", "Pneumonia"]
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


def test_holms_family_is_the_arms_and_rare_findings_less_the_baseline(made):
    table = made[1]["study_differences"]
    assert table.loc[table["control"] != "baseline", "p_holm"].isna().all()
    for group in (RARE, ["rare"], ["macro"]):
        family = table[(table["control"] == "baseline") & table["finding"].isin(group)]
        assert family["p_holm"].to_numpy() == pytest.approx(metrics.holm(family["p"].to_numpy()), nan_ok=True)


def test_a_finding_with_too_few_positives_stays_listed_without_a_number(made):
    row = made[1]["study"].set_index(["arm", "finding"]).loc["gan", "Consolidation"]
    assert row[["auc", "low", "sd"]].isna().all() and row["positives"] == 4
    rows = made[1]["study_differences"].query("finding == 'Consolidation'")
    assert len(rows) == 5 and rows[["difference", "p", "p_holm", "detectable"]].isna().all(axis=None)
    table = made[1]["study"].set_index(["arm", "finding"]).loc["gan"]
    assert table["auc"]["rare"] == pytest.approx(table["auc"][["Pneumonia", "Lung Lesion"]].mean())
    # 4 positive test images of it: 13 findings of 14 have enough, 2 rare ones.
    assert table.loc[["rare", "macro"], "findings"].tolist() == [2, 13] and table["findings"].isna().sum() == 3


def test_one_seed_has_no_p_and_no_combined_interval():
    tables = judge_study(study((4,), baseline=0.6, gan=2.0), RARE, SETTINGS)
    row = tables["study_claims"].set_index("finding").loc["rare"]
    assert row["low"] > 0
    assert row[["sd", "total_low", "total_high", "p", "p_every", "p_holm", "detectable"]].isna().all()
    shown = summary(tables)["study"]
    assert set(shown["gan"]["rare_auc"]) == {"auc", "low", "high"}
    assert set(shown["gan_against_hardest_control"]) == {"difference", "low", "high"}


def test_metrics_hold_each_arm_and_the_primary_claim(made):
    shown = summary(made[1])["study"]
    assert list(shown) == ["baseline", "oversampling", "gan", "gan_untrained", "gan_against_hardest_control"]
    assert list(shown["baseline"]["macro_auc"]) == ["auc", "low", "high", "sd"]
    assert shown["gan_against_hardest_control"]["p_every"] < 0.025 < shown["gan_against_hardest_control"]["difference"]


@pytest.mark.slow
def test_equal_arms_are_claimed_a_gain_no_more_often_than_the_level():
    """S4: where each seed has its own GAN, its spread is in the test. Null rejection at one-sided .025, 100 studies."""
    rng, wrong, small = np.random.default_rng(0), 0, SETTINGS._replace(replicates=40)
    for _ in range(100):
        trainings = {}
        for s in range(3):
            for arm in ("baseline", "gan"):
                signal = 1 + rng.normal() * 0.3  # what this GAN, or this draw of the training, is worth
                trainings[arm, s] = training(int(rng.integers(1 << 30)), signal, n=160)
        claims = judge_study(trainings, RARE[:2], small)["study_claims"].set_index("finding")
        wrong += claims.loc["rare", "p_every"] < 0.025
    assert wrong <= 7  # .025 and 2.9 standard errors


@pytest.mark.parametrize(
    ("arms", "seeds", "message"),
    [
        (["gam"], [0], "unknown arm 'gam' in study.arms: choose from baseline, baseline_steps"),
        (["gan"], [0], "study.arms has gan: every study has it"),
        (["blurred", "blurred"], [0], "study.arms names 'blurred' twice"),
        (["blurred"], [1, 2, 1], "repeats.seeds names 1 twice"),
        ([], [], "repeats.seeds is empty"),
    ],
)
def test_what_is_no_study_is_refused(arms, seeds, message):
    with pytest.raises(ValueError, match=message):
        check(arms, seeds, "rare", ["pneumonia"])


def test_the_primary_question_is_named_beforehand():
    check([], [0], "pneumonia", ["pneumonia"])
    with pytest.raises(ValueError, match="evaluate.endpoint = 'edema': choose rare, macro or one of rare.findings"):
        check([], [0], "edema", ["pneumonia"])


@pytest.fixture
def trained(folder):
    """Two trainings of every model and of one control arm."""
    for name in ("final/{}", "baseline/{}/u_zeroes", "baseline/{}/u_ones", "study/{}/oversampling"):
        for seed in (0, 1):
            table = pd.read_parquet(folder / "final" / "0.parquet")
            noise = np.random.default_rng([len(name), seed]).normal(size=len(table)) * 0.02
            table["score.pneumonia"] = (table["score.pneumonia"] + noise).clip(0, 1).astype(np.float32)
            path = folder / f"{name.format(seed)}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_parquet(path, index=False)
    return folder


def test_the_stage_writes_the_study(trained, tmp_path):
    out = stage(trained, tmp_path, arms=["oversampling"], seeds=[0, 1])
    table = pd.read_csv(out / "evaluate" / "study.csv")
    assert set(table["arm"]) == {"baseline", "oversampling", "gan"} and (table["seeds"] == 2).all()
    assert len(pd.read_csv(out / "evaluate" / "study_differences.csv")) == 3 * 4
    shown = json.loads((out / "metrics.json").read_text())
    rare = table.query("arm == 'gan' and finding == 'rare'")["auc"].item()
    assert shown["study"]["gan"]["rare_auc"]["auc"] == pytest.approx(rare, abs=6e-5)
    assert "p_every" in shown["study"]["gan_against_hardest_control"] and "p_holm" in shown["gain"]["pneumonia"]


def test_the_study_of_one_view_is_of_its_test_x_rays_alone(trained, tmp_path):
    records = pd.read_parquet(trained.parent / "learnt" / "records.parquet")
    predictions = pd.read_parquet(trained / "final" / "0.parquet")
    views = predictions[["image_id", "split"]].merge(records[["image_id", "view"]])
    of_pa = views.query("view == 'PA'")
    assert 0 < len(of_pa) < len(views)
    assert list(within(predictions, records, "PA")["image_id"]) == list(of_pa["image_id"])
    out = stage(trained, tmp_path, arms=["oversampling"], seeds=[0, 1], study_view="PA")
    table = pd.read_csv(out / "evaluate" / "study.csv")
    assert (table.query("finding == 'macro'")["n"] == (of_pa["split"] == "test").sum()).all()
    with pytest.raises(ValueError, match="evaluate.study_view = AP, but no test X-ray is of this view"):
        within(predictions, records.assign(view="PA"), "AP")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "oversampling.parquet: no such file; `dvc repro study@oversampling-1` makes it"),
        (
            lambda path: pd.read_parquet(path).assign(split_sha256="9f").to_parquet(path),
            "oversampling.parquet and .*u_zeroes.parquet were made under different splits",
        ),
        (lambda path: pd.read_parquet(path)[2:].to_parquet(path), "2 image.s. are in only one of them"),
    ],
)
def test_predictions_that_are_missing_or_of_other_images_are_one_line(trained, tmp_path, capsys, change, message):
    change(trained / "study" / "1" / "oversampling.parquet")
    given = ["--predictions", str(trained), "--metrics", str(tmp_path / "m.json"), "--out", str(tmp_path / "evaluate")]
    given += [*words(trained), "--labels", "20", "--arms", "oversampling", "--seeds", "0", "--seeds", "1"]
    with pytest.raises(SystemExit) as stop:
        main(evaluate.run, given)
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1 and not (tmp_path / "evaluate").exists()
    assert re.search(message, error), error
