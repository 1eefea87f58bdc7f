"""The stage evaluate: what it writes, and one line for whatever is wrong with what it reads."""

import json

import numpy as np
import pandas as pd
import pytest

from cxr.classifier.formats import Model
from cxr.core.files import sha256, write_json
from cxr.core.findings import SLUGS
from stages import evaluate
from stages.cli import main
from tests.evaluation.make import listed, one, predictions, stage, words
from tests.make import example


def test_stage_writes_tables_and_metrics_that_are_valid_json(folder, tmp_path, capsys):
    stage(folder, tmp_path)
    assert {p.name for p in (tmp_path / "evaluate").iterdir()} == {
        "auc.csv", "compare.csv", "ensemble.csv", "above_metadata.csv", "roc.csv", "adgm.csv", "confusion.csv",
        "floor.csv", "calibration.csv", "adgm_efficiency.csv",
        "operating.csv", "reliability.csv", "subgroups.csv", "adgm_floor.csv", "adgm_arms.csv", "adgm_compare.csv",
        "best_of.csv", "policies.csv", "worst_gaps.csv",
        "per_study.csv", "study_roc.csv", "uncertain.csv", "precision.csv",
        "benefit.csv", "external.csv", "external_calibration.csv", "external_labels.csv", "external_sets.csv",
        "external_boxes.csv",
    }  # fmt: skip
    shown = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    parts = "test baseline final gain adgm floor above_floor calibration operating per_study precision policies"
    assert " ".join(shown) == parts
    assert set(shown["policies"]) == {"u_ones", "best_of"}
    assert set(shown["baseline"]) == {"u_zeroes", "u_ones"} and list(shown["baseline"]["u_ones"]) == ["macro_auc"]
    assert list(shown["final"]) == ["macro_auc", "pneumonia"]  # too few fractures
    assert list(shown["gain"]["pneumonia"]) == ["difference", "low", "high"]
    assert set(shown["adgm"]) == {"2-20", "3-20"}
    auc = pd.read_csv(tmp_path / "evaluate" / "auc.csv")
    assert shown["final"]["pneumonia"]["auc"] == pytest.approx(
        one(auc, model="final", finding="Pneumonia", split="test")["auc"], abs=6e-5
    )
    assert "Fracture (3, 177)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_single_policy_asks_no_label_question(folder, tmp_path):
    out = stage(folder, tmp_path, policies=["u_zeroes"])
    assert not {"best_of.csv", "policies.csv"} & {p.name for p in (out / "evaluate").iterdir()}
    assert "policies" not in json.loads((out / "metrics.json").read_text())
    assert "best_of" not in set(pd.read_csv(out / "evaluate/auc.csv")["model"])


@pytest.mark.slow
def test_a_policy_trained_on_predictions_is_judged_beside_the_others(folder, tmp_path, models):
    models["u_ones"].to_parquet(folder / "baseline/0/u_ignore.parquet")
    models["final"].to_parquet(folder / "baseline/0/u_selftrained.parquet")
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
    (folder / "baseline/0/u_selftrained.parquet").unlink()
    with pytest.raises(ValueError, match="no such file; `dvc repro selftrain@u_selftrained-0` makes it"):
        stage(folder, tmp_path, **given)


@pytest.mark.slow
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
            "u_ignore.parquet: no such file; `dvc repro baseline@u_ignore-0`",
        ),
        (["--confidence", "1.5"], "confidence"),
        (["--classes", "4"], "classes"),
        (["--variants", "vae"], "unknown variant 'vae' in adgm_runs: choose from corrected, paper,"),
        (["--draws", "3"], "corrected-2-20-3.parquet: no such file; `dvc repro adgm@corrected-2-20-3` makes it"),
        (["--sensitivity", "0"], "sensitivity"),
        (["--scaling", "isotonic"], "scaling"),
        (["--study_scores", "median"], "study-scores"),
        (["--thresholds", "1"], "thresholds"),
        (["--records", "gone.parquet"], "gone.parquet: no such file; `dvc repro download@chexpert` makes it"),
        (["--balanced", "gone"], "table.parquet: no such file; `dvc repro balance@0` makes it"),
        (["--label_tables", "gone"], "u_zeroes.parquet: no such file; `dvc repro label@u_zeroes` makes it"),
        (["--rsna_split", "gone"], "split.parquet: no such file; `dvc repro split@rsna` makes it"),
    ],
)
def test_stage_tells_in_one_line_what_is_wrong_and_leaves_earlier_results(folder, tmp_path, capsys, arguments, message):
    kept = tmp_path / "evaluate" / "auc.csv"
    kept.parent.mkdir()
    kept.write_text("earlier")
    given = [f"--predictions={folder}", f"--metrics={tmp_path / 'metrics.json'}", f"--out={tmp_path / 'evaluate'}"]
    with pytest.raises(SystemExit) as stop:
        main(evaluate.run, [*given, *words(folder), *listed(*arguments)])
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


@pytest.mark.slow
def test_changed_test_labels_leave_thresholds_and_floors_as_they_were(folder, tmp_path):
    first = stage(folder, tmp_path / "a") / "evaluate"
    for path in (folder / "final/0.parquet", *(folder / "baseline/0").iterdir()):
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
    other.to_parquet(folder / "final/0.parquet", index=False)
    with pytest.raises(
        ValueError, match="final/0.parquet and .*u_zeroes.parquet: 2 .* such as 'i0000'; make both from"
    ):
        stage(folder, tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("final/0", lambda t: t.assign(split_sha256="9f"), "were made under different splits; make both from the same"),
        ("final/0", lambda t: t[t["patient_id"] != "p3"], "2 image(s) are in only one of them, such as 'i0006'"),
        ("final/0", lambda t: pd.concat([t, t[:1]]), "0.parquet: image_id 'i0000' occurs twice"),
        (
            "final/0",
            lambda t: t.assign(**{"score.edema": 1.01}),
            "score.edema is 1.01 for 'i0000', must be within 0 and 1",
        ),
        ("baseline/0/u_ones", lambda t: t.assign(**{"score.edema": np.nan}), "score.edema is nan for 'i0000'"),
        ("adgm/corrected-3-20-0", lambda t: t.assign(split_sha256="9f"), "were made under different splits"),
        ("adgm/corrected-3-20-0", lambda t: t[3:], "3 image(s) are in only one of them"),
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


def test_what_else_was_trained_on_counts_in_the_share_of_training_alone(folder, tmp_path):
    """200 images of CheXpert, a third of them with edema, and 200 of another hospital, all with it."""
    other, model = tmp_path / "extra/there", tmp_path / "model"
    table = pd.read_parquet(folder.parent / "learnt/u_zeroes.parquet")
    other.mkdir(parents=True)
    table.assign(**{"target.edema": 1.0, "image_id": "there/" + table["image_id"]}).to_parquet(other / "table.parquet")
    model.mkdir()
    write_json(model / "model.json", Model(**example(Model, extra=["there"])))
    with pytest.raises(ValueError, match="was trained on there as well, which needs --extra_data"):
        stage(folder, tmp_path / "none", model=model)
    plain, more = (
        pd.read_csv(stage(folder, tmp_path / name, **given) / "evaluate/calibration.csv").query("finding == 'Edema'")
        for name, given in (("a", {}), ("b", {"model": model, "extra_data": tmp_path / "extra"}))
    )
    share = plain["trained_share"].to_numpy()
    assert np.allclose(more["trained_share"], (share + 1) / 2, atol=1e-5)
    assert plain["true_share"].equals(more["true_share"])
