"""The tables and the metrics made from small predictions whose numbers can be worked out another way."""

import json

import numpy as np
import pandas as pd
import pytest

from cxr.adgm.variants import Run
from cxr.core.files import sha256
from cxr.core.findings import CLASSES, FINDINGS, SLUGS
from cxr.evaluation import adgm, metrics
from cxr.evaluation.classifiers import Settings, judge, summary
from stages import evaluate
from stages.cli import main
from tests.make import write_split

SETTINGS = Settings(replicates=60, confidence=0.95, min_positives=10, seed=0)
RARE = ["Pneumonia", "Lung Lesion"]


def predictions(seed, signal, n=240):
    """Patients of two images, three in four of them test; Pneumonia is masked in part; Fracture has three positives."""
    rng, common = np.random.default_rng(seed), np.random.default_rng(99)
    table = pd.DataFrame({"image_id": [f"i{k:04d}" for k in range(n)], "patient_id": [f"p{k // 2}" for k in range(n)]})
    table["split"] = np.where(np.arange(n) // 2 % 4 == 0, "valid", "test")
    table["split_sha256"] = "0a"
    for name in SLUGS:
        truth = (common.random(n) < 0.3).astype(np.float32)
        if name == "pneumonia":
            truth[common.random(n) < 0.25] = np.nan
        if name == "fracture":
            truth = (np.arange(n) >= n - 3).astype(np.float32)
        noise = rng.normal(size=n) + signal * np.nan_to_num(truth)
        table[f"score.{name}"] = (1 / (1 + np.exp(-noise))).astype(np.float32)
        table[f"truth.{name}"] = truth
    return table


def adgm_predictions(classes, n=60):
    rng = np.random.default_rng(classes)
    table = pd.DataFrame({"image_id": [f"r{k}" for k in range(n)], "patient_id": [f"r{k}" for k in range(n)]})
    table = table.assign(split="valid", split_sha256="0b", label=rng.integers(classes, size=n))
    for which in ("last", "best"):
        probability = rng.dirichlet(np.ones(classes), size=n).astype(np.float32)
        table = table.assign(**{f"prob_{which}.{i}": probability[:, i] for i in range(classes)})
    return table


@pytest.fixture
def models():
    return {"u_zeroes": predictions(0, 0.5), "u_ones": predictions(1, 0.5), "final": predictions(2, 1.5)}


@pytest.fixture
def folder(tmp_path, models):
    root = tmp_path / "predictions"
    for name, table in models.items():
        path = root / ("final.parquet" if name == "final" else f"baseline/{name}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
    (root / "adgm").mkdir()
    for classes in (2, 3):
        adgm_predictions(classes).to_parquet(root / "adgm" / f"corrected-{classes}-20-0.parquet", index=False)
    write_learnt(tmp_path / "learnt", models["final"])
    return root


def write_learnt(root, predicted):
    """What the models learnt from, and who everybody is: label tables, records, RSNA's split."""
    rng = np.random.default_rng(5)
    root.mkdir()
    train = pd.DataFrame({"image_id": [f"t{k:04d}" for k in range(200)]}).assign(split="train", projection="frontal")
    train["patient_id"] = train["image_id"]
    for name in SLUGS:
        target = (rng.random(len(train)) < 0.3).astype(np.float32)
        train = train.assign(**{f"target.{name}": target, f"weight.{name}": np.float32(1), f"truth.{name}": target})
    for name in ("u_zeroes", "u_ones", "balanced"):
        train.to_parquet(root / f"{name}.parquet", index=False)

    def people(ids, patients):
        n = len(ids)
        rows = pd.DataFrame({"image_id": ids, "patient_id": patients, "study_id": ids, "path": ids})
        rows = rows.assign(sex=rng.choice(["F", "M", None], n), age=rng.choice([30.0, 50, 70, 90, 155, np.nan], n))
        rows = rows.assign(projection="frontal", view=rng.choice(["AP", "PA", None], n), official_split="train")
        return rows.assign(class_name=rng.choice(CLASSES, n), boxes=[[]] * n, **dict.fromkeys(FINDINGS, 0.0))

    everybody = pd.concat([train, predicted])
    people(everybody["image_id"], everybody["patient_id"]).to_parquet(root / "records.parquet")
    ids = [*(f"r{k}" for k in range(60)), *(f"s{k}" for k in range(90))]
    people(ids, ids).to_parquet(root / "rsna.parquet")
    split = pd.DataFrame({"image_id": ids, "patient_id": ids, "split": ["valid"] * 60 + ["train"] * 90})
    write_split(root / "split", split)


def learnt(folder):
    """The stage's options for them."""
    root = folder.parent / "learnt"
    return {
        "records": root / "records.parquet", "label_tables": root, "balanced": root / "balanced.parquet",
        "rsna_records": root / "rsna.parquet", "rsna_split": root / "split",
    }  # fmt: skip


RUNS = {"variants": "corrected", "classes": 2, "labels": 20, "draws": 0}


def words(folder):
    return [word for key, value in learnt(folder).items() for word in (f"--{key}", str(value))]


def listed(*given):
    """The words, and the lists of the ADGM's runs that are not among them."""
    lists = [(f"--{key}", str(value)) for key, value in RUNS.items() if f"--{key}" not in given]
    return [*given, *(word for pair in lists for word in pair)]


def stage(folder, out, **options):
    evaluate.run(
        predictions=folder, final_policy="u_zeroes", findings=["pneumonia", "fracture"],
        variants=["corrected"], classes=[2, 3], labels=[20], draws=[0], replicates=60,
        metrics=out / "metrics.json", out=out / "evaluate",
        **learnt(folder) | {"policies": ["u_zeroes", "u_ones"]} | options,
    )  # fmt: skip
    return out


def one(table, **where):
    for key, value in where.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


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


def test_stage_writes_tables_and_metrics_that_are_valid_json(folder, tmp_path, capsys):
    stage(folder, tmp_path)
    assert {p.name for p in (tmp_path / "evaluate").iterdir()} == {
        "auc.csv", "compare.csv", "roc.csv", "adgm.csv", "confusion.csv", "floor.csv", "calibration.csv",
        "operating.csv", "reliability.csv", "subgroups.csv", "adgm_floor.csv", "adgm_arms.csv", "adgm_compare.csv",
        "best_of.csv", "policies.csv",
    }  # fmt: skip
    shown = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert list(shown) == [
        "test",
        "baseline",
        "final",
        "gain",
        "adgm",
        "floor",
        "above_floor",
        "calibration",
        "operating",
        "policies",
    ]
    assert set(shown["policies"]) == {"u_ones", "best_of"}
    assert set(shown["baseline"]) == {"u_zeroes", "u_ones"} and list(shown["baseline"]["u_ones"]) == ["macro_auc"]
    assert list(shown["final"]) == ["macro_auc", "pneumonia"]  # too few fractures
    assert list(shown["gain"]["pneumonia"]) == ["difference", "low", "high", "detectable", "p_holm"]
    assert set(shown["adgm"]) == {"2-20", "3-20"}
    auc = pd.read_csv(tmp_path / "evaluate" / "auc.csv")
    assert shown["final"]["pneumonia"]["auc"] == pytest.approx(
        one(auc, model="final", finding="Pneumonia", split="test")["auc"], abs=6e-5
    )
    assert "Fracture (3, 177)" in capsys.readouterr().out


def test_a_single_policy_asks_no_label_question(folder, tmp_path):
    out = stage(folder, tmp_path, policies=["u_zeroes"])
    assert not {"best_of.csv", "policies.csv"} & {p.name for p in (out / "evaluate").iterdir()}
    assert "policies" not in json.loads((out / "metrics.json").read_text())
    assert "best_of" not in set(pd.read_csv(out / "evaluate/auc.csv")["model"])


def test_a_policy_trained_on_predictions_is_judged_beside_the_others(folder, tmp_path, models):
    models["u_ones"].to_parquet(folder / "baseline/u_ignore.parquet")
    models["final"].to_parquet(folder / "baseline/u_selftrained.parquet")
    learnt_from = pd.read_parquet(folder.parent / "learnt/u_zeroes.parquet")
    learnt_from.to_parquet(folder.parent / "learnt/u_ignore.parquet")
    given = {"policies": ["u_zeroes", "u_ignore"], "selftrained": ["u_selftrained"]}
    with pytest.raises(ValueError, match="u_selftrained.parquet: no such file; `dvc repro relabel@u_selftrained`"):
        stage(folder, tmp_path, **given)
    learnt_from.to_parquet(folder.parent / "learnt/u_selftrained.parquet")
    table = pd.read_csv(stage(folder, tmp_path, **given) / "evaluate/policies.csv")
    assert list(table.query("finding == 'macro'")["policy"]) == ["u_ignore", "u_selftrained", "best_of"]
    auc = pd.read_csv(tmp_path / "evaluate/auc.csv").query("split == 'test' and finding == 'macro'").set_index("model")
    assert auc.loc["u_selftrained", "auc"] == auc.loc["final", "auc"] > auc.loc["u_zeroes", "auc"]
    (folder / "baseline/u_selftrained.parquet").unlink()
    with pytest.raises(ValueError, match="no such file; `dvc repro selftrain@u_selftrained` makes it"):
        stage(folder, tmp_path, **given)


def test_stage_gives_the_same_bytes_again_and_for_rows_in_another_order(folder, tmp_path):
    first = stage(folder, tmp_path / "a")
    for path in folder.rglob("*.parquet"):
        pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path, index=False)
    assert sha256(first) == sha256(stage(folder, tmp_path / "b"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "u_twos"], "unknown policy 'u_twos': choose from u_zeroes"),
        (
            ["--final_policy", "u_ignore"],
            "no baseline under final_policy 'u_ignore' to compare with: add it to policies",
        ),
        (["--selftrained", "u_selftrained"], "needs its teacher, but arms.policies = [u_zeroes, u_ones]: add u_ignore"),
        (["--findings", "gout"], "unknown finding 'gout'"),
        (["--labels", "500"], "corrected-2-500-0.parquet: no such file; `dvc repro adgm@corrected-2-500-0` makes it"),
        (
            ["--policies", "u_ignore", "--policies", "u_zeroes"],
            "u_ignore.parquet: no such file; `dvc repro baseline@u_ignore`",
        ),
        (["--confidence", "1.5"], "confidence"),
        (["--classes", "4"], "classes"),
        (["--variants", "vae"], "unknown variant 'vae' in adgm_runs.variants: choose from corrected, paper,"),
        (["--draws", "3"], "corrected-2-20-3.parquet: no such file; `dvc repro adgm@corrected-2-20-3` makes it"),
        (["--sensitivity", "0"], "sensitivity"),
        (["--scaling", "isotonic"], "scaling"),
        (["--records", "gone.parquet"], "gone.parquet: no such file; `dvc repro download@chexpert` makes it"),
        (["--balanced", "gone.parquet"], "gone.parquet: no such file; `dvc repro balance` makes it"),
        (["--label_tables", "gone"], "u_zeroes.parquet: no such file; `dvc repro label@u_zeroes` makes it"),
        (["--rsna_split", "gone"], "split.parquet: no such file; `dvc repro split@rsna` makes it"),
    ],
)
def test_stage_tells_in_one_line_what_is_wrong_and_leaves_earlier_results(folder, tmp_path, capsys, arguments, message):
    kept = tmp_path / "evaluate" / "auc.csv"
    kept.parent.mkdir()
    kept.write_text("earlier")
    given = [
        "--predictions",
        str(folder),
        "--metrics",
        str(tmp_path / "metrics.json"),
        "--out",
        str(tmp_path / "evaluate"),
    ]
    given += words(folder)
    given += listed(*arguments)
    with pytest.raises(SystemExit) as stop:
        main(evaluate.run, given)
    error = capsys.readouterr().err
    assert stop.value.code == 1 and message in error and error.count("\n") == 1
    assert kept.read_text() == "earlier" and not (tmp_path / "metrics.json").exists()


