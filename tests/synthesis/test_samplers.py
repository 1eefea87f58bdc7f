"""Generators opened by their kind: from a fresh folder, for the seeds there are, and the stages that use them."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxr.cohort import policies
from cxr.core import conditions, findings
from cxr.core.files import sha256, write_json, write_table
from cxr.core.store import write_store
from cxr.synthesis import samplers
from cxr.synthesis.balance import check
from cxr.synthesis.generate import BLOCK, Real, Wanted, enrich, synthesise
from stages import balance, diffusion, fidelity, generate
from stages.cli import main
from tests.make import write_split

DATA = "--records records.parquet --stores stores --split ."
TINY = "--size 32 --epochs 1 --batch 8 --width 8 --levels 2 --blocks 1 --patch 4 --sampler_steps 2 --precision 32-true"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """60 training images of 30 patients, 20 test ones of 10, a third with pneumonia, and a diffusion model."""
    folder = tmp_path_factory.mktemp("cohort")
    rng, who = np.random.default_rng(0), np.arange(80) // 2
    head = pd.DataFrame({"image_id": [f"i{k:02}" for k in range(80)], "patient_id": [f"p{k:02}" for k in who]})
    split = head.assign(split=np.where(who < 30, "train", "test"))
    records = head.assign(study_id=head["image_id"], path="x", sex="F", age=50.0, view="AP", projection="frontal")
    records = records.assign(official_split="train", **dict.fromkeys(findings.FINDINGS, 0.0))
    records["Pneumonia"] = (who % 3 == 0).astype(float)
    write_store(folder / "stores/32", rng.integers(0, 255, (80, 32, 32)).astype(np.uint8), head[["image_id"]])
    write_table(folder / "records.parquet", records)
    write_table(folder / "table.parquet", policies.table(records, split, "u_zeroes"))
    write_split(folder, split)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.chdir(folder)
        words = f"{DATA} --model gan/0/diffusion --report report --findings pneumonia --state state {TINY}"
        main(diffusion.run, words.split())
    assert stop.value.code == 0
    return folder


def test_its_folder_alone_is_enough(here):
    alone = here / "elsewhere/0/diffusion"
    shutil.copytree(here / "gan/0/diffusion", alone)
    one, two = (samplers.open_sampler(folder, lambda net: net) for folder in (here / "gan/0/diffusion", alone))
    assert one.whole and one.conditional and one.meta.kind == "diffusion" and one.meta.images == 60
    assert one.meta.conditions == list(conditions.CONDITIONS)
    y = one.encode(pd.read_parquet(here / "records.parquet")[:5])
    assert np.array_equal(one.sample(5, y, 1), two.sample(5, y, 1)) and one.sample(5, y, 1).shape == (5, 32, 32)
    assert not np.array_equal(one.sample(5, y, 1), one.sample(5, y, 2))


def test_an_unknown_kind_is_one_line_with_the_cure(here):
    file = here / "gan/0/diffusion/generator.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"kind": "vae"}))
    kinds = "'vae' is none of dcgan, diffusion, projection, editing; `dvc repro -f diffusion@0`"
    with pytest.raises(ValueError, match=kinds):
        samplers.open_sampler(here / "gan/0/diffusion", lambda net: net)


def test_a_seed_without_a_model_draws_from_the_least_one(here):
    for seed in (3, 10):
        shutil.copytree(here / "gan/0/diffusion", here / f"gan/{seed}/diffusion")
    shutil.rmtree(here / "gan/0")
    serving = [samplers.folder_of(here / f"gan/{seed}", "pneumonia", ["diffusion"]) for seed in (1, 3, 10)]
    assert [folder.parent.name for folder in serving] == ["3", "3", "10"]


def test_the_report_holds_sheets_and_one_row_a_finding(here):
    from PIL import Image

    sizes = {path.stem: Image.open(path).size for path in (here / "report").glob("*.png")}
    assert sizes == {"real": (256, 256), "generated": (256, 256), "rows": (256, 64)}
    kept = json.loads((here / "report/kept.json").read_text())
    assert kept["epochs"] == 1 and kept["steps"] == 7 and len(pd.read_csv(here / "report/history.csv")) == 1


def test_balance_adds_negatives_of_the_same_generator_with_their_conditions_as_labels(stage, here):
    judge(here)
    words = "--findings pneumonia --samplers diffusion --table table.parquet --records records.parquet --gans gan/1 "
    words += "--split . --fidelity fidelity --size 32 --labels sampled --dose 1.5 --negatives 1"
    assert stage(balance.run, f"{words} --out one --repeat 1") == (0, [])
    assert stage(balance.run, f"{words} --out two --repeat 1") == (0, [])
    assert sha256(here / "one") == sha256(here / "two")
    rows = pd.read_parquet(here / "one/table.parquet").query("synthetic")
    assert rows["target.pneumonia"].tolist() == [1.0] * 30 + [0.0] * 30
    plan = json.loads((here / "one/plan.json").read_text())
    part = plan["findings"]["pneumonia"]
    assert (plan["kind"], plan["dose"], plan["synthetic_images"]) == ("diffusion", 1.5, 60)
    assert (part["positives"], part["generated"], part["negatives"], part["gan_images"]) == (20, 30, 30, 60)
    assert len(np.load(here / "one/images/images.npy")) == 60


def test_with_independent_views_the_view_says_nothing_of_the_finding(here, monkeypatch):
    """All positives are AP and all others PA; the X-rays drawn with the finding are of both views then."""
    records = pd.read_parquet(here / "records.parquet").set_index("image_id")
    records["view"] = np.where(records["Pneumonia"] == 1, "AP", "PA")
    train = pd.read_parquet(here / "table.parquet").query("split == 'train'")
    sampler = samplers.open_sampler(here / "gan/0/diffusion", lambda net: net)
    asked = {}
    monkeypatch.setattr(type(sampler), "sample", lambda self, n, given, *key: asked.setdefault("given", given))
    place = [conditions.CONDITIONS.index(name) for name in ("pneumonia", "ap", "pa")]
    shares = {}
    for views in ("kept", "independent"):
        real = Real(train, records, views)
        images, _ = synthesise(sampler, "pneumonia", Wanted(200, 200), "sampled", real, 0)
        asked.clear()
        next(images)
        pneumonia, ap, pa = asked["given"][:, place].T
        assert pneumonia.tolist() == [1.0] * 200 + [0.0] * 200 and (ap + pa == 1).all()
        shares[views] = ap[:200].mean(), ap[200:].mean()
    assert shares["kept"] == (1, 0)
    assert shares["independent"] == pytest.approx((1 / 3, 1 / 3), abs=0.1)
    with pytest.raises(ValueError, match="balance.views = independent, but dcgan .* does not choose"):
        meta, kind = SimpleNamespace(view="frontal", kind="dcgan"), {"whole": False, "certain": True, "edits": False}
        check("sampled", 0, "all", SimpleNamespace(folder=here, meta=meta, **kind), "independent")


def test_balance_holds_no_more_images_than_a_block(here, monkeypatch):
    """All of presets/paper.yaml's took 6.4 GB before the first was written."""
    train = pd.read_parquet(here / "table.parquet").query("split == 'train'").assign(synthetic=False)
    sampler = samplers.open_sampler(here / "gan/0/diffusion", lambda net: net)
    drawn = []

    def sample(self, n, given, *key):
        drawn.append(n)
        return np.zeros((n, 32, 32), np.uint8)

    monkeypatch.setattr(type(sampler), "sample", sample)
    real = Real(train, pd.read_parquet(here / "records.parquet").set_index("image_id"))
    rows, images = enrich({"pneumonia": sampler}, train, real, {"pneumonia": Wanted(BLOCK, BLOCK)}, "sampled", 48, 0)
    assert not drawn and rows["synthetic"].sum() == 2 * BLOCK
    assert next(images).shape == (48, 48) and drawn == [BLOCK]
    assert sum(1 for _ in images) == 2 * BLOCK - 1 and drawn == [BLOCK, BLOCK]


