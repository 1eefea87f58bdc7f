"""What a step takes from the host arrives in one piece, whole, one step ahead."""

import pytest
import torch

from cxr.training.feed import RING, Feed, Slot

CPU = torch.device("cpu")


def draw(epoch: int, step: int) -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(100 * epoch + step)
    return {
        "images": torch.randint(0, 256, (3, 1, 5, 5), generator=stream, dtype=torch.uint8),
        "rows": torch.randint(0, 9, (3,), generator=stream),
        "given": torch.rand(3, generator=stream) < 0.5,
        "geometry": torch.randn(3, 2, 3, generator=stream),
        "temperature": torch.rand((), generator=stream, dtype=torch.float64),
    }


def test_a_batch_arrives_whole_in_float32_at_the_same_address():
    slot = Slot(draw(0, 0), CPU)
    addresses = set()
    for step in range(2 * RING + 1):
        drawn = draw(0, step)
        batch = slot.copied(drawn)
        addresses.add(tuple(value.data_ptr() for value in batch.values()))
        assert list(batch) == list(drawn)
        for name, value in drawn.items():
            assert torch.equal(batch[name], value.float() if value.dtype == torch.float64 else value), name
    assert len(addresses) == 1


def test_the_next_batch_is_drawn_once_and_ahead():
    asked = []
    feed = Feed(lambda *at: (asked.append(at), draw(*at))[1], torch.device("meta"))
    feed.take(0, 0)
    feed.prepare(0, 1)
    assert asked == [(0, 0), (0, 1)]
    feed.take(0, 1)
    assert asked == [(0, 0), (0, 1)]
    feed.prepare(0, 2)
    feed.take(3, 0)  # an epoch that ended, or a training that was resumed, asks for another
    assert asked[-1] == (3, 0)


def test_on_a_cpu_a_batch_is_what_was_drawn_and_nothing_is_drawn_ahead():
    asked = []
    feed = Feed(lambda *at: asked.append(at) or draw(*at), CPU)
    batch = feed.take(0, 0)
    feed.prepare(0, 1)
    assert asked == [(0, 0)] and batch["temperature"].dtype == torch.float64


def test_a_smaller_last_batch_has_a_buffer_of_its_own():
    feed = Feed(lambda epoch, step: {"x": torch.full((4 - step,), step)}, torch.device("meta"))
    assert [feed.take(0, step)["x"].shape[0] for step in (0, 1, 0)] == [4, 3, 4] and len(feed.slots) == 2


@pytest.mark.parametrize("n", [1, 100])
def test_it_is_one_copy(n):
    drawn = {str(k): torch.ones(k + 1) for k in range(n)}
    slot = Slot(drawn, CPU)
    assert all(torch.equal(value, drawn[name]) for name, value in slot.copied(drawn).items())
    starts = [value.data_ptr() - slot.memory.data_ptr() for value in slot.on_device.values()]
    assert all(start % 256 == 0 for start in starts) and max(starts) < slot.memory.numel()
