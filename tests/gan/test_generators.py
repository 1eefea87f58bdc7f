"""Which generator serves which finding, and the stages gan, fidelity and balance under every gan.mode."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cxr.classifier import net as classifier
from cxr.classifier.formats import Model
from cxr.cohort import policies
from cxr.core import findings
from cxr.core.files import write_json, write_table
from cxr.core.store import write_store
from cxr.gan import generators, nets, serving
from cxr.training import weights
from stages import balance, fidelity, gan
from tests.closure import ROOT
from tests.make import example, write_split

PAIR = "pneumonia+edema"


def test_members_and_folders(tmp_path):
    assert generators.members("Lung Lesion+edema") == ["lung_lesion", "edema"]
    each, shared = ["pneumonia", "edema"], [PAIR, "fracture"]
    assert serving.generator_of("Edema", each) == "edema" and serving.generator_of("edema", shared) == PAIR
    assert serving.folder(tmp_path, "edema", each) == tmp_path / "edema"
    assert serving.folder(tmp_path, "edema", shared) == tmp_path / PAIR / "edema"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generators.members("edema+dragon"), "unknown finding 'dragon': choose from"),
        (lambda: generators.members("edema+Edema"), "edema+Edema names a finding twice"),
        (lambda: generators.check(PAIR, "per_finding"), "gan.mode = per_finding, but gan_runs.generators has pneum"),
        (lambda: generators.check("edema", "pooled"), "gan.mode = pooled, but gan_runs.generators has edema alone: jo"),
        (lambda: generators.check("edema", "conditional"), "or set gan.mode to per_finding"),
        (
            lambda: serving.generator_of("edema", ["pneumonia"]),
            "edema, of which balanced_by.samplers has no generator",
        ),
        (lambda: serving.generator_of("edema", ["edema", PAIR]), "has edema and pneumonia+edema: it needs one"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_cure(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_each_presets_generators_serve_its_findings_and_the_paper_keeps_the_last_state():
    for path in (ROOT / "presets").glob("*.yaml"):
        preset = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name in preset["gan_runs"]["generators"]:
            generators.check(name, preset["gan"]["mode"])
        assert all(
            serving.generator_of(name, preset["balanced_by"]["samplers"]) for name in preset["rare"]["findings"]
        ), path
    paper = yaml.safe_load((ROOT / "presets/paper.yaml").read_text(encoding="utf-8"))["gan"]
    assert (paper["select"], paper["average"], paper["diffaugment"]) == ("last", 0, "none")
    assert paper["stop_diversity"] == paper["patience"] == paper["label_smoothing"] == 0 and not paper["spectral_norm"]


@pytest.mark.parametrize("names", [["pneumonia", "lung_lesion"], [PAIR], [PAIR, "fracture"]])
def test_dvc_has_one_instance_a_generator_and_no_instance_knows_the_others(tmp_path, names):
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["gan_runs"]["generators"] = names
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    config = (ROOT / ".dvc/config").read_text(encoding="utf-8")
    with open(tmp_path / ".dvc/config", "a") as file:
        file.write(config[config.index("[parsing]") :])
    listed = subprocess.run([*dvc, "stage", "list", "--name-only"], cwd=tmp_path, check=True, capture_output=True)
    found = listed.stdout.decode().split()
    for stage in ("gan", "fidelity"):
        expected = [f"{stage}@{name}-{seed}" for name in names for seed in params["repeats"]["seeds"]]
        assert [n for n in found if n.startswith(f"{stage}@")] == expected
        instance = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
        assert "gan_runs" not in instance["params"] and "${rare}" not in instance["cmd"]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0, 0.5), st.integers(0, 3))
def test_patients_are_kept_back_whole_and_as_many_as_asked(patients, share, seed):
    names = np.array([f"p{k}" for k in patients], object)
    back = generators.kept_back(names, share, seed)
    assert not set(names[back]) & set(names[~back])
    assert len(set(names[back])) == round(share * len(set(names)))
    order = np.random.default_rng(0).permutation(len(names))  # by patient, wherever the rows stand
    assert (generators.kept_back(names[order], share, seed) == back[order]).all()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """90 training images of 45 patients and 30 test ones of 15: pneumonia is a bright left, edema a bright right, in a
    third each, both in a sixth. Labels by patient.
    """
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    who = np.arange(120) // 2
    head = pd.DataFrame({"image_id": [f"i{k:03}" for k in range(120)], "patient_id": [f"p{k:02}" for k in who]})
    split = head.assign(split=np.where(who < 45, "train", "test"))
    records = head.assign(study_id=head["image_id"], path="x", sex="F", age=50.0, view="AP", projection="frontal")
    records = records.assign(official_split="train", **dict.fromkeys(findings.FINDINGS, 0.0))
    records["Pneumonia"], records["Edema"] = (who % 3 == 0).astype(float), (who % 2 == 0).astype(float)
    images = rng.integers(0, 60, (120, 16, 16))
    images[:, :, :8] += (150 * records["Pneumonia"].to_numpy(int))[:, None, None]
    images[:, :, 8:] += (150 * records["Edema"].to_numpy(int))[:, None, None]
    write_store(folder / "stores/16", images.astype(np.uint8), head[["image_id"]])
    write_table(folder / "records.parquet", records)
    write_table(folder / "table.parquet", policies.table(records, split, "u_zeroes"))
    net = classifier.build("none", 0).state_dict()
    (folder / "u_zeroes").mkdir()
    weights.save(folder / "u_zeroes/model.safetensors", net, example(Model, size=32, backbone="densenet121"))
    set_split(folder, split, "patient")
    return folder


def set_split(folder, split, by):
    digest = write_split(folder, split, by)
    write_json(
        folder / "u_zeroes/model.json", example(Model, size=32, classes=2, backbone="densenet121", split_sha256=digest)
    )


DATA = "--records records.parquet --stores stores --split ."
KID = "--select kid --holdout 0.3 --average 0.5"


def train(name: str, more: str) -> str:
    return (
        f"--generator {name} {DATA} --model gan/{name} --report report/{name} --size 16 --width 4 --batch 8 --epochs 2 "
        f"--z_dim 4 --precision 32-true --sample_every 1 --state state {more}"
    )


def judge(name: str) -> str:
    few = "--replicates 20 --permutations 39"
    return f"--generator gan/{name} {DATA} --classifier u_zeroes --report fidelity/gan/{name} {few}"


def fill(names: list[str], more: str = "") -> str:
    words = "--table table.parquet --records records.parquet --gans gan --split . --out out --size 32 "
    words += "--fidelity fidelity "
    words += "--findings pneumonia --findings edema --target_prevalence 0.49 --max_duplicates 1 "
    return words + " ".join(f"--samplers {name}" for name in names) + " " + more


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("mode", ["pooled", "conditional"])
def test_one_net_serves_several_findings(stage, here, mode):
    assert stage(gan.run, train(PAIR, f"--mode {mode} {KID}")) == (0, [])
    meta, kept = read(here / "gan" / PAIR / "generator.json"), read(here / "report" / PAIR / "kept.json")
    # Of the training patients 15 have pneumonia, 23 edema, 8 both: 30 in all, of whom 9 are kept back, 2 images each.
    assert meta["findings"] == ["pneumonia", "edema"] and (meta["patients"], meta["images"]) == (21, 42)
    assert kept["kept_back"] == 18 and kept["epoch"] == meta["epoch"] in (1, 2) and kept["stopped_at"] is None
    history = pd.read_csv(here / "report" / PAIR / "history.csv")
    assert history["kid"].idxmin() + 1 == kept["epoch"] and history[["kid", "diversity"]].notna().all(axis=None)
    assert stage(fidelity.run, judge(PAIR)) == (0, [])
    found = {name: read(here / "fidelity/gan" / PAIR / name / "fidelity.json") for name in ("pneumonia", "edema")}
    assert {name: f["real"] for name, f in found.items()} == {"pneumonia": 30, "edema": 46}
    assert stage(balance.run, fill([PAIR], "--labels sampled")) == (0, [])
    made = pd.read_parquet(here / "out/table.parquet").query("synthetic")
    asked = made["image_id"].str.split("/").str[1]
    images = np.load(here / "out/images/images.npy")
    # Not the same X-rays for both findings; a few may be equal by rounding, for the net has hardly been trained.
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 0.9 * len(images)
    own = pd.Series([made.loc[i, f"target.{name}"] for i, name in asked.items()], index=made.index)
    pair = made[["target.pneumonia", "target.edema"]]
    assert (pair.sum(axis=1) >= 1).all()
    assert (own == 1).all() == (mode == "conditional")
    if mode == "conditional":  # the net was asked for exactly the labels that the rows carry
        both = (pair == 1).all(axis=1)
        assert 0 < both.sum() < len(both)
        g, _ = nets.build(16, 4, 4, 1, 0, labels=2)
        weights.load_into(g, here / "gan" / PAIR / "generator.safetensors")
        y = pair[asked == "edema"].to_numpy(np.float32)
        again = nets.generate(g, len(y), 4, 0, 4, 1, 0, device="cpu", labels=y)
        from cxr.core.resize import resize

        assert np.array_equal(images[(asked == "edema").to_numpy()], [resize(x, 32) for x in again])


def test_a_pooled_generators_xrays_have_no_finding_of_their_own(stage):
    assert stage(gan.run, train(PAIR, "--mode pooled"))[0] == 0
    assert stage(fidelity.run, judge(PAIR))[0] == 0
    code, errors = stage(balance.run, fill([PAIR], "--labels masked"))
    assert code == 1 and len(errors) == 1 and "set balance.labels to sampled or one_hot" in errors[0]
    assert stage(balance.run, fill([PAIR], "--labels one_hot"))[0] == 0


def test_balance_names_a_finding_without_a_generator(stage):
    code, errors = stage(balance.run, fill(["pneumonia"]))
    assert code == 1 and len(errors) == 1 and "edema, of which balanced_by.samplers has no generator" in errors[0]


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        (PAIR, "", "gan.mode = per_finding, but gan_runs.generators has pneumonia+edema: list pneumonia, edema one by"),
        ("edema", "--mode pooled", "gan.mode = pooled, but gan_runs.generators has edema alone"),
        ("edema", "--select kid", "gan.select = kid needs X-rays to judge by: set gan.holdout"),
        ("fracture", "", "0 certain positives among the training patients' frontal images"),
        ("edema", "--diffaugment all", "gan.diffaugment: 'all' is not one of color, translation, cutout"),
        ("edema", "--average 1", "--average"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_before_any_training(stage, here, name, more, message):
    code, errors = stage(gan.run, train(name, more))
    assert code == 1 and len(errors) == 1 and message in errors[0], errors
    assert not (here / "gan").exists() and not (here / "state").exists()


def test_too_few_kept_back_for_a_kid_is_said_and_is_the_paper_s_choice(stage, here, capsys):
    assert stage(gan.run, train("pneumonia", "--select last")) == (0, [])
    last = (here / "gan/pneumonia/generator.safetensors").read_bytes()
    assert stage(gan.run, train("pneumonia", "--select kid --holdout 0.01")) == (0, [])
    assert (here / "gan/pneumonia/generator.safetensors").read_bytes() == last
    kept = read(here / "report/pneumonia/kept.json")
    assert (kept["select"], kept["kept_back"]) == ("last", 0)


def test_a_test_patient_among_those_trained_on_or_judged_by_is_refused(stage, here):
    """Patient p00's second image is planted in test: whichever part his first falls into."""
    split = pd.read_parquet(here / "split.parquet")
    split.loc[split["image_id"] == "i001", "split"] = "test"
    set_split(here, split, "patient")
    for seed in range(3):
        code, errors = stage(gan.run, train("pneumonia", f"{KID} --seed {seed}"))
        assert (
            code == 1 and len(errors) == 1 and "images of 1 validation or test patients would be trained" in errors[0]
        )
    assert not (here / "gan").exists()


