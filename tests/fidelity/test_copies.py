"""Duplicates, membership, and the stage: a generator that replays training images is caught, and refused by balance."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.classifier import net as classifier
from cxr.classifier.formats import Model
from cxr.cohort import policies
from cxr.core import findings
from cxr.core.files import write_table
from cxr.core.store import write_store
from cxr.evaluation import metrics
from cxr.fidelity import copies, judge
from cxr.gan import nets
from cxr.gan.formats import Generator
from cxr.training import weights
from stages import balance, fidelity
from tests.make import example, write_split

SIZE, TRAIN, HELD_OUT = 16, 30, 20


def chests(n: int, seed: int) -> np.ndarray:
    """n smooth pictures of one kind, uint8 N x SIZE x SIZE: a common shape and waves of random phase and height."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : SIZE * 1j, 0 : 1 : SIZE * 1j]
    whole = np.repeat(60 * np.cos(2 * np.pi * x)[None], n, axis=0)
    for u in range(1, 4):
        for v in range(1, 4):
            phase, height = rng.uniform(0, 2 * np.pi, (n, 1, 1)), rng.normal(0, 14, (n, 1, 1))
            whole += height * np.cos(2 * np.pi * (u * x + v * y) / 1.5 + phase)
    return (128 + whole).clip(0, 255).astype(np.uint8)


def test_nearest_is_the_search_through_all(monkeypatch):
    monkeypatch.setattr(copies, "BLOCK", 3)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(8, 4)), rng.normal(size=(5, 4))
    every = np.linalg.norm(a[:, None] - b[None], axis=2)
    distance, place = copies.nearest(a, b)
    assert distance == pytest.approx(every.min(1)) and place.tolist() == every.argmin(1).tolist()


def test_pixels_know_no_brightness_nor_contrast():
    images = chests(3, 0)
    dim = (images.astype(float) * 0.5 + 40).astype(np.uint8)
    assert copies.nearest(copies.pixels(dim), copies.pixels(images))[0].max() < 0.02
    assert copies.pixels(np.zeros((1, 64, 64), np.uint8)).shape == (1, copies.SIDE**2)


def test_the_threshold_is_half_of_the_held_out_median():
    found = copies.duplicates(np.array([0.9, 1.0, 1.1, 0.0]), np.array([1.0, 2.0, 7.0]))
    assert found.tolist() == [True, False, False, True]


def test_membership_is_the_auc_of_the_distance():
    rng = np.random.default_rng(0)
    train, held_out = rng.integers(0, 20, 40).astype(float), rng.integers(5, 25, 30).astype(float)  # with ties
    point, low, high = copies.membership(train, held_out, np.arange(40), np.arange(30), rng)
    truth, scores = np.r_[np.ones(40), np.zeros(30)][:, None], -np.r_[train, held_out][:, None]
    assert point == pytest.approx(metrics.auc(truth, scores)[0])
    # Hanley and McNeil's 1982 standard error, to within a quarter
    q1, q2 = point / (2 - point), 2 * point**2 / (1 + point)
    error = np.sqrt((point * (1 - point) + 39 * (q1 - point**2) + 29 * (q2 - point**2)) / (40 * 30))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.25) and low < point < high


def test_membership_draws_patients():
    """Four images each of ten patients say no more than one image each."""
    rng = np.random.default_rng(0)
    once = [rng.normal(0, 1, 10), rng.normal(1, 1, 10)]
    apart = copies.membership(*once, np.arange(10), np.arange(10), np.random.default_rng(0))
    fourfold = [np.repeat(x, 4) for x in once]
    same = copies.membership(*fourfold, *[np.repeat(np.arange(10), 4)] * 2, np.random.default_rng(0))
    assert same == pytest.approx(apart)


def judged(made: np.ndarray, held_out: np.ndarray) -> tuple[dict, np.ndarray]:
    train = chests(TRAIN, 0)
    both = np.concatenate([copies.pixels(train), copies.pixels(train[:, :, ::-1])])
    spaces = ({"pixels": both}, {"pixels": copies.pixels(held_out)}, {"pixels": copies.pixels(made)})
    return copies.judge(*spaces, np.arange(TRAIN), np.arange(len(held_out)), np.random.default_rng(0))


