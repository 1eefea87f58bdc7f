import math
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from cxr.adgm import samples, train
from cxr.adgm.labelled import assign
from cxr.adgm.nets import ADGM, Gaussian, active_units, decoder_maps, encoder_maps, objective
from cxr.core.files import write_table
from cxr.core.findings import CLASSES
from cxr.core.records import COLUMNS
from cxr.core.store import open_store, write_store
from cxr.evaluation.predictions import read_adgm
from cxr.training.batches import Images, cycled
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric
from tests.make import write_split

TINY = {"size": 17, "z_dim": 3, "a_dim": 2}
FIT = {
    "batch": 6, "lr": 1e-3, "weight_decay": 1e-5, "beta": 1.0, "warmup_epochs": 2.0, "likelihood_weight": 0.1,
    "dropout": 0.2, "flip": 0.5, "rotate": 15.0, "scale": (0.8, 1.2), "shift": 0.05, "average": 0.9,
    "predict_samples": 2, "prior": [0.5, 0.5], "seed": 3,
    "z_dim": 3, "a_dim": 2,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Nets this small gain nothing from threads, which on a busy machine wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(classes=3, **other) -> ADGM:
    torch.manual_seed(0)
    return ADGM(classes=classes, **(TINY | other)).double().eval()


def batch(n: int, classes: int, labelled: int) -> tuple[torch.Tensor, ...]:
    """x, y, noise_a, noise_z for a tiny net, float64."""
    stream = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 17, 17, generator=stream, dtype=torch.float64)
    y = torch.randint(classes, (labelled,), generator=stream)
    return x, y, *(torch.randn(n, TINY[d], generator=stream, dtype=torch.float64) for d in ("a_dim", "z_dim"))


def normal(g: Gaussian) -> Independent:
    return Independent(Normal(g.mu, torch.exp(0.5 * g.log_var)), g.mu.dim() - 1)


def direct(net: ADGM, x, k: int, noise_a, noise_z, weight: float) -> dict[str, torch.Tensor]:
    """The log-densities of eq. 8 for one image x (1 x 1 x H x W) taken as of class k, every net run afresh."""
    y = torch.eye(net.classes, dtype=x.dtype)[[k]]
    q_a = net.q_a(net.q_a.trunk(x))
    a = q_a.mu + torch.exp(0.5 * q_a.log_var) * noise_a
    q_z = net.q_z(net.q_z.trunk(x), a, y)
    z = q_z.mu + torch.exp(0.5 * q_z.log_var) * noise_z
    prior = Independent(Normal(torch.zeros_like(z), torch.ones_like(z)), 1)
    return {
        "q_a": normal(q_a).log_prob(a),
        "q_z": normal(q_z).log_prob(z),
        "p_z": prior.log_prob(z),
        "KL_z": kl_divergence(normal(q_z), prior),
        "p_a": normal(net.p_a(net.p_a.trunk(x), z, y)).log_prob(a),
        "p_x": weight * normal(net.p_x(z, y)).log_prob(x),
        "p_y": -math.log(net.classes),
        "q_y": net.q_y(net.q_y.trunk(x), a)[:, k],
    }


@pytest.mark.parametrize("weight, heat", [(1.0, 1.0), (0.01, 0.3)])
def test_bounds_equal_brute_force_enumeration(weight, heat):
    net = tiny(likelihood_weight=weight)
    x, y, noise_a, noise_z = batch(5, 3, 2)
    terms = net(x, y, noise_a, noise_z, heat)

    def L(d):
        return -(d["p_x"] + d["p_y"] - heat * (d["KL_z"] + d["q_a"] - d["p_a"]))

    for i in range(2):
        d = direct(net, x[[i]], int(y[i]), noise_a[[i]], noise_z[[i]], weight)
        assert torch.allclose(terms.L[i], L(d), rtol=1e-9)
        assert torch.allclose(terms.ce[i], -d["q_y"], rtol=1e-9)
    for i in range(2, 5):
        each = [direct(net, x[[i]], k, noise_a[[i]], noise_z[[i]], weight) for k in range(3)]
        U = sum(d["q_y"].exp() * (L(d) + d["q_y"]) for d in each)
        assert torch.allclose(terms.U[i - 2], U, rtol=1e-9)


