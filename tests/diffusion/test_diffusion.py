"""The diffusion model: its equations, its training, its samples."""

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.core.store import open_store, write_store
from cxr.diffusion import net as diffusion_net
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


def test_the_preconditioning_is_that_of_the_paper():
    sigma, spread = torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64), 0.5
    c_skip, c_out, c_in = (c.flatten() for c in diffusion_net.scales(sigma, spread))
    assert torch.allclose(c_skip, 0.25 / (sigma**2 + 0.25)) and torch.allclose(c_in, (sigma**2 + 0.25) ** -0.5)
    # Their eq. 8: with w = 1 / c_out^2 the loss of F has the same weight at every noise level.
    assert torch.allclose((sigma**2 + 0.25) / (sigma * spread) ** 2, 1 / c_out**2)
    # The target of F has unit variance whatever the noise level (their appendix B.6).
    x, n = (torch.randn(3, 200_000, dtype=torch.float64) * s for s in (spread, 1.0))
    noisy = x + sigma[:, None] * n
    target = (x - c_skip[:, None] * noisy) / c_out[:, None]
    assert torch.allclose(target.var(1), torch.ones(3, dtype=torch.float64), atol=0.02)


def test_noise_levels_are_stratified_lognormal():
    levels = noise_levels(1000, TINY, generator(0)).log()
    assert levels.mean() == pytest.approx(TINY.p_mean, abs=0.01) and levels.std() == pytest.approx(TINY.p_std, abs=0.02)
    assert not torch.equal(levels, levels.sort().values)


def test_the_solver_ends_at_the_only_image_there_is():
    """With one training image x, the best denoiser is D = x at every noise level; F follows from it."""
    spread, x = 0.5, torch.linspace(-1, 1, 32 * 32).reshape(1, 1, 32, 32)

    def best(scaled, sigma, y, given, geometry):
        c_skip, c_out, c_in = diffusion_net.scales(sigma, spread)
        return (x - c_skip * scaled / c_in) / c_out

    noise = torch.randn(2, 1, 32, 32, generator=generator(1))
    made = diffusion_net.solve(best, noise, torch.zeros(2, 3), TINY, spread)
    assert torch.allclose(made, x.expand(2, -1, -1, -1), atol=0.02)


def test_guidance_moves_away_from_the_unconditional_output():
    def net(scaled, sigma, y, given, geometry):
        return torch.where(given[:, None, None, None], 0.2, 0.1) * torch.ones_like(scaled)

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
    still = {"epochs": 20, "lr": 6e-3, "patch": 8, "levels": 1, "rotate": 0.0, "shift": 0.0, "p_mean": 2.0}
    result = trained(images, tmp_path, TINY.model_copy(update=still))
    sigma, y = torch.full((16,), 20.0), torch.tensor([[1.0], [0.0]]).repeat(8, 1)
    noise = torch.randn(16, 1, 32, 32, generator=generator(5))
    c_skip, c_out, c_in = diffusion_net.scales(sigma, result.spread)
    with torch.no_grad():
        given = torch.ones(16, dtype=bool)
        seen = c_skip * 20 * noise + c_out * result.net(c_in * 20 * noise, sigma, y, given, None)
    contrast = seen[..., :16].mean((1, 2, 3)) - seen[..., 16:].mean((1, 2, 3))
    assert (contrast[::2] > 0.4).all() and (contrast[1::2] < -0.4).all()  # at most 1.4
    assert result.history["loss"].iloc[-1] < 0.5 * result.history["loss"].iloc[0]


def test_image_i_is_the_same_however_many_are_drawn(images):
    net = diffusion_net.build(TINY, 1, 0.5)
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
        diffusion_net.build(TINY.model_copy(update={"size": 64, "levels": 6}), 1, 0.5)