def test_a_mirrored_copy_is_a_copy_and_its_original_is_found():
    made = chests(10, 2)
    made[7] = chests(TRAIN, 0)[4, :, ::-1]
    told, pairs = judged(made, chests(HELD_OUT, 1))
    assert told["duplicates"] == 0.1 and pairs[:, 0].tolist() == [7, 4]
    assert told["spaces"]["pixels"]["held_out_duplicates"] == 0


def test_images_of_one_patient_point_to_each_other_and_strangers_do_not():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 8))
    patients = np.repeat(np.arange(30), 2)
    train = people[patients] + 0.1 * rng.normal(size=(60, 8))
    strangers = rng.normal(size=(40, 8))
    of_people = people[:20] + 0.05 * rng.normal(size=(20, 8))
    told, _ = copies.judge(
        {"features": train}, {"features": strangers}, {"features": np.concatenate([of_people, strangers[:20] + 0.01])},
        patients, np.arange(40), rng,
    )  # fmt: skip
    space = told["spaces"]["features"]
    assert space["reidentified"] == pytest.approx(0.5, abs=0.05) and space["held_out_reidentified"] < 0.05
    pairs = np.linalg.norm(train[::2] - train[1::2], axis=1)
    assert space["same_patient_median"] == pytest.approx(np.median(pairs), abs=1e-6)


def test_the_nearest_image_of_the_same_patient():
    x = np.array([[0.0], [10.0], [1.0], [4.0], [50.0]])
    assert sorted(copies.to_own_patient(x, np.array(["b", "a", "b", "b", "c"]))) == [1.0, 1.0, 3.0]
    assert not len(copies.to_own_patient(x, np.arange(5)))


def test_without_held_out_images_nothing_is_judged():
    told, pairs = judged(chests(TRAIN, 0), chests(0, 1))
    assert told["duplicates"] is None and told["spaces"] == {}
    assert pairs[0].tolist() == pairs[1].tolist()  # each beside itself


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """What the stage and balance read, for one finding with one image a patient; the folder and both command lines."""
    folder = tmp_path_factory.mktemp("cohort")
    n, positives = 200, TRAIN + HELD_OUT
    names = [f"i{k:03}" for k in range(n)]
    head = pd.DataFrame({"image_id": names, "patient_id": [f"p{k:03}" for k in range(n)]})
    split = head.assign(split=["train"] * TRAIN + ["test"] * HELD_OUT + ["train"] * (n - positives))
    records = head.assign(study_id=names, path=names, sex="F", age=50.0, view="AP", projection="frontal")
    records = records.assign(official_split="train", **dict.fromkeys(findings.FINDINGS, np.nan))
    records.loc[: positives - 1, "Pneumonia"] = 1.0
    write_table(folder / "records.parquet", records)
    digest = write_split(folder, split)
    write_table(folder / "table.parquet", policies.table(records, split, "u_zeroes"))
    images = np.concatenate([chests(TRAIN, 0), chests(HELD_OUT, 1), chests(n - positives, 3)])
    write_store(folder / "stores" / str(SIZE), images, head[["image_id"]])
    made = {"size": SIZE, "z_dim": 4, "width": 4, "channels": 1}
    meta = made | {"images": TRAIN, "epochs": 1, "view": "frontal", "split_sha256": digest}
    meta = example(Generator, **meta, mode="per_finding", holdout=0.0, seed=0, gain=1.0)
    generator, _ = nets.build(**made, seed=0)
    (folder / "gan/pneumonia").mkdir(parents=True)
    weights.save(folder / "gan/pneumonia/generator.safetensors", generator.state_dict(), meta)
    (folder / "u_zeroes").mkdir()
    net = classifier.build("none", 0).state_dict()
    judge_net = example(Model, size=32, classes=2, backbone="densenet121", split_sha256=digest)
    weights.save(folder / "u_zeroes/model.safetensors", net, judge_net)
    return folder