def judge(here, sum_of=None):
    from cxr.fidelity.formats import Fidelity, Memorisation
    from tests.make import example

    weights = sum_of or sha256(here / "gan/0/diffusion/generator.safetensors")
    numbers = example(Fidelity, generator_sha256=weights, memorisation=example(Memorisation, duplicates=0.0))
    (here / "fidelity/0/diffusion/pneumonia").mkdir(parents=True, exist_ok=True)
    write_json(here / "fidelity/0/diffusion/pneumonia/fidelity.json", numbers)


def test_x_rays_of_a_condition_as_files(stage, here):
    judge(here)
    words = "gan/0/diffusion --fidelity fidelity -n 3 --finding pneumonia --sex F --age 60 --view AP"
    assert stage(generate.run, f"{words} --out made") == (0, [])
    table = pd.read_csv(here / "made/table.csv")
    assert table["file"].tolist() == [f"pneumonia-{k:06}.png" for k in range(3)]
    assert table[["sex", "age", "view"]].drop_duplicates().to_numpy().tolist() == [["F", 60, "AP"]]
    code, errors = stage(generate.run, "gan/0/diffusion --fidelity fidelity -n 3 --out more")
    assert code == 1 and "--finding is missing: diffusion makes X-rays of no_finding, " in errors[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda here: judge(here, "other"), "`dvc repro -f fidelity_of_diffusion@0` judges this one"),
        (
            lambda here: (judge(here), write_split(here, pd.read_parquet(here / "split.parquet")[::-1])),
            "was trained on another split, so held-out patients may be in it; run diffusion@0 again",
        ),
    ],
)
def test_what_balance_reads_may_be_wrong(stage, here, change, message):
    change(here)
    words = "--findings pneumonia --samplers diffusion --table table.parquet --records records.parquet --gans gan/0 "
    code, errors = stage(balance.run, f"{words} --split . --fidelity fidelity --size 32 --labels sampled --out out")
    assert code == 1 and message in errors[0] and not (here / "out").exists()


