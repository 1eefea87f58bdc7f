"""The published code's bound, transcribed net by net, and its variances and pixels."""

import math

import torch

from cxr.adgm.nets import objective
from cxr.adgm.published import Published, softplus
from tests.adgm.make import TINY


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
    assert torch.allclose(objective(terms, 7.0, (1.0, 1.0)), J, rtol=1e-9)
    assert torch.allclose(terms.L, -L, rtol=1e-9) and torch.allclose(terms.U, -torch.stack(U), rtol=1e-9)


def test_paper_codes_variances_and_pixels():
    g = softplus(torch.zeros(3), torch.tensor([-50.0, 0.0, 3.0]))
    assert torch.allclose(g.log_var, torch.tensor([0.0, math.log(2), 3.0486]), atol=1e-4)
    net, seen = published(), []
    net.q_a.trunk[0].register_forward_hook(lambda _, args, __: seen.append(args[0]))
    x = torch.rand(2, 1, 17, 17, dtype=torch.float64)
    net.q_a.trunk(x)
    assert torch.equal(seen[0], x)