JUDGE = "--generator gan/pneumonia --records records.parquet --stores stores --split . "
JUDGE += "--classifier u_zeroes --report fidelity/gan/pneumonia --replicates 40 --permutations 39"
BALANCE = "--findings pneumonia --samplers pneumonia --table table.parquet --gans gan --split . "
BALANCE += "--records records.parquet --fidelity fidelity --out out --size 32 --target_prevalence 0.3"


def generator_that_gives(images, noise: float = 0.0):
    """In place of dcgan.generate: the images in turn, with noise of that many grey levels."""

    def generate(net, n, z_dim, *key, device, batch=64, labels=None):
        rng = np.random.default_rng(0)
        chosen = images[np.arange(n) % len(images)].astype(float)
        return (chosen + rng.normal(0, noise, chosen.shape)).clip(0, 255).astype(np.uint8)

    return generate


def test_a_generator_that_replays_training_images_is_caught_and_refused(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(nets, "generate", generator_that_gives(chests(TRAIN, 0), noise=5))
    assert stage(fidelity.run, JUDGE) == (0, [])
    found = json.loads((tmp_path / "fidelity/gan/pneumonia/fidelity.json").read_text())
    assert found["memorisation"]["duplicates"] == 1
    assert found["memorisation"]["spaces"]["pixels"]["membership_low"] > 0.9
    code, errors = stage(balance.run, BALANCE)
    assert code == 1 and len(errors) == 1 and not (tmp_path / "out").exists()
    assert "pneumonia: 100.0% of 30 generated X-rays replay training images (fidelity/gan/pneumonia)" in errors[0]
    assert "balance.max_duplicates = 0.05: train its GAN for fewer gan.epochs" in errors[0]
    assert stage(balance.run, BALANCE + " --max_duplicates 1")[0] == 0


def test_an_honest_generator_passes(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(nets, "generate", generator_that_gives(chests(TRAIN, 2)))
    assert stage(fidelity.run, JUDGE) == (0, [])
    found = json.loads((tmp_path / "fidelity/gan/pneumonia/fidelity.json").read_text())
    told = found["memorisation"]
    assert told["duplicates"] == 0 and told["duplicates_high"] == pytest.approx(0.1135, abs=1e-4)  # Wilson, 0 of 30
    assert found["real"] == found["generated"] == TRAIN and found["half"] == TRAIN // 2 and found["scales"] == 1
    for space in told["spaces"].values():
        assert space["membership_low"] < 0.5 < space["membership_high"]
    assert found["two_sample"]["told_apart"] is False and found["two_sample"]["n"] == TRAIN
    assert stage(balance.run, BALANCE)[0] == 0


def test_the_worst_pairs_are_shown_generated_above_real(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(nets, "generate", generator_that_gives(chests(TRAIN, 0)))
    stage(fidelity.run, JUDGE)
    picture = np.asarray(Image.open(tmp_path / "fidelity/gan/pneumonia/worst_pairs.png"))
    assert picture.shape == (2 * SIZE, judge.PAIRS * SIZE)
    assert (picture[:SIZE] == picture[SIZE:]).all() and picture.std() > 10


def test_the_same_bytes_again(stage, tmp_path):
    written = []
    for _ in range(2):
        assert stage(fidelity.run, JUDGE) == (0, [])
        written.append({p.name: p.read_bytes() for p in (tmp_path / "fidelity/gan/pneumonia").iterdir()})
    assert written[0] == written[1] and set(written[0]) == {"fidelity.json", "halves.csv", "worst_pairs.png"}


def test_held_out_images_are_a_reference_and_nothing_else(stage, tmp_path):
    """Other held-out pixels change what is said of memorisation, and no measure of quality."""
    before, after = [], []
    for found in (before, after):
        assert stage(fidelity.run, JUDGE) == (0, [])
        found.append(json.loads((tmp_path / "fidelity/gan/pneumonia/fidelity.json").read_text()))
        head = pd.read_parquet("records.parquet")[["image_id"]]
        images = np.load(f"stores/{SIZE}/images.npy")
        images[TRAIN : TRAIN + HELD_OUT] //= 2
        images[TRAIN : TRAIN + HELD_OUT, ::2] = 0
        write_store(f"stores/{SIZE}", images, head)
    assert before[0]["quality"] == after[0]["quality"]
    assert before[0]["memorisation"] != after[0]["memorisation"]


def other_generator(folder):
    net, _ = nets.build(SIZE, 4, 4, 1, seed=1)
    weights.write(folder / "gan/pneumonia/generator.safetensors", net.state_dict())


def edited(**changes):
    def change(folder):
        file = folder / "fidelity/gan/pneumonia/fidelity.json"
        found = json.loads(file.read_text())
        found["memorisation"] |= changes
        file.write_text(json.dumps(found))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            other_generator,
            "judges another generator than gan/pneumonia/generator.safetensors; `dvc repro -f fidelity@p",
        ),
        (
            edited(duplicates=1.5),
            "duplicates is 1.5; it should be less than or equal to 1; `dvc repro -f fidelity@pneumonia-",
        ),
        (edited(duplicates="0"), "duplicates is '0'; it should be a valid number; `dvc repro -f fidelity@pneumonia-"),
        (
            lambda f: shutil.rmtree(f / "fidelity"),
            "fidelity.json: no such file; `dvc repro fidelity@pneumonia-",
        ),
    ],
)
def test_what_balance_reads_of_fidelity_may_be_wrong(stage, tmp_path, change, message):
    assert stage(fidelity.run, JUDGE) == (0, [])
    change(tmp_path)
    code, errors = stage(balance.run, BALANCE)
    assert code == 1 and len(errors) == 1 and message in errors[0], errors