def test_a_held_out_patient_among_those_trained_on_is_refused(stage, here):
    split = pd.read_parquet(here / "split.parquet")
    split.loc[0, "split"] = "test"  # the patient's other image stays in training
    write_split(here, split)
    code, errors = stage(diffusion.run, f"{DATA} --model m --report r --state other {TINY}")
    assert code == 1 and "patients would be trained on" in errors[0]


@pytest.mark.slow
def test_fidelity_judges_each_finding_and_the_whole(stage, here):
    from cxr.classifier import net as classifier
    from cxr.classifier.formats import Model
    from cxr.training import weights
    from tests.make import example

    digest = json.loads((here / "split.json").read_text())["sha256"]
    about = example(Model, size=32, classes=2, backbone="densenet_small", split_sha256=digest)
    (here / "u_zeroes").mkdir()
    weights.save(
        here / "u_zeroes/model.safetensors", classifier.build("none", 0, backbone="densenet_small").state_dict(), about
    )
    words = (
        f"--generator gan/0/diffusion {DATA} --classifier u_zeroes --report fidelity/0/diffusion --findings pneumonia"
    )
    assert stage(fidelity.run, f"{words} --replicates 20 --permutations 39 --most 50") == (0, [])
    numbers = {p.parent.name: json.loads(p.read_text()) for p in (here / "fidelity").rglob("fidelity.json")}
    assert {name: (n["real"], n["generated"], n["held_out"]) for name, n in numbers.items()} == {
        "pneumonia": (20, 20, 8), "every": (50, 50, 20),
    }  # fmt: skip
    assert numbers["every"]["two_sample"]["spaces"]["pixels"]["auc"] > 0.9  # one epoch on noise
