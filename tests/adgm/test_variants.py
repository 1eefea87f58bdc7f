"""The ADGM's variants and control arms: the published code's bound, free bits, the control losses, exact resumption."""

import math
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.adgm import controls, samples
from cxr.adgm import train as adgm_train
from cxr.adgm.labelled import assign
from cxr.adgm.nets import ADGM, Gaussian, objective
from cxr.adgm.published import Published, softplus, warmup
from cxr.adgm.variants import CONTROLS, VARIANTS
from cxr.cohort.splits import file_order
from cxr.core.findings import CLASSES
from cxr.core.guard import guard
from cxr.core.store import open_store
from cxr.evaluation.predictions import read_adgm
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints
from tests.adgm.test_nets import FIT, TINY, data, fit, one_thread, same  # noqa: F401 (fixtures)
from tests.closure import ROOT


def published(classes: int = 3) -> Published:
    torch.manual_seed(0)
    return Published(classes=classes, **TINY).double().eval()


def log_gaussian(x, mu, log_var):
    """As the published code has it, per row."""
    return (-0.5 * math.log(2 * math.pi) - log_var / 2 - (x - mu) ** 2 / (2 * torch.exp(log_var))).flatten(1).sum(1)


def transcribed(net: Published, x, y, noise_a, noise_z, beta: float) -> torch.Tensor:
    """The published code's ELBO of one image x taken as of class y: A4's points 4 to 11, net by net."""
    one_hot = torch.eye(net.classes, dtype=x.dtype)[[y]]

    def encoder(module, *given):
        h = module.dense(torch.cat([torch.nn.Sequential.forward(module.trunk, x), *given], dim=1))
        return module.mu(h), torch.nn.functional.softplus(module.log_var(h))

    a_mu, a_log_var = encoder(net.q_a)
    a = a_mu + torch.exp(0.5 * a_log_var) * noise_a
    z_mu, z_log_var = encoder(net.q_z, a, one_hot)
    z = z_mu + torch.exp(0.5 * z_log_var) * noise_z
    p_a = encoder(net.p_a, z, one_hot)
    h = net.p_x.dense(torch.cat([z, one_hot], dim=1)).unflatten(1, (32, net.p_x.maps[0], net.p_x.maps[0]))
    x_mu, x_var = net.p_x.mu_log_var(net.p_x.convolutions(h)).chunk(2, dim=1)
    likelihood = log_gaussian(x, x_mu, torch.nn.functional.softplus(x_var)) / (17 * 17)
    a_kl = log_gaussian(a, a_mu, a_log_var) - log_gaussian(a, *p_a)
    z_kl = log_gaussian(z, z_mu, z_log_var) - log_gaussian(z, torch.zeros_like(z), torch.zeros_like(z))
    prior = torch.log_softmax(torch.ones(1, net.classes, dtype=x.dtype), dim=1)[:, y]
    return likelihood + prior - beta * (a_kl + z_kl)


def test_paper_codes_bound_is_a_transcription_of_its_equations():
    net, K, n_l, n_u = published(), 3, 2, 3
    stream = torch.Generator().manual_seed(1)
    x = torch.rand(n_l + n_u, 1, 17, 17, generator=stream, dtype=torch.float64)
    y = torch.tensor([2, 0])
    noise_a = torch.randn(n_l + n_u, K + 1, TINY["a_dim"], generator=stream, dtype=torch.float64)
    noise_z = torch.randn(n_l + n_u, K, TINY["z_dim"], generator=stream, dtype=torch.float64)
    terms = net(x, y, noise_a, noise_z, (0.3, 0.4))

    def q(i):
        a = net.q_a.mu(h := net.q_a.dense(torch.nn.Sequential.forward(net.q_a.trunk, x[[i]])))
        a = a + torch.exp(0.5 * torch.nn.functional.softplus(net.q_a.log_var(h))) * noise_a[[i], K]
        features = torch.nn.Sequential.forward(net.q_y.trunk, x[[i]])
        return torch.softmax(net.q_y.out(net.q_y.dense(torch.cat([features, a], dim=1))), dim=1)

    L = torch.cat([transcribed(net, x[[i]], int(y[i]), noise_a[[i], 0], noise_z[[i], 0], 0.3) for i in range(n_l)])
    ce = torch.stack([-torch.log(q(i)[0, y[i]] + 1e-8) for i in range(n_l)])
    U = []
    for i in range(n_l, n_l + n_u):
        each = [transcribed(net, x[[i]], k, noise_a[[i], k], noise_z[[i], k], 0.4) for k in range(K)]
        p = q(i)[0]
        U.append((p * torch.cat(each)).sum() - (p * torch.log(p + 1e-8)).sum())
    J = -L.mean() + 7.0 * ce.mean() - torch.stack(U).mean()
    assert torch.allclose(objective(terms, 7.0), J, rtol=1e-9)
    assert torch.allclose(terms.L, -L, rtol=1e-9) and torch.allclose(terms.U, -torch.stack(U), rtol=1e-9)


