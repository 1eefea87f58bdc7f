"""The projection GAN: its net and the condition's weight by hand, what it learns, and its stage."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxr.core.conditions import CONDITIONS, encode
from cxr.core.files import read_json, write_table
from cxr.core.findings import FINDINGS
from cxr.core.picture import grid
from cxr.core.store import open_store, write_store
from cxr.gan import nets, projection
from cxr.gan.formats import GRID, Kept, ProjectionGenerator
from cxr.gan.settings import Projection, Settings
from cxr.gan.train import fit, sampled_as
from cxr.training.batches import Images, order
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric
from cxr.training.weights import load_into
from stages.cli import main
from stages.projection import run as command
from tests.make import example, write_split

SETTINGS = Projection(
    size=16, epochs=20, batch=8, lr=2e-3, z_dim=8, width=8, sample_every=2, average=0.9, phase_in=2, drop=0.2, seed=3
)


@pytest.fixture
def blobs(tmp_path) -> Images:
    """40 images of a disc on black, every other one dark."""
    y, x = np.mgrid[:16, :16]
    centre = np.random.default_rng(0).uniform(6, 10, (40, 2))
    discs = np.stack([(((y - a) ** 2 + (x - b) ** 2) < 16) * (220 - 180 * (n % 2)) for n, (a, b) in enumerate(centre)])
    names = [f"i{n:02d}" for n in range(40)]
    write_store(tmp_path / "store", discs.astype(np.uint8), pd.DataFrame({"image_id": names}))
    return Images([open_store(tmp_path / "store")], names)


LIGHT = np.array([[1.0, 1.0], [0.0, 1.0]] * 20, np.float32)  # of the blobs: whether light; a condition that all have


def train(blobs, folder, epochs, minutes=60, **changes):
    settings = SETTINGS.model_copy(update=changes | {"epochs": epochs})
    checkpoints = Checkpoints(folder, {}, minutes=minutes)
    kind = projection.ProjectionTraining
    return fit(fabric("32-true"), blobs, checkpoints, settings, label="projection", vectors=LIGHT, kind=kind)


def equal(one, other) -> bool:
    nets_equal = (
        all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))
        for a, b in ((one.g, other.g), (one.d, other.d))
    )
    grids = list(one.grids) == list(other.grids)
    grids = grids and all(map(np.array_equal, one.grids.values(), other.grids.values()))
    return all(nets_equal) and one.history.equals(other.history) and grids


@pytest.mark.parametrize("bounded", [False, True])
def test_the_discriminator_is_psi_of_phi_and_the_inner_product_of_phi_with_v_y(bounded):
    _, d = nets.build(32, 5, 4, 1, seed=0, labels=3, projection=True, bounded=bounded)
    d.eval()
    x, y = torch.randn(6, 1, 32, 32), torch.rand(6, 3)
    phi = d.phi(x).flatten(1)
    expected = d.psi(d.phi(x)).flatten() + (phi * (y @ d.v.weight.flatten(1))).sum(1)
    assert d(x, y).shape == (6, 1, 1, 1)
    assert torch.allclose(d(x, y).flatten(), expected, atol=1e-5)
    assert torch.equal(d(x, 0 * y), d.psi(d.phi(x)))  # without a condition: is x real?
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in d.modules()) != bounded
    if bounded:
        assert torch.linalg.matrix_norm(d.v.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_the_generator_is_that_of_a_conditional_dcgan():
    (one, _), (other, _) = (nets.build(16, 5, 4, 1, seed=0, labels=2, projection=p) for p in (False, True))
    shapes = [{name: value.shape for name, value in g.state_dict().items()} for g in (one, other)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("options", [{}, {"spectral_norm": False}, {"spectral_norm": False, "r1": 1.0}])
def test_a_rebuilt_generator_is_that_before_the_first_step(blobs, options):
    meta = example(ProjectionGenerator, **SETTINGS.model_dump() | options, kind="projection", conditions=["a", "b"])
    rebuilt = projection.rebuild(ProjectionGenerator(**meta)).state_dict()
    start = training(blobs, **options).g.state_dict()
    assert rebuilt.keys() == start.keys() and all(torch.equal(rebuilt[name], start[name]) for name in start)


def test_the_conditions_weight_rises_over_the_first_epochs():
    weights = [projection.weight(SETTINGS.model_copy(update={"phase_in": 4}), e) for e in (0, 1, 2.5, 4, 9)]
    assert weights == [0, 0.25, 0.625, 1, 1] and projection.weight(SETTINGS.model_copy(update={"phase_in": 0}), 0) == 1


def training(blobs, **changes) -> projection.ProjectionTraining:
    made = projection.ProjectionTraining(fabric("32-true"), blobs, SETTINGS.model_copy(update=changes), 5, LIGHT, None)
    made.start_epoch(0)
    return made


def test_a_batch_has_its_conditions_weighted_by_epoch_and_step(blobs):
    made = training(blobs, drop=0.0, phase_in=2)
    for epoch, step in ((0, 0), (0, 4), (1, 0), (1, 3), (2, 0), (9, 4)):
        rows = order(len(made.images), made.settings.seed, 1, epoch)[8 * step : 8 * step + 8]
        expected = min(1, (epoch + step / 5) / 2) * torch.from_numpy(LIGHT)[rows]
        assert torch.allclose(made.draw(epoch, step)["y"], expected)


def test_conditions_are_dropped_from_a_share_of_the_images_the_same_ones_each_time(blobs):
    made, again = training(blobs, drop=0.3, phase_in=0), training(blobs, drop=0.3, phase_in=0)
    batches = [(epoch, step) for epoch in range(20) for step in range(5)]
    given = torch.stack([made.draw(*at)["y"][:, 1] for at in batches])  # 1 of every image, so that 0 is a drop
    assert torch.equal(given, torch.stack([again.draw(*at)["y"][:, 1] for at in batches]))
    assert set(given.flatten().tolist()) == {0.0, 1.0} and 0.23 < (given == 0).float().mean() < 0.37  # 4 sd
    assert (given[0] != given[1]).any()
    assert training(blobs, drop=0.0, phase_in=0).draw(0, 0)["y"][:, 1].min() == 1


@pytest.mark.parametrize("options", [{}, {"loss": "wgan_gp", "spectral_norm": False}, {"loss": "minimax", "r1": 2.0}])
def test_a_longer_training_continues_a_shorter_one_exactly(blobs, tmp_path, options):
    whole = train(blobs, tmp_path / "a", 5, **options)
    train(blobs, tmp_path / "b", 3, **options)
    assert equal(whole, train(blobs, tmp_path / "b", 5, **options)) and list(whole.grids) == [1, 2, 4, 5]


def test_an_interrupted_training_ends_with_the_same_bytes(blobs, tmp_path, monkeypatch):
    """Stopped after its 4th and 11th step: while the condition is phased in, and after."""
    whole = train(blobs, tmp_path / "a", 4)

    class Stopped(Exception):
        pass

    for last in (4, 11):
        real = Checkpoints.step

        def step(self, state, position, last_step=last, real=real, **more):
            real(self, state, position, **more)
            if position == last_step:
                raise Stopped

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(Checkpoints, "step", step)
            train(blobs, tmp_path / "b", 4, minutes=0)
    assert equal(whole, train(blobs, tmp_path / "b", 4, minutes=0))


def test_it_learns_what_its_condition_means(blobs, tmp_path):
    made = train(blobs, tmp_path, 40, diffaugment="translation")
    asked = [np.tile(np.array(y, np.float32), (32, 1)) for y in ([1, 1], [0, 1])]
    light, dark = (nets.generate(made.g, 32, 8, 1, device="cpu", labels=y).astype(float) for y in asked)
    assert light[:, 6:10, 6:10].mean() > dark[:, 6:10, 6:10].mean() + 60


@pytest.fixture
def here(tmp_path, monkeypatch):
    """24 training and 6 test images of two a patient, pneumonia a bright left; the last training image is lateral."""
    who = np.arange(30) // 2
    head = pd.DataFrame({"image_id": [f"i{k:02}" for k in range(30)], "patient_id": [f"p{k:02}" for k in who]})
    records = head.assign(study_id=head["image_id"], path="x", sex="F", age=50.0, view="AP", projection="frontal")
    records = records.assign(official_split="train", **dict.fromkeys(FINDINGS, 0.0))
    records["Pneumonia"] = (who % 3 == 0).astype(float)
    records.loc[23, "projection"] = "lateral"
    images = np.random.default_rng(0).integers(0, 60, (30, 16, 16))
    images[:, :, :8] += (150 * records["Pneumonia"].to_numpy(int))[:, None, None]
    write_store(tmp_path / "stores/16", images.astype(np.uint8), head[["image_id"]])
    write_table(tmp_path / "records.parquet", records)
    write_split(tmp_path, head.assign(split=np.where(who < 12, "train", "test")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stage(here, capsys):
    """Runs the stage's command line there; gives (exit code, its error lines)."""

    def run(more: str = "", out: str = "out") -> tuple[int, list[str]]:
        words = f"--records records.parquet --stores stores --split . --model {out}/model --report {out}/report "
        words += f"--state {out}/state --size 16 --width 4 --batch 8 --epochs 2 --phase_in 1 --z_dim 4 "
        with pytest.raises(SystemExit) as stop:
            main(command, (words + "--sample_every 1 --average 0.5 --precision 32-true " + more).split())
        return stop.value.code, [line for line in capsys.readouterr().err.splitlines() if "error" in line]

    return run


