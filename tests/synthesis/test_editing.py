"""Edits of real X-rays: where they change, what balance adds of them, how they are judged, what is refused."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.cohort import policies
from cxr.core import conditions, findings
from cxr.core.files import sha256, write_json, write_table
from cxr.core.store import open_store, write_store
from cxr.diffusion import edit, net
from cxr.diffusion.formats import Generator
from cxr.diffusion.settings import Edit, Settings
from cxr.synthesis import samplers
from cxr.training.batches import Images
from cxr.training.machine import generator
from cxr.training.weights import save
from stages import balance, editing, fidelity, generate
from stages.cli import main
from tests.closure import ROOT
from tests.make import example, write_split

SETTINGS = Settings(size=32, width=8, levels=1, blocks=1, patch=4, sampler_steps=3, components=4, view="frontal")
HOW = Edit(noise=3.0, draws=2, sources=40)
WORDS = "--diffusion gan/0/diffusion --records records.parquet --stores stores --split . --findings pneumonia "
WORDS += "--findings edema --model {} --report {} --draws 2 --noise 3 --sources {}"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """60 training images of 30 patients, 20 test ones of 10, a third bright at one place, which is pneumonia; a
    diffusion model of which the prior alone knows that; its edits.
    """
    folder = tmp_path_factory.mktemp("cohort")
    rng, who = np.random.default_rng(0), np.arange(80) // 2
    head = pd.DataFrame({"image_id": [f"i{k:02}" for k in range(80)], "patient_id": [f"p{k:02}" for k in who]})
    split = head.assign(split=np.where(who < 30, "train", "test"))
    records = head.assign(study_id=head["image_id"], path="x", sex="F", age=50.0, view="AP", projection="frontal")
    records = records.assign(official_split="train", **dict.fromkeys(findings.FINDINGS, 0.0))
    ill = who % 3 == 0
    records["Pneumonia"], records["No Finding"] = ill.astype(float), (~ill).astype(float)
    x = rng.integers(60, 120, (80, 32, 32))
    x[ill, 4:12, 4:12] += 100
    write_store(folder / "stores/32", x.astype(np.uint8), head[["image_id"]])
    write_table(folder / "records.parquet", records)
    write_table(folder / "table.parquet", policies.table(records, split, "u_zeroes"))
    digest = write_split(folder, split)
    y = conditions.encode(records[:60])
    denoiser = net.build(SETTINGS, y.shape[1])
    denoiser.prior.estimate(Images([open_store(folder / "stores/32")], head["image_id"][:60]), y, 0.4)
    about = SETTINGS.model_dump() | {"kind": "diffusion", "generator": "diffusion", "spread": 0.4, "images": 60}
    about |= {"conditions": list(conditions.CONDITIONS), "patients": 30, "split_sha256": digest}
    (folder / "gan/0/diffusion").mkdir(parents=True)
    save(folder / "gan/0/diffusion/generator.safetensors", denoiser.state_dict(), Generator(**about))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.chdir(folder)
        main(editing.run, WORDS.format("gan/0/editing", "report/editing", 40).split())
    assert stop.value.code == 0
    return folder


def drawer(here):
    return samplers.open_sampler(here / "gan/0/editing", lambda net: net)


def test_the_mask_lies_where_the_finding_is_and_all_else_stays(here):
    sampler = drawer(here)
    asked = sampler.draw(["pneumonia"], 20, np.random.default_rng(0))
    encoded = sampler.encode(asked)
    made = sampler.sample(20, encoded, 1)
    real = sampler.store.images[sampler.store.rows(asked["image_id"])]
    x = torch.from_numpy(real)[:, None] / 127.5 - 1
    y = edit.Conditions(
        *(
            torch.from_numpy(part)
            for part in (sampler.own[encoded[:, 0].astype(int)], *np.split(encoded[:, 1:], 2, axis=1))
        )
    )
    noises = torch.randn(3, net.BLOCK, 1, 32, 32, generator=generator(1, 0))[:, :20]
    with torch.no_grad():
        m = edit.mask(sampler.net, x, y.own, y.asked, noises[1:], sampler.how, 0.4)[:, 0].numpy()
    assert m[:, 5:11, 5:11].min() == 1 and m[:, 16:, 16:].max() == 0
    assert np.array_equal(made[m == 0], real[m == 0]) and (m == 0).mean() > 0.5
    change = made.astype(float) - real
    assert change[:, 5:11, 5:11].mean() > 20  # of the 100 that the finding is: the prior is a ridge regression


def test_an_edit_without_the_finding_is_drawn_again_at_the_same_place(here):
    sampler = drawer(here)
    asked = sampler.draw(["pneumonia"], 20, np.random.default_rng(0)).assign(present=False)
    made, real = (
        sampler.sample(20, sampler.encode(asked), 1),
        sampler.store.images[sampler.store.rows(asked["image_id"])],
    )
    change = made.astype(float) - real
    assert np.abs(change[:, 5:11, 5:11]).mean() > 3 and abs(change[:, 5:11, 5:11].mean()) < 15
    assert not change[:, 16:, 16:].any()


def test_a_condition_that_changes_nothing_has_no_mask_and_the_source_comes_back(here):
    sampler = drawer(here)
    own, real = sampler.own[:3], sampler.store.images[:3]
    made, share = edit.edit(
        sampler.net, real, edit.Conditions(own, own, own), SETTINGS, HOW, 0.4, 1, device="cpu"
    )  # fmt: skip
    assert np.array_equal(made, real) and not share.any()


def test_no_source_repeats_before_every_one_was_used(here):
    sampler = drawer(here)
    drawn = sampler.draw(["pneumonia"], 60, np.random.default_rng(0))
    lacking = int((sampler.own[:, conditions.CONDITIONS.index("pneumonia")] == 0).sum())
    assert 20 < lacking < 40 and drawn["image_id"][:lacking].is_unique and len(drawn) == 60
    with pytest.raises(ValueError, match="none of the 40 sources of .* is an X-ray without it; raise editing.sources"):
        sampler.draw(["pneumonia"], 1, np.random.default_rng(0), among=["i00"])


def test_image_i_is_the_same_however_many_are_drawn(here):
    sampler = drawer(here)
    encoded = sampler.encode(sampler.draw(["pneumonia"], 70, np.random.default_rng(0)))
    many, few = sampler.sample(70, encoded, 1), sampler.sample(66, encoded[:66], 1)
    assert np.abs(many[:66].astype(int) - few).max() <= 1 and sampler.sample(0, encoded[:0], 1).shape == (0, 32, 32)


def test_the_stage_writes_the_same_bytes_twice_and_training_patients_alone(stage, here):
    assert stage(editing.run, WORDS.format("again/editing", "pictures", 40)) == (0, [])
    assert sha256(here / "again/editing") == sha256(here / "gan/0/editing")
    assert sha256(here / "pictures") == sha256(here / "report/editing")
    index = open_store(here / "gan/0/editing/sources").index
    assert len(index) == 40 and index["patient_id"].max() < "p30"
    kept = json.loads((here / "report/editing/kept.json").read_text())
    assert kept["sources"] == 40 and 0.02 < kept["masked"] < 0.5
    about = json.loads((here / "gan/0/editing/generator.json").read_text())
    assert (about["kind"], about["editing"]["sources"], about["images"]) == ("editing", 40, 60)


@pytest.mark.slow
def test_its_folder_alone_draws_in_a_fresh_process(here, tmp_path_factory):
    alone = tmp_path_factory.mktemp("alone") / "0/editing"
    shutil.copytree(here / "gan/0/editing", alone)
    code = f"""if True:
        import numpy as np, sys
        from pathlib import Path
        from cxr.synthesis.samplers import open_sampler
        s = open_sampler(Path({str(alone)!r}), lambda net: net)
        made = s.sample(3, s.encode(s.draw(["pneumonia"], 3, np.random.default_rng(0))), 7)
        sys.stdout.buffer.write(made.tobytes())"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    sampler = drawer(here)
    made = sampler.sample(3, sampler.encode(sampler.draw(["pneumonia"], 3, np.random.default_rng(0))), 7)
    assert np.abs(np.frombuffer(done.stdout, np.uint8).astype(int) - made.ravel()).max() == 0