def test_paper_codes_variances_pixels_and_warm_up():
    g = softplus(torch.zeros(3), torch.tensor([-50.0, 0.0, 3.0]))
    assert torch.allclose(g.log_var, torch.tensor([0.0, math.log(2), 3.0486]), atol=1e-4)
    assert [warmup(step) for step in (0, 1, 49, 50)] == [(0.01, 0.02), (0.03, 0.04), (0.99, 1.0), (1.0, 1.0)]
    net, seen = published(), []
    net.q_a.trunk[0].register_forward_hook(lambda _, args, __: seen.append(args[0]))
    x = torch.rand(2, 1, 17, 17, dtype=torch.float64)
    net.q_a.trunk(x)
    assert torch.equal(seen[0], x)


def test_free_bits_by_hand():
    mu, log_var = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 0.0]])  # 0 and 2 nats
    assert Gaussian(mu, log_var).kl_standard(0.5).tolist() == [2.5]
    assert Gaussian(mu, log_var).kl_standard().tolist() == [2.0]
    torch.manual_seed(0)
    plain = ADGM(classes=2, **TINY).eval()
    floored = ADGM(classes=2, free_bits=50.0, **TINY).eval()
    floored.load_state_dict(plain.state_dict())
    x, y = torch.rand(2, 1, 17, 17), torch.tensor([0, 1])
    noise = torch.randn(2, TINY["a_dim"]), torch.randn(2, TINY["z_dim"])
    one, other = plain(x, y, *noise, 0.5), floored(x, y, *noise, 0.5)
    assert torch.equal(one.KL_z, other.KL_z)
    assert torch.allclose(other.L - one.L, 0.5 * (TINY["z_dim"] * 50 - one.KL_z), rtol=1e-4)


def test_without_z_the_decoder_sees_the_label_alone():
    torch.manual_seed(0)
    net = ADGM(classes=2, use_z=False, **TINY).eval()
    x, y = torch.rand(2, 1, 17, 17), torch.tensor([0, 1])
    a = torch.randn(2, TINY["a_dim"])
    terms, again = (net(x, y, a, torch.randn(2, TINY["z_dim"])) for _ in range(2))
    assert torch.equal(terms.L, again.L) and terms.KL_z.tolist() == [0, 0]
    terms.L.sum().backward()
    assert net.q_z.mu.weight.grad is None and net.p_x.mu_log_var.weight.grad is not None


def test_control_losses_by_hand():
    log_q = torch.log(torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    found = controls.pseudo_label(log_q, 0.8)  # the first and the last are sure enough, the mean is over three
    assert found.item() == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 3)
    assert controls.pseudo_label(log_q, 0.95).item() == 0
    teacher = torch.log(torch.tensor([[0.7, 0.3], [0.6, 0.4], [0.5, 0.5]]))
    assert controls.consistency(log_q, teacher).item() == pytest.approx((2 * 0.04 + 2 * 0.09) / 6)


def steps_of(where, tmp_path, monkeypatch, variant):
    """The first step's labelled images as `variant` sees them, and the net that it starts from."""
    seen, built = [], []
    build = adgm_train.build

    def kept(*args, **sizes):
        net = build(*args, **sizes)
        built.append({name: v.clone() for name, v in net.state_dict().items()})
        net.q_y.trunk.register_forward_hook(lambda _, args, __: seen.append(args[0].clone()))
        return net

    monkeypatch.setattr(adgm_train, "build", kept)
    fit(where, Checkpoints(tmp_path / variant, {}), 1, variant=variant)
    return seen[0][: FIT["batch"]], built[0], len(seen[0])


