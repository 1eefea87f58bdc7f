"""The diffusion model: its equations, its training, its samples."""

import contextlib

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.core.store import open_store, write_store
from cxr.diffusion import net as diffusion_net
from cxr.diffusion.prior import Prior, principal
from cxr.diffusion.settings import Settings
from cxr.diffusion.train import fit, noise_levels, spread_of
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric, generator

TINY = Settings(size=32, epochs=2, batch=8, width=8, levels=2, blocks=1, patch=4, average=0.9, sampler_steps=4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """64 images of 32 px: bright at the left where the condition is 1, at the right where it is 0."""
    rng = np.random.default_rng(0)
    y = (np.arange(64) % 2).astype(np.float32)[:, None]
    pixels = rng.integers(0, 40, (64, 32, 32))
    pixels[:, :, :16] += (180 * y.astype(int))[:, :, None]
    pixels[:, :, 16:] += (180 * (1 - y.astype(int)))[:, :, None]
    folder = tmp_path_factory.mktemp("store")
    ids = pd.DataFrame({"image_id": [f"i{k}" for k in range(64)]})
    write_store(folder / "32", pixels.astype(np.uint8), ids)
    return Images([open_store(folder / "32")], ids["image_id"]), y


def trained(images, folder, settings=TINY, minutes=60.0):
    data, y = images
    checkpoints = Checkpoints(folder, {"params": {}}, minutes)
    return fit(fabric("32-true"), data, y, checkpoints, settings, label="diffusion@0")


def test_the_scalar_prior_is_the_preconditioning_of_the_paper(images):
    sigma, spread = torch.tensor([0.01, 0.5, 20.0]), 0.5
    prior = Prior(TINY.model_copy(update={"prior": "scalar"}), 1)
    prior.estimate(*images, spread)
    x = torch.randn(3, 1, 32, 32, generator=generator(2))
    linear, c_out = prior(x, sigma, torch.ones(3, 1), torch.ones(3, dtype=bool))
    c_skip = spread**2 / (sigma**2 + spread**2)
    assert torch.allclose(linear, c_skip.view(-1, 1, 1, 1) * x, atol=1e-5)
    assert torch.allclose(c_out.flatten(), sigma * spread / (sigma**2 + spread**2).sqrt(), rtol=1e-4)


@pytest.fixture(scope="module")
def correlated(tmp_path_factory):
    """1,000 images of 32 px: a bright disc of random brightness, a gradient by the condition, and fine noise."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(1000, 1)).astype(np.float32)
    rows, columns = np.mgrid[:32, :32] / 31 - 0.5
    disc = np.hypot(rows, columns) < 0.3
    fine = rng.normal(size=(1000, 32, 32)) * 6
    x = 128 + 20 * rng.normal(size=(1000, 1, 1)) * disc + 25 * y[:, :, None] * columns + fine
    ids = pd.DataFrame({"image_id": [f"i{k}" for k in range(1000)]})
    folder = tmp_path_factory.mktemp("correlated")
    write_store(folder / "32", x.round().clip(0, 255).astype(np.uint8), ids)
    return Images([open_store(folder / "32")], ids["image_id"]), y


def test_the_gaussian_prior_is_wieners_filter_and_knows_its_error(correlated):
    data, y = correlated
    settings = TINY.model_copy(update={"components": 8})
    prior = Prior(settings, 1)
    prior.estimate(data, y, spread_of(data))
    x = data.gather(torch.arange(1000)).float() / 127.5 - 1
    condition, given = torch.from_numpy(y), torch.ones(1000, dtype=bool)
    centred = (x.flatten(1) - (prior.mean + condition @ prior.effect)).double()
    covariance = centred.T @ centred / 1000
    for level in (0.1, 0.5, 2.0):
        noisy = x + level * torch.randn(x.shape, generator=generator(6))
        sigma = torch.full((1000,), level)
        linear, c_out = prior(noisy, sigma, condition, given)
        assert float((linear - x).square().mean().sqrt()) == pytest.approx(float(c_out[0]), rel=0.02)
        filtered = (noisy.flatten(1) - (prior.mean + condition @ prior.effect)).double()
        filtered = torch.linalg.solve(covariance + level**2 * torch.eye(1024), filtered.T).T @ covariance
        best = (filtered - centred).square().mean().sqrt()
        assert float(c_out[0]) == pytest.approx(float(best), rel=0.1)  # that one knows these images' covariance
        blind, _ = prior(noisy, sigma, condition, ~given)
        assert float((blind - x).square().mean()) > float((linear - x).square().mean())


@pytest.mark.parametrize(("gpu", "expected"), [(True, torch.contiguous_format), (False, torch.channels_last)])
def test_weights_and_maps_lie_in_memory_as_the_device_wants_them(monkeypatch, gpu, expected):
    """On an H100 a step with the channels last took 78 ms in place of 55: group norm copies such maps."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(diffusion_net, "seeded", lambda *key: contextlib.nullcontext())  # it would ask for the GPU
    seen = []
    net = diffusion_net.build(TINY, 1)
    net.unet.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x, one = torch.zeros(2, 1, TINY.size, TINY.size), torch.ones(2)
    net(x, x, one, one[:, None], one.bool(), None)
    for tensor in (*seen, *(w for w in net.unet.parameters() if w.dim() == 4 and min(w.shape[1:]) > 1)):
        assert tensor.is_contiguous(memory_format=expected)
        assert not tensor.is_contiguous() or expected is torch.contiguous_format


def test_images_of_the_prior_alone_have_the_training_images_moments(correlated):
    """F is 0 at first, so the solver draws from the Gaussian distribution of the prior."""
    data, y = correlated
    settings = TINY.model_copy(update={"components": 8, "sampler_steps": 16, "sigma_min": 0.002})  # its grain is kept
    net = diffusion_net.build(settings, 1)
    net.prior.estimate(data, y, spread_of(data))
    made = diffusion_net.sample(net, y[:400], settings, spread_of(data), 3, device="cpu").astype(float)
    real = data.gather(torch.arange(1000))[:, 0].numpy().astype(float)
    assert np.abs(made.mean(0) - real.mean(0)).max() < 6
    assert made[:, 12:20, 12:20].mean((1, 2)).std() == pytest.approx(real[:, 12:20, 12:20].mean((1, 2)).std(), rel=0.15)
    fine = [np.diff(part[:, :4], axis=1).std() for part in (made, real)]
    assert fine[0] == pytest.approx(fine[1], rel=0.1)
    tilt = [part[:, :, -4:].mean((1, 2)) - part[:, :, :4].mean((1, 2)) for part in (made, real)]
    assert np.corrcoef(tilt[0], y[:400, 0])[0, 1] > 0.9 * np.corrcoef(tilt[1][:400], y[:400, 0])[0, 1]


def test_components_of_fewer_images_than_components():
    x = torch.randn(5, 40, dtype=torch.float64, generator=generator(0))
    basis, variance = principal(x - x.mean(0), 8)
    assert basis.shape == (8, 40) and (basis[4:] == 0).all() and (variance[4:] == 0).all()
    assert torch.allclose(basis[:4] @ basis[:4].T, torch.eye(4, dtype=x.dtype))
    assert float(variance.sum()) == pytest.approx(float((x - x.mean(0)).square().mean(0).sum()))


def test_noise_levels_are_stratified_lognormal():
    levels = noise_levels(1000, TINY, generator(0)).log()
    assert levels.mean() == pytest.approx(TINY.p_mean, abs=0.01) and levels.std() == pytest.approx(TINY.p_std, abs=0.02)
    assert not torch.equal(levels, levels.sort().values)


class Certain:
    """A prior that knows the only image x."""

    def __init__(self, x):
        self.x = x

    def __call__(self, noisy, sigma, y, given):
        return self.x.expand(len(noisy), -1, -1, -1), torch.ones(len(noisy), 1, 1, 1)

    def draw(self, noise, sigma, y):
        return self.x + sigma * noise


def test_the_solver_ends_at_the_only_image_there_is():
    """With one training image x, the best denoiser is D = x at every noise level; F follows from it."""
    spread, x = 0.5, torch.linspace(-1, 1, 32 * 32).reshape(1, 1, 32, 32)

    class Best(torch.nn.Module):
        prior = Certain(x)

        def forward(self, scaled, linear, sigma, y, given, geometry):
            return torch.zeros_like(scaled)

    best = Best()
    noise = torch.randn(2, 1, 32, 32, generator=generator(1))
    made = diffusion_net.solve(best, noise, torch.zeros(2, 3), TINY, spread)
    assert torch.allclose(made, x.expand(2, -1, -1, -1), atol=0.02)


def test_the_last_level_is_sigma_min_and_one_step_clears_it():
    levels = []

    class Net(torch.nn.Module):
        prior = Certain(torch.zeros(1, 1, 32, 32))

        def forward(self, scaled, linear, sigma, y, given, geometry):
            levels.append(float(sigma[0]))
            return torch.zeros_like(scaled)

    settings = TINY.model_copy(update={"sampler_steps": 5, "guidance": 1.0, "sigma_min": 0.07})
    ends = []
    made = diffusion_net.solve(
        Net(),
        torch.ones(1, 1, 32, 32),
        torch.zeros(1, 3),
        settings,
        0.5,
        after=lambda x, level: ends.append(level) or x,
    )
    assert levels == sorted(levels, reverse=True) and len(levels) == 5
    assert levels[0] == pytest.approx(settings.sigma_max) and levels[-1] == pytest.approx(0.07, rel=1e-4)
    assert float(ends[-1]) == 0 and torch.allclose(made, torch.zeros(1), atol=1e-6)


def test_guidance_moves_away_from_the_unconditional_output():
    class Net(torch.nn.Module):
        prior = Certain(torch.zeros(1, 1, 32, 32))

        def forward(self, scaled, linear, sigma, y, given, geometry):
            return torch.where(given[:, None, None, None], 0.2, 0.1) * torch.ones_like(scaled)

    net = Net()
    noise = torch.zeros(1, 1, 32, 32)
    plain, none, strong = (
        diffusion_net.solve(net, noise, torch.zeros(1, 3), TINY.model_copy(update={"guidance": w}), 0.5).mean()
        for w in (1.0, 0.0, 3.0)
    )
    assert none < plain < strong


def test_a_training_repeats_to_the_byte_and_resumes_exactly(images, tmp_path):
    one, two = trained(images, tmp_path / "a"), trained(images, tmp_path / "b")
    half = trained(images, tmp_path / "c", TINY.model_copy(update={"epochs": 1}), minutes=0.0)
    whole = trained(images, tmp_path / "c")  # continues after the first epoch
    assert half.epochs == 1 and len(whole.history) == 2
    for name, value in one.net.state_dict().items():
        assert torch.equal(value, two.net.state_dict()[name]) and torch.equal(value, whole.net.state_dict()[name]), name
    assert one.history.equals(two.history) and one.history.equals(whole.history)


def test_it_learns_what_its_condition_means(images, tmp_path):
    """Where the noise hides everything, the denoiser's answer is the mean image of the condition."""
    still = {
        "epochs": 20,
        "lr": 6e-3,
        "patch": 8,
        "levels": 1,
        "prior": "scalar",
        "rotate": 0.0,
        "shift": 0.0,
        "p_mean": 2.0,
    }
    result = trained(images, tmp_path, TINY.model_copy(update=still))
    sigma, y = torch.full((16,), 20.0), torch.tensor([[1.0], [0.0]]).repeat(8, 1)
    noise = torch.randn(16, 1, 32, 32, generator=generator(5))
    with torch.no_grad():
        given = torch.ones(16, dtype=bool)
        seen = diffusion_net.denoise(result.net, 20 * noise, sigma, y, given, result.spread).denoised
    contrast = seen[..., :16].mean((1, 2, 3)) - seen[..., 16:].mean((1, 2, 3))
    assert (contrast[::2] > 0.4).all() and (contrast[1::2] < -0.4).all()  # at most 1.4
    assert result.history["loss"].iloc[-1] < 0.5 * result.history["loss"].iloc[0]


def test_image_i_is_the_same_however_many_are_drawn(images):
    net = diffusion_net.build(TINY, 1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.02)
    y = np.ones((70, 1), np.float32)
    many, few = (diffusion_net.sample(net, y[:n], TINY, 0.5, 3, device="cpu").astype(int) for n in (70, 66))
    assert many.shape == (70, 32, 32) and np.abs(many[:66] - few).max() <= 1
    assert diffusion_net.sample(net, y[:0], TINY, 0.5, 3, device="cpu").shape == (0, 32, 32)


def test_the_spread_is_that_of_the_pixels(images):
    data, _ = images
    pixels = data.gather(torch.arange(64)).double() / 127.5 - 1
    assert spread_of(data) == pytest.approx(float(pixels.std(correction=0)), abs=1e-4)


def test_maps_that_cannot_be_halved_are_one_line_with_the_cure():
    with pytest.raises(ValueError, match=r"diffusion.levels = 6: maps of 16 pixels .* choose fewer levels"):
        diffusion_net.build(TINY.model_copy(update={"size": 64, "levels": 6}), 1)