@pytest.mark.parametrize(
    "name", ["q_a.mu", "q_y.out", "q_z.log_var", "p_a.mu", "p_x.mu_log_var", "q_y.trunk.0", "q_a.trunk.0"]
)
def test_gradient_of_unlabelled_bound_equals_finite_differences(name):
    net = tiny(likelihood_weight=0.1)
    x, y, noise_a, noise_z = batch(3, 3, 0)
    weight = net.get_submodule(name).weight
    direction = torch.randn_like(weight)
    net(x, y, noise_a, noise_z).U.sum().backward()
    analytic = float((weight.grad * direction).sum())
    values, h = [], 1e-6
    with torch.no_grad():
        for step in (h, -2 * h):
            weight += step * direction
            values.append(float(net(x, y, noise_a, noise_z).U.sum()))
    assert analytic == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-4)
    assert abs(analytic) > 1e-6


def test_labelled_bound_is_eq_8_on_average():
    """Many draws of (a, z) for one image: eq. 8 with sampled log-densities, against L with its closed-form KL_z."""
    net = tiny()
    n, k = 3000, 1
    x = batch(1, 3, 0)[0].expand(n, -1, -1, -1)
    stream = torch.Generator().manual_seed(2)
    noise_a, noise_z = (torch.randn(n, TINY[d], generator=stream, dtype=torch.float64) for d in ("a_dim", "z_dim"))
    with torch.no_grad():
        terms = net(x, torch.full((n,), k), noise_a, noise_z)
        f = {name: v.expand(n, -1) for name, v in net.features(x[:1]).items()}
        y = torch.eye(3, dtype=torch.float64)[[k]].expand(n, -1)
        q_a = net.q_a(f["q_a"])
        a = q_a.sample(noise_a)
        q_z = net.q_z(f["q_z"], a, y)
        z = q_z.sample(noise_z)
        log_p = normal(net.p_x(z, y)).log_prob(x) + normal(net.p_a(f["p_a"], z, y)).log_prob(a)
        log_p += Normal(0, 1).log_prob(z).sum(1) - math.log(3)
        eq8 = normal(q_a).log_prob(a) + normal(q_z).log_prob(z) - log_p  # - E[log p(x,y,a,z) / q(a,z|x,y)]
    difference = eq8 - terms.L
    assert difference.std() > 0.05  # draw by draw they differ, which is the point
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(n)
    assert terms.L.var() < eq8.var()
    assert (terms.KL_z + terms.KL_a).mean() > 0


def test_raising_the_right_label_lowers_J():
    """Eq. 10 as printed would do the opposite: dJ / d log q(y_l|a,x_l) must be - alpha / N_l."""
    net = tiny()
    outputs = []
    net.q_y.register_forward_hook(lambda *args: (args[-1].retain_grad(), outputs.append(args[-1]))[0])
    x, y, noise_a, noise_z = batch(4, 3, 2)
    objective(net(x, y, noise_a, noise_z), alpha=5.0).backward()
    expected = torch.zeros(2, 3, dtype=torch.float64)
    expected[[0, 1], y] = -5.0 / 2
    assert torch.allclose(outputs[0].grad[:2], expected)


def test_J_adds_means_of_both_kinds():
    net = tiny()
    t = net(*batch(5, 3, 2))
    assert objective(t, 2.0).item() == pytest.approx((t.L.mean() + 2 * t.ce.mean() + t.U.mean()).item())


def test_parameter_counts_are_the_published_codes():
    net = ADGM(size=225, classes=2)

    def millions(module):
        return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)

    assert (millions(net), millions(net.p_x), millions(net.q_y)) == (15.08, 13.92, 0.19)


