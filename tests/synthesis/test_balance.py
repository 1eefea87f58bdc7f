"""The balance equation and the labels that synthetic images carry."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr.classifier import net as classifier
from cxr.cohort import policies
from cxr.core import findings
from cxr.core.files import sha256, write_json, write_table
from cxr.core.store import open_store
from cxr.fidelity.formats import Fidelity
from cxr.gan import nets
from cxr.gan.formats import Generator
from cxr.synthesis import balance
from cxr.training import weights
from stages import balance as stage
from stages.cli import main
from tests.make import example

CHEXPERT = {"pneumonia": 6039, "lung_lesion": 9186, "consolidation": 14783}  # positives of 223,414


@pytest.mark.parametrize(("target", "total"), [(0.10, 52880), (0.15, 128233), (0.20, 260101), (0.25, 550210)])
def test_chexperts_own_numbers(target, total):
    """PAPERS E26: the totals that reach an equal prevalence of the three findings."""
    wanted = balance.solve(CHEXPERT, 223414, target)
    assert abs(sum(wanted.values()) - total) <= 2
    n = 223414 + sum(wanted.values())
    assert all((CHEXPERT[k] + wanted[k]) / n == pytest.approx(target, abs=1e-5) for k in wanted)


def test_the_papers_half_and_half_is_refused_with_the_arithmetic():
    with pytest.raises(
        ValueError, match=r"can't be reached for 3 findings.*S = -610,226 synthetic positives; choose less than 1/3"
    ):
        balance.solve(CHEXPERT, 223414, 0.5)


def test_one_finding_alone_can_reach_a_half():
    assert balance.solve({"pneumonia": 6039}, 223414, 0.5) == {"pneumonia": 211336}


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=5),
    st.integers(1, 5000).map(lambda x: x + 400),
    st.floats(0.01, 0.19),
)
def test_every_finding_reaches_the_target_or_was_there_already(positives, n, target):
    names = {f"f{i}": p for i, p in enumerate(positives)}
    wanted = balance.solve(names, n, target)
    total = n + sum(wanted.values())
    for name, p in names.items():
        assert wanted[name] >= 0
        assert (p + wanted[name]) / total >= target - 5 / total
        if wanted[name] > 3:  # not more than needed
            assert (p + wanted[name]) / total <= target + 5 / total


def test_nothing_to_add_adds_nothing():
    assert balance.solve({"a": 50, "b": 60}, 100, 0.4) == {"a": 0, "b": 0}


def real_table() -> pd.DataFrame:
    records = pd.DataFrame({"image_id": list("abcd"), "patient_id": list("abcd"), "path": "x", "projection": "frontal"})
    for name in findings.FINDINGS:
        records[name] = np.float32(0)
    records["Edema"] = np.array([1, 1, 0, -1], np.float32)
    records["Pneumonia"] = np.array([1, 0, 0, 0], np.float32)
    split = pd.DataFrame({"image_id": list("abcd"), "patient_id": list("abcd"), "split": "train"})
    return policies.table(records, split, "u_ignore")


@pytest.mark.parametrize("how", balance.LABELLINGS)
def test_synthetic_labels(how):
    drawn = balance.sources(["pneumonia"], 5, real_table(), np.random.default_rng(0))
    rows = balance.synthetic_rows("pneumonia", 5, how, drawn, "frontal", drawn)
    assert rows["synthetic"].all() and rows["image_id"].is_unique and (rows["split"] == "train").all()
    assert (rows["target.pneumonia"] == 1).all() and (rows["weight.pneumonia"] == 1).all()
    assert rows[[c for c in rows if c.startswith("truth.")]].isna().all(axis=None)  # never scored
    others = [s for s in findings.SLUGS if s != "pneumonia"]
    weight, target = rows[[f"weight.{s}" for s in others]], rows[[f"target.{s}" for s in others]]
    if how == "masked":
        assert (weight == 0).all(axis=None)
    elif how == "one_hot":
        assert (weight == 1).all(axis=None) and (target == 0).all(axis=None)
    else:
        assert (rows["target.edema"] == 1).all()  # the only real pneumonia has edema too


def test_labels_are_drawn_from_images_with_one_of_the_findings():
    table, rng = real_table(), np.random.default_rng(0)
    assert set(balance.sources(["pneumonia"], 50, table, rng)["image_id"]) == {"a"}
    drawn = balance.sources(["pneumonia", "edema"], 50, table, rng)
    assert set(drawn["image_id"]) == {"a", "b"}
    rows = balance.synthetic_rows("pneumonia", 50, "sampled", drawn, "frontal", drawn, made_for_finding=False)
    assert (rows["target.pneumonia"].to_numpy() == drawn["target.pneumonia"].to_numpy()).all()
    with pytest.raises(ValueError, match="fracture: no real training image of the classifier's view"):
        balance.sources(["fracture"], 5, table, rng)


def test_columns_are_those_of_the_label_table():
    rows = balance.synthetic_rows("pneumonia", 2, "masked", real_table(), "lateral")
    assert list(rows.columns) == [*real_table().columns, "synthetic"]


@pytest.fixture
def gans(tmp_path):
    """What the balance stage reads: a label table, its split, and the generator of one finding. Its command line."""
    n = 40
    table = pd.DataFrame({"image_id": [f"i{k:02}" for k in range(n)], "patient_id": [f"p{k}" for k in range(n)]})
    split = table.assign(split="train")
    table = split.assign(projection="frontal", **dict.fromkeys(findings.COLUMNS[4:], 0.0))
    table.loc[:3, "target.pneumonia"] = 1.0
    write_table(tmp_path / "table.parquet", table)
    write_table(tmp_path / "split.parquet", split)
    about = {"by": "patient", "sha256": sha256(tmp_path / "split.parquet")}
    write_json(tmp_path / "split.json", about)
    made = {"size": 16, "z_dim": 4, "width": 4, "channels": 1, "gain": 1.0}
    meta = made | {"images": 4, "epochs": 1, "seed": 0, "split_sha256": about["sha256"]}
    meta = example(Generator, **meta, mode="per_finding", view="frontal", holdout=0.0, stopped_at=1)
    generator, _ = nets.build(**made, seed=0)
    (tmp_path / "gan" / "pneumonia").mkdir(parents=True)
    weights.save(tmp_path / "gan" / "pneumonia" / "generator.safetensors", generator.state_dict(), meta)
    judged = {"generator_sha256": sha256(tmp_path / "gan/pneumonia/generator.safetensors"), "generated": 4}
    write_json(tmp_path / "fidelity/gan/pneumonia/fidelity.json", example(Fidelity, **judged))
    options = {"findings": "pneumonia", "table": "table.parquet", "gans": "gan", "split": "."}
    options |= {"fidelity": "fidelity", "samplers": "pneumonia", "records": "none.parquet"}
    words = [word for key, name in options.items() for word in (f"--{key}", name)]
    return [*words, "--out", "out", "--size", "32", "--target_prevalence", "0.3"]


def meta(**changes):
    def change(folder):
        file = folder / "gan/pneumonia/generator.json"
        file.write_text(
            json.dumps({k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not None})
        )

    return change


def another_net(folder):
    net, _ = nets.build(32, 4, 4, 1, seed=0)
    file = folder / "gan/pneumonia/generator.safetensors"
    weights.write(file, net.state_dict())
    judged = example(Fidelity, generator_sha256=sha256(file))
    write_json(folder / "fidelity/gan/pneumonia/fidelity.json", judged)


def another_split(folder):
    table = pd.read_parquet(folder / "split.parquet")
    table.iloc[::-1].to_parquet(folder / "split.parquet", index=False)


def another_table(folder):
    pd.read_parquet(folder / "table.parquet").drop(columns="weight.edema").to_parquet(folder / "table.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_net, "generator.safetensors: weights of another architecture; "),
        (meta(width=8), "generator.safetensors: weights of another architecture; "),
        (
            meta(width=0),
            "generator.json: width is 0; it should be greater than or equal to 1; `dvc repro -f gan@pneu",
        ),
        (meta(width=None), "generator.json: 'width' is missing; `dvc repro -f gan@pneumonia-"),
        (meta(z_dim=None), "generator.json: 'z_dim' is missing; `dvc repro -f gan@pneumonia-"),
        (meta(width="wide"), "generator.json: width is 'wide'; it should be a valid integer"),
        (meta(split_sha256="0"), "was trained on another split"),
        (another_split, "split.parquet is not the split that split.json describes; `dvc repro -f split@chexpert`"),
        (another_table, "table.parquet: column 'weight.edema' is missing; run the stage that makes it again"),
    ],
)
def test_what_balance_reads_may_be_wrong(gans, tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    change(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(stage.run, gans)
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert stop.value.code == 1 and len(errors) == 1 and message in errors[0], errors
    assert not (tmp_path / "out").exists()


def test_a_classifier_that_would_see_no_generated_image_is_refused(gans, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = pd.read_parquet(tmp_path / "table.parquet")
    table.assign(projection="lateral").to_parquet(tmp_path / "table.parquet")
    with pytest.raises(SystemExit) as stop:
        main(stage.run, [*gans, "--view", "lateral"])
    message = "classifier.view = lateral, but the generator pneumonia was trained on frontal X-rays"
    assert stop.value.code == 1 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_finding_may_have_its_official_name(gans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(stage.run, ["Pneumonia" if word == "pneumonia" and k < 2 else word for k, word in enumerate(gans)])
    assert stop.value.code == 0
    assert list(json.loads((tmp_path / "out" / "plan.json").read_text())["findings"]) == ["pneumonia"]


@pytest.mark.parametrize("view", ["lateral", "all"])
def test_generated_rows_are_of_the_projection_that_the_gan_learnt_from(gans, tmp_path, monkeypatch, view):
    monkeypatch.chdir(tmp_path)
    meta(view=view)(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(stage.run, [*gans, "--view", "all"])
    rows = pd.read_parquet(tmp_path / "out" / "table.parquet").query("synthetic")
    assert stop.value.code == 0 and len(rows) and (rows["projection"] == view).all()


def test_balance_writes_a_store_that_the_final_training_can_open(gans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(stage.run, gans)
    assert stop.value.code == 0
    made = pd.read_parquet(tmp_path / "out" / "table.parquet").query("synthetic")
    store = open_store(tmp_path / "out" / "images")
    assert list(store.index["image_id"]) == list(made["image_id"]) and store.size == 32
    assert (4 + len(made)) / (40 + len(made)) == pytest.approx(0.3, abs=0.01)


def test_a_generator_is_no_classifier(gans, tmp_path):
    with pytest.raises(ValueError, match=r"generator\.safetensors: weights of another architecture; .*give the file"):
        classifier.build(str(tmp_path / "gan/pneumonia/generator.safetensors"), 0)


def test_negatives_are_as_many_as_asked_and_the_target_is_met_with_them():
    positives, n, r = {"pneumonia": 60, "edema": 90}, 1000, 0.15
    added = balance.solve(positives, n, r, negatives=1.0)
    total = n + 2 * sum(added.values())
    assert [(positives[name] + added[name]) / total for name in positives] == pytest.approx([r, r], abs=0.002)
    counts = balance.wanted(real_table(), ["pneumonia"], 0.5, dose=2.0, negatives=0.5)
    had, with_it, without = counts["pneumonia"]
    assert had > 0 and with_it == 2 * had and without == round(0.5 * with_it)


def test_a_negative_carries_its_own_labels_and_none_of_the_finding():
    table, rng = real_table(), np.random.default_rng(0)
    drawn = balance.negatives("pneumonia", 9, table, rng)
    assert (drawn["truth.pneumonia"] == 0).all()
    rows = balance.synthetic_rows("pneumonia", 9, "sampled", table, "frontal", drawn, present=False, first=4)
    assert (rows["target.pneumonia"] == 0).all() and (rows["weight.pneumonia"] == 1).all()
    assert rows["target.edema"].tolist() == drawn["target.edema"].tolist()
    assert rows["image_id"].iloc[0] == "synthetic/pneumonia/000004" and rows["image_id"].is_unique
    masked = balance.synthetic_rows("pneumonia", 2, "masked", table, "frontal", present=False)
    assert (masked["target.pneumonia"] == 0).all() and (masked["weight.edema"] == 0).all()


def test_a_dcgan_draws_no_negatives(gans, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(stage.run, [*gans, "--negatives", "1"])
    message = "balance.negatives = 1, but dcgan pneumonia draws positives alone"
    assert stop.value.code == 1 and message in capsys.readouterr().err
