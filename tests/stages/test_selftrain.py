"""The label policies through their stages, on a few images: label, baseline, relabel, selftrain, and in DVC's graph."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.repo import Repo

from cxr.classifier import net as classifier
from cxr.cohort import policies
from cxr.core.files import sha256, write_table
from cxr.core.findings import SLUGS, UNCERTAIN
from cxr.core.store import open_store, write_store
from cxr.synthesis import balance
from cxr.training import weights
from cxr.training.batches import Images
from cxr.training.machine import fabric
from stages import classifier as classifier_stage
from stages import label, relabel
from stages.cli import main
from tests.cohort.test_policies import records, split_of
from tests.make import write_split

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Forty images of 32 px, a few of them lateral, and the u_ignore and u_multiclass models of their frontal ones."""
    at = tmp_path_factory.mktemp("selftrain")
    whole = records(40)
    whole["projection"] = np.where(np.arange(40) % 7 == 6, "lateral", "frontal")
    split = split_of(whole)
    write_split(at, split, select_on=["edema"])
    rng = np.random.default_rng(0)
    write_store(at / "stores/32", rng.integers(0, 255, (40, 32, 32), np.uint8), whole[["image_id"]])
    for policy in ("u_ignore", "u_multiclass"):
        write_table(at / f"labels/{policy}.parquet", policies.table(whole, split, policy))
        train(at, policy)
    return at


def train(at, policy, **options):
    paths = {name: at / name / "0" / policy for name in ("baseline", "predictions", "history")}
    classifier_stage.run(
        table=at / f"labels/{policy}.parquet", stores=at / "stores", split=at,
        model=paths["baseline"], predictions=paths["predictions"].with_suffix(".parquet"),
        history=paths["history"].with_suffix(".csv"), size=32, epochs=1, batch=8, weights="none", view="frontal",
        precision="32-true", state=at / "state", **options,
    )  # fmt: skip
    return json.loads((paths["baseline"] / "model.json").read_text())


def words(at, **changes):
    given = {
        "policy": "u_selftrained", "table": at / "labels/u_ignore.parquet", "teacher": at / "baseline/0/u_ignore",
        "stores": at / "stores", "split": at, "out": at / "labels/u_selftrained.parquet",
    }  # fmt: skip
    return given | changes


def test_the_teachers_probabilities_replace_the_uncertain_training_labels_and_nothing_else(made):
    relabel.run(**words(made))
    table = pd.read_parquet(made / "labels/u_ignore.parquet")
    found = pd.read_parquet(made / "labels/u_selftrained.parquet")
    net = classifier.build("none", 1)
    weights.load_into(net, made / "baseline/0/u_ignore/model.safetensors")
    machine = fabric("32-true")
    images = Images([open_store(made / "stores/32")], table["image_id"], machine.device)
    scores = classifier.predict(machine, net, images)
    taught = ((table["split"] == "train") & (table["projection"] == "frontal")).to_numpy()
    changed = 0
    for k, slug in enumerate(SLUGS):
        uncertain = taught & table[f"truth.{slug}"].isna().to_numpy()
        assert np.allclose(found.loc[uncertain, f"target.{slug}"], scores[uncertain, k], atol=1e-5)
        assert (found.loc[uncertain, f"weight.{slug}"] == 1).all()
        changed += uncertain.sum()
        for column in (f"target.{slug}", f"weight.{slug}"):
            assert found.loc[~uncertain, column].equals(table.loc[~uncertain, column])
    assert changed > 10
    first = sha256(made / "labels/u_selftrained.parquet")
    relabel.run(**words(made))
    assert sha256(made / "labels/u_selftrained.parquet") == first
    meta = train(made, "u_selftrained")
    assert meta["classes"] == 2
    predicted = pd.read_parquet(made / "predictions/0/u_selftrained.parquet")
    assert set(predicted["split"]) == {"valid", "test"}


def test_labels_of_held_out_images_do_not_change_what_the_teacher_says(made, tmp_path):
    relabel.run(**words(made, out=tmp_path / "a.parquet"))
    table = pd.read_parquet(made / "labels/u_ignore.parquet")
    held_out = table["split"] != "train"
    for slug in SLUGS:
        table.loc[held_out, f"truth.{slug}"] = 1 - table.loc[held_out, f"truth.{slug}"]
    table.to_parquet(tmp_path / "flipped.parquet")
    relabel.run(**words(made, table=tmp_path / "flipped.parquet", out=tmp_path / "b.parquet"))
    one, two = (pd.read_parquet(tmp_path / name) for name in ("a.parquet", "b.parquet"))
    taught = [c for c in one if c.startswith(("target.", "weight."))]
    assert one[taught].equals(two[taught])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "u_zeroes"}, "unknown policy 'u_zeroes' in arms.selftrained: it is [] or [u_selftrained]"),
        (
            {"teacher": "baseline/0/u_multiclass"},
            "its model.json is not u_ignore's; `dvc repro -f baseline@u_ignore-0`",
        ),
        ({"teacher": "baseline/0/gone"}, "model.json: no such file; `dvc repro baseline@u_ignore-0` makes it"),
        ({"table": "labels/gone.parquet"}, "gone.parquet: no such file; `dvc repro label@u_ignore` makes it"),
        ({"split": "other"}, "was trained on another split; `dvc repro -f baseline@u_ignore-0` makes it again"),
    ],
)
def test_what_is_wrong_is_one_line(made, capsys, change, message):
    other = pd.read_parquet(made / "split.parquet")[::-1]
    write_split(made / "other", other)
    change = {key: value if key == "policy" else made / value for key, value in change.items()}
    with pytest.raises(SystemExit) as end:
        main(relabel.run, [w for k, v in words(made, **change).items() for w in (f"--{k}", str(v))])
    said = capsys.readouterr().err
    assert end.value.code == 1 and message in said and said.count("\n") == 1


