"""DiffAugment against a loop over images, and what it must not do."""

import numpy as np
import pytest
import torch

from cxr.gan import diffaugment
from cxr.gan.settings import AUGMENTATIONS, augmentations
from cxr.training.machine import generator


def looped(image: np.ndarray, drawn: dict, k: int) -> np.ndarray:
    """One image C x S x S under all three, pixel by pixel."""
    image = image + float(drawn["brightness"][k])
    image = (image - image.mean()) * float(drawn["contrast"][k]) + image.mean()
    size = image.shape[-1]
    (down, right), (top, left) = drawn["shift"][k].tolist(), drawn["corner"][k].tolist()
    result = np.zeros_like(image)
    for i in range(size):
        for j in range(size):
            inside = 0 <= i - down < size and 0 <= j - right < size
            cut = top <= i < top + size // 2 and left <= j < left + size // 2
            if inside and not cut:
                result[:, i, j] = image[:, i - down, j - right]
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_loop(channels):
    images = torch.rand(6, channels, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn = diffaugment.draw(6, 16, generator(1))
    found = diffaugment.apply(images, drawn, AUGMENTATIONS).numpy()
    for k in range(6):
        assert found[k] == pytest.approx(looped(images[k].numpy(), drawn, k), abs=1e-5)


def test_the_same_key_gives_the_same_transform_and_another_another():
    x = torch.rand(8, 1, 16, 16)

    def once(*key: int) -> torch.Tensor:
        return diffaugment.apply(x, diffaugment.draw(8, 16, generator(*key)), AUGMENTATIONS)

    assert torch.equal(once(0, 7, 3, 2), once(0, 7, 3, 2))
    assert not torch.equal(once(0, 7, 3, 2), once(0, 7, 3, 3)) and not torch.equal(once(0, 7, 3, 2), once(0, 7, 4, 2))
    stream = generator(0)
    one, other = (diffaugment.draw(8, 16, stream) for _ in range(2))
    assert not torch.equal(one["brightness"], other["brightness"])


def test_draws_stay_in_their_ranges_and_reach_them():
    drawn = diffaugment.draw(5000, 32, generator(0))
    assert drawn["shift"].min() == -4 and drawn["shift"].max() == 4
    assert drawn["corner"].min() == -8 and drawn["corner"].max() == 24
    assert -0.5 <= drawn["brightness"].min() < -0.49 and 1.49 < drawn["contrast"].max() <= 1.5


def test_a_pixels_gradient_is_one_where_it_is_seen_and_none_where_it_is_cut():
    x = torch.zeros(4, 1, 16, 16, requires_grad=True)
    drawn = diffaugment.draw(4, 16, generator(2))
    seen = diffaugment.apply(torch.ones(4, 1, 16, 16), drawn, ("translation", "cutout"))
    diffaugment.apply(x, drawn, ("translation", "cutout")).sum().backward()
    assert set(x.grad.unique().tolist()) == {0.0, 1.0} and x.grad.sum() == seen.sum()


def test_policies():
    assert augmentations("none") == ()
    assert augmentations("cutout,color") == ("color", "cutout")
    with pytest.raises(ValueError, match="gan.diffaugment: 'colour' is not one of color, translation, cutout"):
        augmentations("cutout,colour")


def test_a_translation_and_its_gradient_are_those_of_a_padded_cut():
    shift = torch.tensor([[2, -1], [0, 3], [-3, -3]])
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    padded = torch.nn.functional.pad(x, (3, 3, 3, 3))
    cut = [padded[k, :, 3 - r : 9 - r, 3 - c : 9 - c] for k, (r, c) in enumerate(shift.tolist())]
    moved = diffaugment.Translated.apply(x, shift)
    assert torch.equal(moved, torch.stack(cut))
    weights = torch.randn_like(moved)
    by_cut = torch.autograd.grad((torch.stack(cut) * weights).sum(), x)[0]
    assert torch.equal(torch.autograd.grad((moved * weights).sum(), x)[0], by_cut)