@pytest.mark.parametrize("variant", CONTROLS)
def test_a_control_arm_starts_as_the_adgms_classifier_and_sees_the_same_labelled_batch(
    data,  # noqa: F811
    tmp_path,
    monkeypatch,
    variant,
):
    whole, start, both = steps_of(data, tmp_path, monkeypatch, "corrected")
    alone, own, images = steps_of(data, tmp_path, monkeypatch, variant)
    assert torch.equal(whole, alone) and images == (len(alone) if variant == "supervised" else both)
    assert own and all(torch.equal(value, start[name]) for name, value in own.items())
    assert {name.split(".")[0] for name in own} == {"q_a", "q_y"}


def test_supervised_never_reads_an_unlabelled_image(data, tmp_path, monkeypatch):  # noqa: F811
    read = set()
    gather = Images.gather
    monkeypatch.setattr(
        Images, "gather", lambda self, rows: len(self) == 50 and read.update(rows.tolist()) or gather(self, rows)
    )
    fit(data, Checkpoints(tmp_path / "s", {}), 2, variant="supervised")
    assert read == set(range(16))
    fit(data, Checkpoints(tmp_path / "p", {}), 1, variant="pseudo_label")
    assert read == set(range(50))


def test_the_teacher_follows_the_student(data, tmp_path, monkeypatch):  # noqa: F811
    moved = []
    follow = adgm_train.follow
    monkeypatch.setattr(
        adgm_train,
        "follow",
        lambda mine, net, decay, step: (moved.append((decay, step)), follow(mine, net, decay, step)),
    )
    fit(data, Checkpoints(tmp_path, {}), 1, variant="mean_teacher", semi=controls.Semi(teacher=0.5))
    assert moved == [pair for step in range(6) for pair in ((0.9, step), (0.5, step))]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_resumes_to_the_same_numbers(data, tmp_path, variant):  # noqa: F811
    own = adgm_train.fixed(variant, 2, 17)
    whole = fit(data, Checkpoints(tmp_path / "whole", {}), 2, variant=variant, **own)
    stopped = Checkpoints(tmp_path / "stopped", {})
    stopped.signal = signal.SIGTERM
    with pytest.raises(SystemExit):
        fit(data, stopped, 2, variant=variant, **own)
    assert same(whole, fit(data, Checkpoints(tmp_path / "stopped", {}), 2, variant=variant, **own))
    assert ("KL_z" in whole.history) == (variant not in CONTROLS)
    assert np.isfinite(whole.history.to_numpy()).all()