def test_held_out_patients_are_refused(stage, here):
    split = pd.read_parquet(here / "split.parquet")
    split.loc[0, "split"] = "test"  # the patient's other image stays in training
    write_split(here, split)
    code, errors = stage(editing.run, WORDS.format("m", "r", 40))
    assert code == 1 and "patients would be trained on" in errors[0] and not (here / "m").exists()
    write_split(here, split[1:])
    code, errors = stage(editing.run, WORDS.format("m", "r", 40))
    assert code == 1 and "gan/0/diffusion: was trained on another split, so held-out patients may be" in errors[0]


def judge(here):
    from cxr.fidelity.formats import Fidelity, Memorisation

    weights = sha256(here / "gan/0/editing/generator.safetensors")
    numbers = example(Fidelity, generator_sha256=weights, memorisation=example(Memorisation, duplicates=0.0))
    (here / "fidelity/0/editing/pneumonia").mkdir(parents=True)
    write_json(here / "fidelity/0/editing/pneumonia/fidelity.json", numbers)


def test_balance_adds_the_sources_labels_with_and_without_the_finding(stage, here):
    judge(here)
    words = "--findings pneumonia --samplers editing --table table.parquet --records records.parquet --gans gan/0 "
    words += "--split . --fidelity fidelity --size 32 --labels sampled --dose 1 --negatives 1 --out "
    assert stage(balance.run, f"{words} one") == (0, [])
    assert stage(balance.run, f"{words} two") == (0, [])
    assert sha256(here / "one") == sha256(here / "two")
    rows = pd.read_parquet(here / "one/table.parquet").query("synthetic")
    assert rows["target.pneumonia"].tolist() == [1.0] * 20 + [0.0] * 20
    assert rows["target.no_finding"].tolist() == [0.0] * 20 + [1.0] * 20  # as the sources, but for the edited
    images, sources = np.load(here / "one/images/images.npy"), open_store(here / "gan/0/editing/sources").images
    corner = images[:, 16:, 16:].reshape(40, -1)  # no edit reaches it
    assert np.array_equal(corner[:20], corner[20:]) and len(np.unique(corner, axis=0)) == 20
    assert {row.tobytes() for row in corner} <= {row.tobytes() for row in sources[:, 16:, 16:]}