def test_neither_training_nor_selection_sees_a_held_out_image(stage, here):
    """Other pixels of every test image leave all bytes of the GAN as they were."""
    written = []
    for folder in ("one", "other"):
        assert stage(gan.run, train("edema", KID).replace("state state", f"state {folder}"))[0] == 0
        files = sorted([*(here / "gan/edema").iterdir(), *(here / "report/edema").iterdir()])
        written.append({p.name: p.read_bytes() for p in files})
        images = np.load("stores/16/images.npy")
        images[90:] = 255 - images[90:]
        write_store("stores/16", images, pd.read_parquet("records.parquet")[["image_id"]])
    assert written[0] == written[1]


def test_fidelity_looks_for_copies_of_what_the_generator_was_trained_on(stage, here, monkeypatch):
    """A generator that replays the X-rays kept back from it is no memoriser of them; one that replays the others is."""
    assert stage(gan.run, train("edema", KID))[0] == 0
    table = pd.read_parquet("records.parquet")
    shown = generators.positives(table[:90], ["edema"], "all")
    back = generators.kept_back(shown["patient_id"], 0.3, 0)
    pixels = np.load("stores/16/images.npy")
    for part, share in ((back, 0.0), (~back, 1.0)):
        images = pixels[[int(name[1:]) for name in shown["image_id"][part]]]

        def replay(net, n, z_dim, *key, device, batch=64, labels=None, images=images):
            return images[np.arange(n) % len(images)]

        monkeypatch.setattr(nets, "generate", replay)
        assert stage(fidelity.run, judge("edema")) == (0, [])
        assert read(here / "fidelity/gan/edema/fidelity.json")["memorisation"]["duplicates"] == share
