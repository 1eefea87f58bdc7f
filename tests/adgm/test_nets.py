"""The nets and the bound: equations 1 to 11 against brute force, the published sizes, and what keeps numbers finite."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from cxr.adgm.nets import ADGM, Gaussian, active_units, decoder_maps, encoder_maps, objective, rows, shares_of
from tests.adgm.make import TINY, batch, tiny


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
    objective(net(x, y, noise_a, noise_z), alpha=5.0, shares=(1.0, 1.0)).backward()
    expected = torch.zeros(2, 3, dtype=torch.float64)
    expected[[0, 1], y] = -5.0 / 2
    assert torch.allclose(outputs[0].grad[:2], expected)


def test_J_adds_means_of_both_kinds_by_their_shares():
    net = tiny()
    t = net(*batch(5, 3, 2))
    by_hand = 0.25 * (t.L.mean() + 2 * t.ce.mean()) + 0.75 * t.U.mean()
    assert objective(t, 2.0, (0.25, 0.75)).item() == pytest.approx(by_hand.item())


def test_eq_11_sums_over_images():
    """Over all images at once, J times their number is the sum; means weigh a labelled one N_u / N_l too much."""
    net = tiny()
    t = net(*batch(5, 3, 2))
    n_l, n_u = len(t.L), len(t.U)
    total = (t.L + 2 * t.ce).sum() + t.U.sum()
    assert objective(t, 2.0, shares_of("sum", n_l, n_u)).item() * (n_l + n_u) == pytest.approx(total.item())
    summed, mean = shares_of("sum", 200, 23_815), shares_of("mean", 200, 23_815)
    assert (mean[0] / mean[1]) / (summed[0] / summed[1]) == pytest.approx(23_815 / 200)  # 119 at 100 labels a class


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
    g = Gaussian.from_outputs(
        torch.zeros(4, dtype=torch.bfloat16), torch.tensor([-1e6, -0.1, 0.0, 1e6], dtype=torch.bfloat16)
    )
    assert g.mu.dtype == torch.float32
    assert torch.allclose(g.log_var, torch.tensor([-8.0, -0.1, 0.0, 8.0]), atol=1e-3)


def test_active_units_by_hand():
    mu = torch.tensor([[0.0, 1.0, 0.3], [0.3, 1.1, 0.3]])  # variances 0.0225, 0.0025, 0
    assert active_units(mu) == 1


def test_the_loss_of_samples_teaches_the_decoder_alone():
    torch.manual_seed(0)
    net = ADGM(classes=2, **TINY).train()
    before = {name: value.clone() for name, value in net.state_dict().items() if not name.startswith("p_x.")}
    noise = torch.randn(6, TINY["z_dim"])
    loss = net.sample_ce(noise)
    loss.backward()
    taught = {name.split(".")[0] for name, weight in net.named_parameters() if weight.grad is not None}
    assert taught == {"p_x"} and net.q_y.training and all(weight.requires_grad for weight in net.parameters())
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())  # running means as well
    optimiser = torch.optim.Adam(net.p_x.parameters(), lr=0.01)
    for _ in range(30):
        optimiser.zero_grad()
        net.sample_ce(noise).backward()
        optimiser.step()
    assert net.sample_ce(noise) < 0.5 * loss


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
    first, second = (net(x, y, a, torch.randn(2, TINY["z_dim"])) for _ in range(2))
    assert torch.equal(first.L, second.L) and first.KL_z.tolist() == [0, 0]
    first.L.sum().backward()
    assert net.q_z.mu.weight.grad is None and net.p_x.mu_log_var.weight.grad is not None


@pytest.mark.parametrize("classes", [2, 3])
def test_rows_are_those_of_an_index_and_so_are_their_gradients(classes):
    values = torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True)
    index = torch.cat([torch.arange(4), torch.arange(4, 7).repeat_interleave(classes)])
    made, weights = rows(values, 4, classes), torch.randn(4 + 3 * classes, 2, 3, dtype=torch.float64)
    assert torch.equal(made, values[index]) and torch.equal(rows(values[:4], 4, classes), values[:4])
    one, other = (torch.autograd.grad((v * weights).sum(), values)[0] for v in (made, values[index]))
    assert torch.allclose(one, other, rtol=1e-15)