def test_x_rays_as_files_name_their_source(stage, here):
    judge(here)
    words = "gan/0/editing --fidelity fidelity -n 3 --out made --finding"
    assert stage(generate.run, f"{words} pneumonia") == (0, [])
    table, index = pd.read_csv(here / "made/table.csv"), open_store(here / "gan/0/editing/sources").index
    assert table["source"].isin(index["image_id"]).all() and len(list((here / "made").glob("*.png"))) == 3
    code, errors = stage(generate.run, f"{words} no_finding --force --out more")
    assert code == 1 and "editing makes X-rays of enlarged_cardiomediastinum, " in errors[0]
    code, errors = stage(generate.run, f"{words} pneumonia --sex F --out more")
    assert code == 1 and "editing takes no sex, age or view" in errors[0]


def test_what_stands_beside_real_x_rays_has_their_share_of_each_finding(here):
    sampler, records = drawer(here), pd.read_parquet(here / "records.parquet")[:60]
    every = sampler.beside(records, ["pneumonia", "edema"], 0, 5)
    assert len(every) == 60 and (every["present"].to_numpy() == (records["Pneumonia"] == 1)).all()
    assert (every.loc[every["present"], "added"] == "pneumonia").all()
    ill = records[records["Pneumonia"] == 1]
    one = sampler.beside(ill, ["pneumonia"], 0, 5)
    assert one["present"].all() and not one["patient_id"].isin(ill["patient_id"]).any()


def test_fidelity_leaves_the_source_s_patient_out(stage, here):
    from cxr.classifier import net as classifier
    from cxr.classifier.formats import Model

    digest = json.loads((here / "split.json").read_text())["sha256"]
    about = example(Model, size=32, classes=2, backbone="densenet_small", split_sha256=digest)
    (here / "u_zeroes").mkdir()
    weights = classifier.build("none", 0, backbone="densenet_small").state_dict()
    save(here / "u_zeroes/model.safetensors", weights, about)
    words = "--generator gan/0/editing --records records.parquet --stores stores --split . --classifier u_zeroes "
    words += "--report judged --findings pneumonia --replicates 20 --permutations 39 --most 50"
    assert stage(fidelity.run, words) == (0, [])
    every, one = (json.loads((here / f"judged/{name}/fidelity.json").read_text()) for name in ("every", "pneumonia"))
    assert every["generated"] == 50 and every["real"] < 30 and one["real"] == one["generated"] == 20
    near = one["memorisation"]["spaces"]["pixels"]
    assert one["memorisation"]["duplicates"] == 0 and near["own_median"] < 0.7 * near["generated_median"]
    assert near["membership_auc"] < 0.7  # with its own edit, a source would be nearer than any other image
