"""What a step takes from the host: drawn on the CPU, and on a GPU copied there in one piece, one step ahead.

A copy from ordinary memory makes the host wait until the GPU has done all its work. From pinned memory it does not, so
while the GPU makes a step the host draws the next one. What a step takes depends on its key alone, so the order of the
draws changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Batch = dict[str, torch.Tensor]

RING = 3  # pinned buffers: the host may be so many steps ahead of the GPU
ALIGN = 256  # bytes; a tensor's first one, as CUDA's own allocator places it


class Feed:
    """The batches of steps on their device.

    draw: (epoch, step) -> tensors on the CPU by name. On a CPU they are passed on as they are. A GPU gets float32 where
    they are float64.
    """

    def __init__(self, draw: Callable[[int, int], Batch], device: torch.device) -> None:
        self.draw, self.device, self.direct = draw, device, device.type == "cpu"
        self.slots: dict[tuple, Slot] = {}
        self.ready: tuple[int, int] | None = None
        self.batch: Batch = {}

    def take(self, epoch: int, step: int) -> Batch:
        """The batch of a step; on a GPU it is overwritten by the next one's."""
        if self.direct:
            return self.draw(epoch, step)
        if self.ready != (epoch, step):
            self.prepare(epoch, step)
        self.ready = None
        return self.batch

    def prepare(self, epoch: int, step: int) -> None:
        """Draw a step's batch while the GPU still works on the one before; on a CPU that would gain nothing."""
        if self.direct:
            return
        drawn = self.draw(epoch, step)
        form = tuple((name, value.dtype, value.shape) for name, value in drawn.items())
        if form not in self.slots:
            self.slots[form] = Slot(drawn, self.device)
        self.batch, self.ready = self.slots[form].copied(drawn), (epoch, step)


class Slot:
    """One buffer on the device for batches of one form, always at the same address, and a ring of pinned ones.

    The copy is queued behind the kernels that still read the buffer, so a second buffer is not needed.
    """

    def __init__(self, like: Batch, device: torch.device) -> None:
        offsets, total = [], 0
        kinds = [torch.float32 if value.dtype == torch.float64 else value.dtype for value in like.values()]
        for kind, value in zip(kinds, like.values(), strict=True):
            offsets.append(total)
            size = kind.itemsize * value.numel()
            total += -(-size // ALIGN) * ALIGN

        def views(memory: torch.Tensor) -> Batch:
            return {
                name: memory[start : start + kind.itemsize * value.numel()].view(kind).view(value.shape)
                for (name, value), kind, start in zip(like.items(), kinds, offsets, strict=True)
            }

        pinned = device.type == "cuda"
        self.memory = torch.empty(total, dtype=torch.uint8, device=device)
        self.on_device = views(self.memory)
        self.ring = [torch.empty(total, dtype=torch.uint8, pin_memory=pinned) for _ in range(RING)]
        self.on_host = [views(memory) for memory in self.ring]
        self.done = [torch.cuda.Event() for _ in range(RING)] if pinned else []
        self.turn = 0

    def copied(self, drawn: Batch) -> Batch:
        """The batch on the device, in the order of the current stream."""
        self.turn = turn = (self.turn + 1) % RING
        if self.done:
            self.done[turn].synchronize()  # the copy from this buffer RING steps ago
        for name, value in drawn.items():
            self.on_host[turn][name].copy_(value)
        self.memory.copy_(self.ring[turn], non_blocking=True)
        if self.done:
            self.done[turn].record()
        return self.on_device