def test_maps_of_the_paper_and_of_the_demo():
    assert encoder_maps(225) == [111, 54, 25, 11, 4]
    assert decoder_maps(225) == [13, 27, 55, 111, 225]
    assert encoder_maps(113) == [55, 26, 11, 4]
    assert decoder_maps(113) == [13, 27, 55, 113]
    net = ADGM(size=113, classes=2).eval()
    assert net.q_a.trunk.features == 512
    with torch.no_grad():
        assert net.q_a.trunk(torch.zeros(1, 1, 113, 113)).shape == (1, 512)
        assert net.p_x(torch.zeros(2, 128), torch.eye(2)).mu.shape == (2, 1, 113, 113)
        assert ADGM(size=225, classes=2).eval().p_x(torch.zeros(1, 128), torch.eye(2)[:1]).log_var.shape == (
            1,
            1,
            225,
            225,
        )


@pytest.mark.parametrize("size", [17, 21, 65, 129])
def test_decoder_gives_exactly_the_size(size):
    net = ADGM(size=size, classes=2).eval()
    with torch.no_grad():
        assert net.p_x(torch.zeros(1, 128), torch.eye(2)[:1]).mu.shape == (1, 1, size, size)
        assert net.q_a.trunk(torch.zeros(1, 1, size, size)).shape == (1, net.q_a.trunk.features)


@pytest.mark.parametrize("size, nearest", [(224, "209 or 225"), (128, "113 or 129"), (5, "17")])
def test_size_that_does_not_fit_names_the_nearest(size, nearest):
    with pytest.raises(ValueError, match=f"adgm.size = {size}.*nearest sizes that fit: {nearest}"):
        decoder_maps(size)


def test_each_trunk_sees_each_image_once():
    net, seen = tiny(), []
    for name in ("q_a", "q_y", "q_z", "p_a"):
        getattr(net, name).trunk.register_forward_hook(lambda _, args, __, name=name: seen.append((name, len(args[0]))))
    net(*batch(5, 3, 2))
    assert sorted(seen) == [(name, 5) for name in ("p_a", "q_a", "q_y", "q_z")]


def test_log_variance_is_free_and_bounded():
    g = Gaussian.of(torch.zeros(4, dtype=torch.bfloat16), torch.tensor([-1e6, -0.1, 0.0, 1e6], dtype=torch.bfloat16))
    assert g.mu.dtype == torch.float32
    assert torch.allclose(g.log_var, torch.tensor([-8.0, -0.1, 0.0, 8.0]), atol=1e-3)


def test_active_units_by_hand():
    mu = torch.tensor([[0.0, 1.0, 0.3], [0.3, 1.1, 0.3]])  # variances 0.0225, 0.0025, 0
    assert active_units(mu) == 1