def another_split(name):
    def change(folder):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"split_sha256": "0"}))

    return change


def no_positives(folder):
    write_table(folder / "records.parquet", pd.read_parquet(folder / "records.parquet").assign(Pneumonia=0.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            another_split("gan/pneumonia/generator.json"),
            "gan/pneumonia: was trained on another split; `dvc repro -f gan@p",
        ),
        (
            another_split("u_zeroes/model.json"),
            "u_zeroes: was trained on another split; `dvc repro -f baseline@u_zeroes-",
        ),
        (no_positives, "pneumonia: 0 real training images; take it out of rare.findings"),
    ],
)
def test_what_the_stage_reads_may_be_wrong(stage, tmp_path, change, message):
    change(tmp_path)
    code, errors = stage(fidelity.run, JUDGE)
    assert code == 1 and len(errors) == 1 and message in errors[0], errors
    assert not (tmp_path / "fidelity").exists()


def test_no_held_out_image_is_said_and_lets_balance_go_on(stage, tmp_path):
    records = pd.read_parquet("records.parquet")
    records.loc[TRAIN : TRAIN + HELD_OUT - 1, "Pneumonia"] = 0.0
    write_table("records.parquet", records)
    assert stage(fidelity.run, JUDGE) == (0, [])
    found = json.loads((tmp_path / "fidelity/gan/pneumonia/fidelity.json").read_text())
    assert found["memorisation"]["duplicates"] is None and found["held_out"] == 0 and found["quality"]
    assert stage(balance.run, BALANCE)[0] == 0


def test_an_edit_is_compared_with_other_patients_than_its_own():
    train = chests(TRAIN, 0)
    made = train[:10].copy()
    made[:, :2, :2] = 128
    made[9] = train[20]  # of another patient than its source
    both = np.concatenate([copies.pixels(train), copies.pixels(train[:, :, ::-1])])
    spaces = ({"pixels": both}, {"pixels": copies.pixels(chests(HELD_OUT, 1))}, {"pixels": copies.pixels(made)})
    who = np.arange(TRAIN), np.arange(HELD_OUT), np.random.default_rng(0)
    blind, _ = copies.judge(*spaces, *who)
    told, pairs = copies.judge(*spaces, *who, sources=np.arange(10))
    assert blind["duplicates"] == 1 and told["duplicates"] == 0.1 and pairs[:, 0].tolist() == [9, 20]
    near = told["spaces"]["pixels"]
    assert near["own_median"] < 0.3 * near["generated_median"] and "own_median" not in blind["spaces"]["pixels"]
    assert near["membership_auc"] < blind["spaces"]["pixels"]["membership_auc"]
