"""The DCGAN's nets: the paper's sizes, the initialisation that trains, labels, spectral norm, what is generated."""

import numpy as np
import pytest
import torch

from cxr.gan import nets


def test_the_papers_nets_have_the_papers_size():
    g, d = nets.build(128, 100, 64, 3, seed=0)
    assert sum(p.numel() for p in g.parameters()) == 12_786_560
    assert sum(p.numel() for p in d.parameters()) == 11_164_416


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (64, 3), (256, 1)])
def test_shapes_follow_the_size(size, channels):
    g, d = nets.build(size, 7, 2, channels, seed=0)
    x = g(torch.randn(2, 7, 1, 1))
    assert x.shape == (2, channels, size, size) and x.abs().max() <= 1
    assert d(x).shape == (2, 1, 1, 1)


def test_initialisation_is_that_of_the_cited_code():
    g, d = nets.build(64, 100, 64, 1, seed=0)
    convolutions = torch.cat(
        [m.weight.flatten() for n in (g, d) for m in n if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    )
    gains = torch.cat([m.weight for n in (g, d) for m in n if isinstance(m, torch.nn.BatchNorm2d)])
    assert abs(convolutions.mean()) < 1e-4 and abs(convolutions.std() - 0.02) < 1e-4
    assert (
        abs(gains.mean() - 1) < 0.005 and abs(gains.std() - 0.02) < 0.002
    )  # the paper's N(0, 0.02) would kill the signal (E23)
    assert all((m.bias == 0).all() for n in (g, d) for m in n if isinstance(m, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("gain", [0.0, 1.0, 1.5])
def test_the_initial_gains_have_the_mean_asked_for_and_the_draws_of_the_others(gain):
    """As many normal draws from one stream: the gains move by the difference of the means, all else stays."""
    start, moved = nets.build(64, 100, 64, 1, seed=0), nets.build(64, 100, 64, 1, seed=0, gain=gain)
    for one, other in zip(start, moved, strict=True):
        norms = {f"{name}.weight" for name, m in one.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
        assert norms
        for name, value in one.state_dict().items():
            expected = value + (gain - 1) if name in norms else value
            assert torch.allclose(other.state_dict()[name], expected, rtol=0, atol=1e-6), name
    gains = torch.cat([m.weight for net in moved for m in net if isinstance(m, torch.nn.BatchNorm2d)])
    assert abs(gains.mean() - gain) < 0.005 and abs(gains.std() - 0.02) < 0.002


def test_a_size_that_does_not_double_is_refused():
    with pytest.raises(ValueError, match="gan.size = 100: .* choose 16, 32, 64, 128, 256 or 512"):
        nets.levels(100)


def test_image_i_is_the_same_however_many_are_generated():
    g, _ = nets.build(16, 5, 4, 1, seed=0)
    few, many = (nets.generate(g, n, 5, 1, 2, device="cpu", batch=8) for n in (5, 20))
    assert few.shape == (5, 16, 16) and np.array_equal(few, many[:5])
    assert nets.generate(g, 0, 5, 1, device="cpu").shape[0] == 0


def test_a_conditional_generator_depends_on_its_labels_and_the_discriminator_too():
    g, d = nets.build(16, 5, 4, 1, seed=0, labels=2)
    one, other, mixed = (np.tile(np.array(y, np.float32), (3, 1)) for y in ([1, 0], [0, 1], [1, 1]))
    made = [nets.generate(g, 3, 5, 1, device="cpu", labels=y).astype(int) for y in (one, other, mixed, one)]
    assert np.array_equal(made[0], made[3])
    assert all(np.abs(made[0] - x).max() > 0 for x in made[1:3])
    x = torch.zeros(3, 1, 16, 16)
    logits = [d.eval()(nets.beside_image(x, torch.from_numpy(y))) for y in (one, other)]
    assert logits[0].shape == (3, 1, 1, 1) and not torch.equal(*logits)


def test_label_maps_hold_each_label_over_the_whole_image():
    x = nets.beside_image(torch.zeros(1, 1, 4, 4), torch.tensor([[1.0, 0.25]]))
    assert x.shape == (1, 3, 4, 4) and x[0].mean((1, 2)).tolist() == [0, 1, 0.25] and (x[0].std((1, 2)) == 0).all()
    assert nets.beside_noise(torch.zeros(2, 5, 1, 1), torch.ones(2, 3)).sum((0, 2, 3)).tolist() == [0] * 5 + [2] * 3


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    _, d = nets.build(32, 5, 8, 1, seed=0, bounded=True)
    convolutions = [m for m in d if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 4 and not any(isinstance(m, torch.nn.BatchNorm2d) for m in d)
    for _ in range(10):
        d(torch.randn(2, 1, 32, 32))
    for m in convolutions:
        assert torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)
        assert not m.bias.any()


def test_without_labels_and_bounds_the_nets_are_those_of_the_seed_alone():
    plain, same = nets.build(16, 5, 4, 1, seed=2), nets.build(16, 5, 4, 1, seed=2, labels=0, bounded=False)
    for one, other in zip(plain, same, strict=True):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