PICTURES = ("real.png", "rows.png", "grid-0001.png", "grid-0002.png")


def files(folder) -> dict[str, bytes]:
    paths = [path for part in ("model", "report") for path in (folder / part).iterdir()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_it_trains_on_every_training_image_of_the_view_and_its_json_rebuilds_the_generator(stage, here):
    assert stage("--findings edema --findings fracture") == (0, [])
    meta = read_json(here / "out/model/generator.json", None, ProjectionGenerator)
    assert (meta.kind, meta.images, meta.patients, meta.epoch) == ("projection", 23, 12, 2)
    assert meta.conditions == list(CONDITIONS) and meta.generator == "model" and meta.loss == "hinge"
    assert set(files(here / "out")) == {
        *(f"model/{net}.{kind}" for net in ("generator", "discriminator") for kind in ("json", "safetensors")),
        *(f"report/{name}" for name in ("history.csv", "kept.json", *PICTURES)),
    }
    kept = read_json(here / "out/report/kept.json", None, Kept)
    assert (kept.mode, kept.epoch, kept.epochs, kept.select, kept.average) == ("projection", 2, 2, "last", 0.5)
    g = projection.rebuild(meta)
    load_into(g, here / "out/model/generator.safetensors")
    rows = pd.read_parquet("records.parquet")[:23]  # the others are lateral, or of test patients
    rows = rows.iloc[sampled_as(23, 0)[: GRID**2]]
    made = nets.generate(g, GRID**2, meta.z_dim, meta.seed, 3, device="cpu", labels=encode(rows))
    assert np.array_equal(grid(made), np.asarray(Image.open(here / "out/report/grid-0002.png")))
    real = np.load(here / "stores/16/images.npy")[[int(name[1:]) for name in rows["image_id"]]]
    assert np.array_equal(grid(real), np.asarray(Image.open(here / "out/report/real.png")))
    y = np.zeros((24, len(CONDITIONS)), np.float32)  # eight women of 50, AP: without a finding, then with each of two
    for name, value in {"female": 1, "age": 0.5, "age_known": 1, "ap": 1}.items():
        y[:, CONDITIONS.index(name)] = value
    for k, name in enumerate(("no_finding", "edema", "fracture")):
        y[8 * k : 8 * k + 8, CONDITIONS.index(name)] = 1
    made = [nets.generate(g, 8, meta.z_dim, meta.seed, 8, device="cpu", labels=part) for part in np.split(y, 3)]
    assert np.array_equal(grid(np.concatenate(made)), np.asarray(Image.open(here / "out/report/rows.png")))


def test_the_same_bytes_twice_and_others_for_another_repeat(stage, here):
    for out, more in (("one", ""), ("two", ""), ("three", "--repeat 1")):
        assert stage(more, out) == (0, [])
    one, two, three = (files(here / out) for out in ("one", "two", "three"))
    assert one == two and one["model/generator.safetensors"] != three["model/generator.safetensors"]


def test_no_pixel_of_a_held_out_image_counts(stage, here):
    assert stage(out="one") == (0, [])
    images = np.load("stores/16/images.npy")
    images[23:] = 255 - images[23:]
    write_store("stores/16", images, pd.read_parquet("records.parquet")[["image_id"]])
    assert stage(out="two") == (0, []) and files(here / "one") == files(here / "two")


def test_a_held_out_patient_among_the_training_images_is_refused(stage, here):
    split = pd.read_parquet(here / "split.parquet")
    split.loc[split["image_id"] == "i01", "split"] = "test"  # whose patient's other image is trained on
    write_split(here, split)
    code, errors = stage()
    assert code == 1 and len(errors) == 1 and "images of 1 validation or test patients would be trained" in errors[0]
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--phase_in 2", "projection.phase_in = 2 with projection.epochs = 2: no epoch would have the whole"),
        ("--loss wgan_gp --r1 1", "projection.r1 = 1.0 with projection.loss = wgan_gp, which has a penalty on the"),
        (
            "--loss wgan_gp",
            "projection.spectral_norm = true with projection.loss = wgan_gp, which has a penalty on the",
        ),
        ("--diffaugment all", "projection.diffaugment: 'all' is not one of color, translation, cutout; join"),
        ("--drop 1", "--drop"),
        ("--findings dragon", "unknown finding 'dragon': choose from"),
        ("--loss other", "--loss"),
        ("--view lateral", "projection@0: 1 lateral images of training patients; set projection.view to all"),
        ("--lr 1e30", "; lower projection.lr (now 1e+30)"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_with_the_cure(stage, here, more, message):
    code, errors = stage(more)
    assert code == 1 and len(errors) == 1 and message in errors[0], errors
    assert not (here / "out/model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge", "label_smoothing": 0.1}, "gan.label_smoothing = 0.1 with gan.loss = hinge: it belongs to"),
        ({"loss": "wgan_gp", "saturating": True}, "gan.saturating = true with gan.loss = wgan_gp: it belongs"),
        ({"loss": "least_squares", "saturating": True}, "set gan.saturating to false, or gan.loss to minimax"),
        ({"loss": "wgan_gp", "r1": 0.5}, "gan.r1 = 0.5 with gan.loss = wgan_gp"),
        ({"diffaugment": "all"}, "gan.diffaugment: 'all' is not one of"),
    ],
)
def test_options_of_the_dcgan_that_do_not_fit_each_other(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**options)