def test_without_adgm_runs_the_classifiers_are_judged_alone(folder, tmp_path):
    given = ["--predictions", str(folder), "--metrics", str(tmp_path / "m.json"), "--out", str(tmp_path / "evaluate")]
    with pytest.raises(SystemExit) as stop:
        main(evaluate.run, [*given, *words(folder), "--replicates", "20"])
    shown = json.loads((tmp_path / "m.json").read_text())
    assert stop.value.code == 0 and "adgm" not in shown and shown
    assert not (tmp_path / "evaluate" / "adgm.csv").exists() and (tmp_path / "evaluate" / "auc.csv").exists()


def test_changed_test_labels_leave_thresholds_and_floors_as_they_were(folder, tmp_path):
    first = stage(folder, tmp_path / "a") / "evaluate"
    for path in (folder / "final.parquet", *(folder / "baseline").iterdir()):
        table = pd.read_parquet(path)
        test = table["split"] == "test"
        for name in SLUGS:
            table.loc[test, f"truth.{name}"] = 1 - table.loc[test, f"truth.{name}"]
        table.to_parquet(path, index=False)
    second = stage(folder, tmp_path / "b") / "evaluate"
    one, two = (pd.read_csv(out / "operating.csv") for out in (first, second))
    assert one["threshold"].equals(two["threshold"]) and one["threshold"].notna().any()
    assert not one["sensitivity"].equals(two["sensitivity"])
    assert sha256(first / "best_of.csv") == sha256(second / "best_of.csv")
    one, two = (pd.read_csv(out / "auc.csv").query("model == 'floor_u_zeroes'") for out in (first, second))
    assert one.query("split == 'valid'").equals(two.query("split == 'valid'"))
    one, two = (t.query("split == 'test' and finding == 'Edema'")["auc"].item() for t in (one, two))
    assert one == pytest.approx(1 - two)  # the same scores against the opposite truth