def cohort(n: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records and a split of n patients, in three classes 1 : 2 : 1, a sixth of them validation."""
    ids = [f"p{i:03d}" for i in range(n)]
    names = [CLASSES[(0, 1, 1, 2)[i % 4]] for i in range(n)]
    split = np.where(np.arange(n) % 6 == 5, "valid", "train")
    records = pd.DataFrame({"image_id": ids, "patient_id": ids, "class_name": names})
    return records, pd.DataFrame({"image_id": ids, "patient_id": ids, "split": split})


def test_draws_are_nested_random_and_leave_validation_alone():
    records, split = cohort()
    tables = [assign(records, split, classes=3, labels=n, seed=0) for n in (3, 8)]
    few, many = (set(t.loc[t["role"] == "labelled", "image_id"]) for t in tables)
    assert few < many and len(few) == 9 and len(many) == 24
    for t in tables:
        assert (t.loc[t["role"] == "labelled", "label"].value_counts() == len(t[t["role"] == "labelled"]) / 3).all()
        assert set(t.loc[t["role"] == "valid", "image_id"]) == set(split.loc[split["split"] == "valid", "image_id"])
        assert list(t["role"].drop_duplicates()) == ["labelled", "unlabelled", "valid"]
        assert len(t) == 60
    other = assign(records.sample(frac=1, random_state=1), split.iloc[::-1], classes=3, labels=8, seed=0)
    pd.testing.assert_frame_equal(other, tables[1])
    again = assign(records, split, classes=3, labels=3, seed=1)
    assert set(again.loc[again["role"] == "labelled", "image_id"]) != few


def test_two_classes_merge_what_is_not_normal():
    records, split = cohort()
    t = assign(records, split, classes=2, labels=3, seed=0).merge(records, on="image_id")
    assert ((t["label"] == 1) == (t["class_name"] == "Normal")).all()


def test_assign_refuses_with_the_counts():
    records, split = cohort()
    few = records.copy()
    few.loc[few["class_name"] == "Normal", "class_name"] = "Lung Opacity"
    with pytest.raises(ValueError, match=r"fewer than 2 training images \(Lung Opacity \d+, No Lung.*Normal 0\)"):
        assign(few, split, classes=3, labels=1, seed=0)
    with pytest.raises(ValueError, match="no column class_name"):
        assign(records.drop(columns="class_name"), split, classes=3, labels=1, seed=0)
    with pytest.raises(ValueError, match="'p000' has class 'Opaque'"):
        assign(records.replace({"Lung Opacity": "Opaque"}), split, classes=3, labels=1, seed=0)
    with pytest.raises(ValueError, match="no validation image"):
        assign(records, split.assign(split="train"), classes=3, labels=1, seed=0)


def test_a_tenth_of_each_class_stays_unlabelled():
    records, split = cohort()
    table = assign(records, split, classes=3, labels=1000, seed=0).query("role != 'valid'")
    held = table.groupby("label").size()
    drawn = table[table["role"] == "labelled"].groupby("label").size()
    assert (drawn == held * 9 // 10).all() and (table["role"] == "unlabelled").any()


@pytest.mark.parametrize("n", [4, 6, 7, 25])
def test_cycling_uses_each_labelled_image_once_a_pass(n):
    drawn = torch.cat([cycled(n, 6, step, 0, 1) for step in range(n)])  # n steps of 6: six passes
    passes = drawn.view(6, n)
    assert (passes.sort(dim=1).values == torch.arange(n)).all()
    assert len({tuple(p.tolist()) for p in passes}) > 1


def test_temperature_is_linear_then_one():
    values = [train.temperature(t, 100) for t in (0, 25, 100, 150)]
    assert values == [0, 0.25, 1, 1]
    assert train.temperature(0, 0) == 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a store of 17 x 17 images in which Normal is dark, records and a split."""
    root = tmp_path_factory.mktemp("adgm")
    records, split = cohort()
    level = np.where(records["class_name"] == "Normal", 60, 160)[:, None, None]
    images = np.clip(level + np.random.default_rng(0).normal(0, 20, (60, 17, 17)), 0, 255).astype(np.uint8)
    write_store(root / "stores" / "17", images, records[["image_id"]])
    write_table(root / "records.parquet", records.reindex(columns=COLUMNS["rsna"]))
    write_split(root, split)
    return root


def fit(data, checkpoints, epochs, **other) -> train.Trained:
    records, split = (pd.read_parquet(data / f"{name}.parquet") for name in ("records", "split"))
    table = assign(records, split, classes=2, labels=8, seed=0)
    parts = [table[table["role"] != "valid"], table[table["role"] == "valid"]]
    images = [Images([open_store(data / "stores" / "17")], part["image_id"]) for part in parts]
    known = parts[0].loc[parts[0]["role"] == "labelled", "label"].to_numpy(copy=True)
    return train.train(
        fabric("32-true"), images[0], known, images[1], parts[1]["label"].to_numpy(copy=True), checkpoints,
        label="adgm", classes=2, epochs=epochs, **(FIT | other),
    )  # fmt: skip


def same(one: train.Trained, other: train.Trained) -> bool:
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    assert one.last.tobytes() == other.last.tobytes() and one.best.tobytes() == other.best.tobytes()
    states = one.net.state_dict(), other.net.state_dict()
    return (
        all(torch.equal(states[0][name], states[1][name]) for name in states[0]) and one.best_epoch == other.best_epoch
    )


def test_continued_training_equals_uninterrupted(data, tmp_path):
    whole = fit(data, Checkpoints(tmp_path / "whole", {}), 2)
    fit(data, Checkpoints(tmp_path / "parts", {}), 1)
    assert same(whole, fit(data, Checkpoints(tmp_path / "parts", {}), 2))

    stopped = Checkpoints(tmp_path / "stopped", {})
    stopped.signal = signal.SIGTERM
    with pytest.raises(SystemExit):
        fit(data, stopped, 2)  # after its first step, within the first epoch
    assert same(whole, fit(data, Checkpoints(tmp_path / "stopped", {}), 2))

    assert list(whole.history["epoch"]) == [1, 2] and list(whole.history["temperature"]) == [0.5, 1.0]
    assert whole.alpha == pytest.approx(50 / 16)
    assert np.isfinite(whole.history.to_numpy()).all()
    assert whole.history["valid_acc"].iloc[-1] == pytest.approx(
        (whole.last.argmax(1) == [1 if i % 4 == 3 else 0 for i in range(60) if i % 6 == 5]).mean()
    )


def test_prediction_depends_on_the_prior_and_not_on_the_batch(data):
    net = ADGM(classes=2, **TINY)
    images = Images([open_store(data / "stores" / "17")], [f"p{i:03d}" for i in range(11)])
    y = torch.zeros(11, dtype=torch.int64)

    def judge(batch=4, prior=(0.5, 0.5)):
        return judge.validate(
            fabric("32-true"), net, images, y, alpha=1.0, heat=1.0, predict_samples=3, prior=prior, batch=batch, seed=0
        )

    rows = [judge(4), judge(11)]
    assert torch.allclose(rows[0][1], rows[1][1], atol=1e-6)
    assert rows[0][0] == pytest.approx(rows[1][0], rel=1e-4)
    assert torch.allclose(rows[0][1].sum(1), torch.ones(11))
    moved = judge(prior=(0.8, 0.2))[1]  # the odds times 0.8 / 0.2
    assert torch.allclose(moved[:, 0] / moved[:, 1], 4 * rows[0][1][:, 0] / rows[0][1][:, 1], rtol=1e-4)


def test_loss_that_is_not_finite_stops_with_place_and_cure(data, tmp_path):
    with pytest.raises(
        ValueError, match=r"adgm: epoch 1, step 2 of 6: .*(L|J) = (nan|inf).*lower adgm.lr \(now 1e\+30\)"
    ):
        fit(data, Checkpoints(tmp_path, {}), 1, lr=1e30)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_collapse_is_told_in_one_line():
    assert samples.collapse({"KL_z": 2.0, "active_z": 3}, 128, 1.0) is None
    for last in ({"KL_z": 0.05, "active_z": 1}, {"KL_z": 2.0, "active_z": 0}):
        assert "z carries nothing" in samples.collapse(last, 128, 1.0)
        assert samples.collapse(last, 128, 0.5).endswith("; raise adgm.likelihood_weight (now 0.5)")
        assert samples.collapse(last, 128, None).endswith("a supervised network is what classifies")


def test_stage_writes_what_evaluate_reads(data, tmp_path):
    from stages.adgm import run

    paths = {"model": tmp_path / "model", "predictions": tmp_path / "p.parquet", "report": tmp_path / "report"}
    chosen = {k: v for k, v in FIT.items() if k not in ("scale", "prior")}
    given = {"records": data / "records.parquet", "store": data / "stores" / "17", "split": data}
    run(
        variant="corrected",
        draw=0,
        classes=3,
        labels=3,
        size=17,
        epochs=1,
        state=tmp_path / "state",
        **given,
        **paths,
        **chosen,
    )
    with pytest.raises(ValueError, match="holds images of 17 px, not of adgm.size = 21"):
        run(
            variant="corrected",
            draw=0,
            classes=3,
            labels=3,
            size=21,
            epochs=1,
            state=tmp_path / "state",
            **given,
            **paths,
            **chosen,
        )
    table = read_adgm(paths["predictions"], 3, "")
    assert len(table) == 10 and set(table["split"]) == {"valid"}
    assert (paths["report"] / "history.csv").read_text().startswith("epoch,train_L,train_U,train_ce,train_J,train_acc,")
    from PIL import Image

    assert Image.open(paths["report"] / "samples.png").size == (8 * 17, 3 * 17)
    assert (paths["model"] / "model.safetensors").is_file() and '"n_labelled": 9' in (
        paths["model"] / "model.json"
    ).read_text()
