"""The losses by hand, and the penalties on the discriminator's slope."""

import math
from typing import get_args

import pytest
import torch

from cxr.gan import losses
from cxr.gan.settings import Loss
from cxr.training.machine import generator

LOGITS = torch.tensor([0.5, 3.0]), torch.tensor([-0.5, -2.0])  # on real images, on generated ones


def test_one_sided_label_smoothing_by_hand():
    """D(x) = 1/2 and 3/4, s = 0.1: -(0.9 log 1/2 + 0.1 log 1/2) and -(0.9 log 3/4 + 0.1 log 1/4), their mean."""
    logits = torch.tensor([0.0, math.log(3)])
    expected = (math.log(2) - 0.9 * math.log(0.75) - 0.1 * math.log(0.25)) / 2
    assert losses.Minimax(0.1).on_real(logits).item() == pytest.approx(expected, rel=1e-6)
    assert losses.Minimax().on_real(logits).item() == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2)


def test_the_generators_loss_by_hand():
    """D(G(z)) = 1/2 and 3/4: climbing log D(G(z)), and descending log(1 - D(G(z))) as printed."""
    logits = torch.tensor([0.0, math.log(3)], requires_grad=True)
    for saturating, expected, slope in (
        (False, -(math.log(0.5) + math.log(0.75)) / 2, [-1 / 4, -1 / 8]),  # by a logit: -(1 - D) / N
        (True, (math.log(0.5) + math.log(0.25)) / 2, [-1 / 4, -3 / 8]),  # -D / N: next to none where D is sure
    ):
        loss = losses.Minimax(saturating=saturating).g(logits)
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        assert torch.autograd.grad(loss, logits)[0].tolist() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "d", "g"),
    [
        # p(x) = 1 / (1 + exp(-D)): -mean log p(x) - mean log(1 - p(G(z))), -mean log p(G(z))
        (
            "minimax",
            sum(math.log1p(math.exp(-v)) for v in (0.5, 3.0, 0.5, 2.0)) / 2,
            (math.log1p(math.exp(0.5)) + math.log1p(math.exp(2.0))) / 2,
        ),
        ("hinge", (0.5 + 0) / 2 + (0.5 + 0) / 2, 1.25),  # 1 - 0.5 counts and 1 - 3 doesn't; 1 - 0.5 and not 1 - 2
        ("least_squares", (0.25 + 4) / 4 + (0.25 + 4) / 4, (2.25 + 9) / 4),
        ("wgan_gp", -1.25 - 1.75, 1.25),
    ],
)
def test_each_loss_by_hand(name, d, g):
    loss = losses.choose(name, 0.0, False)
    assert loss.d(*LOGITS).item() == pytest.approx(d, rel=1e-6)
    assert loss.g(LOGITS[1]).item() == pytest.approx(g, rel=1e-6)


@pytest.mark.parametrize("name", get_args(Loss))
def test_d_wants_real_logits_higher_and_g_wants_those_of_its_images_higher(name):
    loss = losses.choose(name, 0.0, False)
    real, generated = (torch.zeros(3, requires_grad=True) for _ in range(2))
    by_real, by_generated = torch.autograd.grad(loss.d(real, generated), (real, generated))
    (by_g,) = torch.autograd.grad(loss.g(generated), generated)
    assert (by_g < 0).all() and (by_real < 0).all() and (by_generated >= 0).all()


def test_the_slopes_by_hand():
    """D(x) = w (a . x) has the slope w a at every image: |w a|^2 = 25 w^2, whose derivative by w is 50 w."""
    a, w = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2), torch.tensor(2.0, requires_grad=True)
    x = torch.randn(5, 1, 1, 2)
    squared = losses.squared_slope(lambda v: w * (a * v).sum((1, 2, 3)), x)
    assert squared.item() == pytest.approx(100) and torch.autograd.grad(squared, w)[0].item() == pytest.approx(100)
    penalty = losses.slope_from_one(lambda v: (a * v).sum((1, 2, 3)), x, -x, losses.shares(len(x), generator(0)))
    assert penalty.item() == pytest.approx((5 - 1) ** 2, rel=1e-6)


def test_wgan_gp_looks_between_a_real_and_a_generated_image():
    """D(v) = |v|^2 / 2 has the slope v, here e x + (1 - e) 0 = e (3, 4), so that its length is 5 e."""
    x = torch.tensor([3.0, 4.0]).expand(6, 1, 1, 2)
    shares = losses.shares(6, generator(1))
    assert 0 <= shares.min() < 0.5 < shares.max() <= 1
    half = lambda v: v.square().sum((1, 2, 3)) / 2  # noqa: E731
    penalty = losses.slope_from_one(half, x, torch.zeros_like(x), shares)
    assert penalty.item() == pytest.approx(float((5 * shares - 1).square().mean()), rel=1e-6)


def test_slopes_are_float32_in_a_training_of_lower_precision():
    torch.manual_seed(0)
    d = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(16, 1))
    x = torch.randn(3, 1, 4, 4)
    full = losses.slopes(d, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert d(x).dtype == torch.bfloat16
        assert torch.equal(losses.slopes(d, x), full) and full.dtype == torch.float32
        assert torch.equal(losses.slopes(d, x.bfloat16()), losses.slopes(d, x.bfloat16().float()))


def test_a_flat_discriminator_has_a_finite_gradient():
    w = torch.zeros(1, requires_grad=True)
    penalty = losses.slope_from_one(
        lambda v: w * v.sum((1, 2, 3)), torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), torch.rand(2, 1, 1, 1)
    )
    assert penalty.item() == 1 and torch.isfinite(torch.autograd.grad(penalty, w)[0]).all()