def test_stage_refuses_a_final_made_from_another_split(folder, tmp_path):
    other = predictions(2, 1.5).assign(image_id=lambda t: t["image_id"].str.replace("i0000", "x"))
    other.to_parquet(folder / "final.parquet", index=False)
    with pytest.raises(ValueError, match="final.parquet and .*u_zeroes.parquet: 2 .* such as 'i0000'; make both from"):
        stage(folder, tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("final", lambda t: t.assign(split_sha256="9f"), "were made under different splits; make both from the same"),
        ("final", lambda t: t[t["patient_id"] != "p3"], "2 image(s) stand in only one of them, such as 'i0006'"),
        ("final", lambda t: pd.concat([t, t[:1]]), "final.parquet: image_id 'i0000' stands twice"),
        (
            "final",
            lambda t: t.assign(**{"score.edema": 1.01}),
            "score.edema is 1.01 for 'i0000', must be within 0 and 1",
        ),
        ("baseline/u_ones", lambda t: t.assign(**{"score.edema": np.nan}), "score.edema is nan for 'i0000'"),
        ("adgm/corrected-3-20-0", lambda t: t.assign(split_sha256="9f"), "were made under different splits"),
        ("adgm/corrected-3-20-0", lambda t: t[3:], "3 image(s) stand in only one of them"),
        ("adgm/corrected-2-20-0", lambda t: t.assign(**{"prob_last.0": np.nan}), "prob_last.0 is nan for 'r0'"),
    ],
)
def test_what_was_edited_by_hand_is_one_line(folder, tmp_path, capsys, file, change, message):
    path = folder / f"{file}.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    given = ["--predictions", str(folder), "--metrics", str(tmp_path / "m.json"), "--out", str(tmp_path / "evaluate")]
    with pytest.raises(SystemExit) as stop:
        main(evaluate.run, [*given, *words(folder), *listed("--classes", "2", "--classes", "3")])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and message in error and error.count("\n") == 1
    assert not (tmp_path / "m.json").exists() and not (tmp_path / "evaluate").exists()