def test_what_leaves_nothing_to_train_on_is_one_clear_line(data, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="adgm.beta = 0 leaves variant supervised no loss"):
        fit(data, Checkpoints(tmp_path, {}), 1, variant="supervised", beta=0.0)
    for words, said in ((["--variant", "vae"], "'vae' is not one of"), (["--threshold", "2"], "'--threshold'")):
        given = ["--classes", "2", "--labels", "3", "--draw", "0", "--records", "r", "--store", "s", "--split", "p"]
        given += ["--model", "m", "--predictions", "q", "--report", "h"]
        given = given + (words if "--variant" in words else ["--variant", "corrected", *words])
        done = subprocess.run(
            [sys.executable, "-m", "stages.adgm", *given], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_agreement_tells_a_decoder_that_knows_the_classes_from_one_that_does_not(data):  # noqa: F811
    """Normal is dark in these images: a decoder that draws it dark agrees, one that draws the reverse never does."""
    records, split = (pd.read_parquet(data / f"{name}.parquet") for name in ("records", "split"))
    table = assign(records, split, classes=2, labels=8, seed=0)
    parts = [table[table["role"] != "valid"], table[table["role"] == "valid"]]
    images = [Images([open_store(data / "stores" / "17")], part["image_id"]) for part in parts]
    geometry = {"flip": 0.5, "rotate": 0.0, "scale": (1.0, 1.0), "shift": 0.0}
    net, shares = ADGM(classes=2, **TINY), []
    for levels in ([160 / 255, 60 / 255], [60 / 255, 160 / 255]):

        def drawn(z, y, levels=levels):
            mu = (y @ torch.tensor(levels)).view(-1, 1, 1, 1).expand(-1, 1, 17, 17)
            return Gaussian(mu, torch.zeros_like(mu))

        net.p_x.forward = drawn
        labels = [part["label"].to_numpy() for part in parts]
        found = samples.agreement(net, images[0], labels[0], images[1], labels[1], seed=0, **geometry)
        shares.append(found["agreement"])
        assert found["real"] == 1.0 and found["samples"] == 200 and found["real_n"] == 10
    assert shares == [1.0, 0.0]


def boxes() -> pd.DataFrame:
    """Ten patients; the second has three rows, the ninth two. Rows: 0 | 1 1 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 8 | 9."""
    count = [1, 3, 1, 1, 1, 1, 1, 1, 2, 1]
    ids = [f"r{9 - i}" for i in range(10)]  # file order is not the order of the names
    kinds = [0, 0, 2, 1, 2, 2, 0, 1, 0, 2]
    rows = {"image_id": ids, "patient_id": ids, "class_name": [CLASSES[k] for k in kinds]}
    return pd.DataFrame(
        rows | {"boxes": [[[0, 0, 1, 1]] * n if k == 0 else [] for n, k in zip(count, kinds, strict=True)]}
    )


def test_file_order_takes_the_rows_that_the_published_code_takes():
    records = boxes()  # 13 rows, 10 patients: rows 0..2 train, 3..9 validate, 10..12 are never used
    split = file_order(records, valid_share=0.7)
    rows = {(i, s): n for i, s, n in split[["image_id", "split", "rows"]].itertuples(index=False)}
    assert rows == {
        ("r9", "train"): 1, ("r8", "train"): 2, ("r8", "valid"): 1, ("r7", "valid"): 1, ("r6", "valid"): 1,
        ("r5", "valid"): 1, ("r4", "valid"): 1, ("r3", "valid"): 1, ("r2", "valid"): 1, ("r1", "unused"): 2,
        ("r0", "unused"): 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="needs the boxes of RSNA's records"):
        file_order(records.drop(columns="boxes"), valid_share=0.1)
    with pytest.raises(ValueError, match="split.valid_share = 0.0 leaves no row"):
        file_order(records, valid_share=0.0)


def test_the_papers_cut_is_at_row_24015_of_26684():
    records = pd.DataFrame({"image_id": [f"{i:05d}" for i in range(26684)]})
    records = records.assign(patient_id=records["image_id"], boxes=[[]] * 26684)
    assert (file_order(records, valid_share=0.1)["split"] == "valid").idxmax() == 24015


def test_labels_in_file_order_are_the_first_rows_and_rows_repeat():
    records = boxes()
    split = file_order(records, valid_share=0.3)  # rows 0..6 train: r9, r8 three times, r7, r6, r5
    table = assign(records, split, classes=2, labels=2, seed=5)
    train = table[table["role"] != "valid"]
    assert list(train["image_id"]) == ["r9", "r8", "r7", "r8", "r8", "r6", "r5"]  # labelled first
    assert list(train.loc[train["role"] == "labelled", "image_id"]) == ["r9", "r8", "r7"]  # nine tenths of 2
    assert table.loc[table["role"] == "valid", "rows"].tolist() == [1, 1, 1]


def test_guard_lets_the_cut_through_only_where_the_split_says_so():
    records = boxes()
    split = file_order(records, valid_share=0.7)
    train = split[split["split"] == "train"]
    guard(train, split, by="file_order", what="t")
    with pytest.raises(ValueError, match="1 validation or test images would be trained on, the first is 'r8'"):
        guard(train, split, by="patient", what="t")
    for image in ("r7", "r0"):  # validated on, never used
        with pytest.raises(ValueError, match=f"would be trained on, the first is '{image}'"):
            guard(split[split["image_id"] == image], split, by="file_order", what="t")


def test_an_image_counts_once_for_each_of_its_rows(tmp_path):
    table = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["a", "b"], "split": "valid", "split_sha256": "0"})
    table = table.assign(label=[0, 1], rows=[3, 1])
    for which in ("last", "best"):
        table[f"prob_{which}.0"], table[f"prob_{which}.1"] = [0.75, 0.5], [0.25, 0.5]
    table.to_parquet(tmp_path / "p.parquet")
    assert read_adgm(tmp_path / "p.parquet", 2, "adgm@x")["image_id"].tolist() == ["a", "a", "a", "b"]
    table.assign(rows=[0, 1]).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="rows is 0 for 'a', must be a whole number from 1 on; `dvc repro -f adgm@x`"):
        read_adgm(tmp_path / "p.parquet", 2, "adgm@x")