def test_a_model_of_three_classes_says_so_and_predicts_probabilities(made, tmp_path):
    meta = json.loads((made / "baseline/0/u_multiclass/model.json").read_text())
    assert meta["classes"] == 3
    tensors, _ = weights.read(made / "baseline/0/u_multiclass/model.safetensors")
    assert tensors["net.classifier.weight"].shape[0] == 3 * len(SLUGS)
    scores = pd.read_parquet(made / "predictions/0/u_multiclass.parquet")[[f"score.{s}" for s in SLUGS]].to_numpy()
    assert scores.shape[1] == len(SLUGS) and (scores > 0).all() and (scores < 1).all()
    table = pd.read_parquet(made / "labels/u_multiclass.parquet").drop(columns="uncertain.edema")
    (tmp_path / "labels").mkdir()
    table.to_parquet(tmp_path / "labels/u_multiclass.parquet")
    for name in ("split.parquet", "split.json", "stores"):
        (tmp_path / name).symlink_to(made / name)
    with pytest.raises(ValueError, match="but not uncertain.edema; `dvc repro -f label@u_multiclass` makes it again"):
        train(tmp_path, "u_multiclass")


def test_features_of_a_model_of_three_classes(made):
    from cxr.fidelity.features import penultimate

    net = classifier.build("none", 0, classes=3)
    weights.load_into(net, made / "baseline/0/u_multiclass/model.safetensors")
    images = np.random.default_rng(0).integers(0, 255, (3, 16, 16), np.uint8)
    assert penultimate(net, images, 32, 2).shape == (3, 1024)


@pytest.mark.parametrize("how", balance.LABELLINGS)
def test_generated_images_are_certain_beside_a_third_class(made, how):
    real = pd.read_parquet(made / "labels/u_multiclass.parquet").query("split == 'train'").assign(synthetic=False)
    drawn = balance.sources(["edema"], 5, real, np.random.default_rng(0))
    rows = balance.synthetic_rows("edema", 5, how, real, "frontal", drawn)
    whole = pd.concat([real, rows], ignore_index=True)
    assert set(rows) == set(real)
    assert classifier.classes_of(whole) == 3 and whole[list(UNCERTAIN)].notna().all(axis=None)
    target, weight = classifier.targets_and_weights(rows)
    edema = SLUGS.index("edema")
    assert (target[:, edema] == 1).all() and (weight[:, edema] == 1).all()
    if how != "sampled":
        assert not (target == 2).any()


def test_a_soft_target_counts_as_its_part_in_the_balance():
    table = pd.DataFrame({"split": ["train"] * 4 + ["test"], "target.edema": [1.0, 0.5, 0.25, 0.0, 1.0]})
    assert balance.prevalence(table, "edema") == 1.75 / 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"selftrained": "u_selftrained"},
            "arms.selftrained = [u_selftrained] needs its teacher, but arms.policies = [u_zeroes]: add u_ignore to "
            "them",
        ),
        ({"final_policy": "u_ones"}, "final.policy = u_ones has no baseline to compare with: add it to arms.policies"),
        (
            {"findings": "fracture"},
            "rare.findings has fracture, of which balanced_by.samplers has no generator: it needs one",
        ),
        (
            {"samplers": "pneumonia+edema", "findings": "gout"},
            "unknown finding 'gout': choose from no_finding, enlarged_cardiomediastinum,",
        ),
    ],
)
def test_what_would_fail_hours_later_stops_at_the_first_stage(capsys, changed, message):
    given = {"policy": "u_zeroes", "records": "r", "split": "s", "out": "o", "policies": "u_zeroes"} | changed
    with pytest.raises(SystemExit):
        main(label.run, [w for k, v in given.items() for w in (f"--{k}", str(v))])
    said = capsys.readouterr().err
    assert said.startswith(f"label: error: {message}") and said.count("\n") == 1


def test_only_the_self_trained_stages_depend_on_the_teacher(tmp_path):
    """In the pipeline as DVC resolves it."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["arms"] = {"policies": list(policies.POLICIES), "selftrained": ["u_selftrained"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with Repo.init(str(tmp_path)):
        (tmp_path / ".dvc/config").write_bytes((ROOT / ".dvc/config").read_bytes())
    with Repo(str(tmp_path)) as repo:
        graph = {s.name: s for s in repo.index.stages if getattr(s, "name", None)}
        before = {name: {str(d) for d in stage.deps} for name, stage in graph.items()}
    teacher = {
        name for name, deps in before.items() if deps & {"models/baseline/0/u_ignore", "data/labels/u_ignore.parquet"}
    }
    assert teacher == {"relabel@u_selftrained", *(f"baseline@u_ignore-{s}" for s in params["repeats"]["seeds"])}
    assert {name for name, deps in before.items() if "data/labels/u_selftrained.parquet" in deps} == {
        f"selftrain@u_selftrained-{s}" for s in params["repeats"]["seeds"]
    }
    cmd = graph["selftrain@u_selftrained-0"].cmd.replace("selftrain@u_selftrained", "baseline@u_ones")
    assert cmd.replace("u_selftrained", "u_ones") == graph["baseline@u_ones-0"].cmd
    assert {f"label@{p}" for p in policies.POLICIES} == {n for n in graph if n.startswith("label@")}
