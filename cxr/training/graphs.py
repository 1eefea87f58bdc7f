"""A step's work on a GPU as one CUDA graph: hundreds of small kernels, launched one by one, leave a GPU idle.

A graph is made of a step's `update` once it has run a few times. It replays the same kernels on the same memory, so it
gives the same bytes. That is not taken on trust: the step at which the graph is made, and the next one, run both ways
from the same state, and where one byte differs there is no graph. (The next one: a number that the host changes from
step to step would be as it was in the first.) Nor is there one where `update` can't be captured. Then the steps run one
kernel after the other, as on a CPU.

The memory that a graph reads must not move: the batch comes at a fixed address (cxr/training/feed.py), weights and
moments are changed in place. What a step decides on the host, and what shape its batch has, is its form; each form has
a graph of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from cxr.training.feed import Batch
from cxr.training.machine import seeded

CHECKED = 2  # steps that a graph is compared on
WARM = 3  # steps of a form before its graph: libraries allocate, the optimiser makes its moments

Update = Callable[[], torch.Tensor]


class Graph(NamedTuple):
    """replay makes the step, and leaves its terms in `terms`."""

    replay: Callable[[], None]
    terms: torch.Tensor


def capture(update: Update) -> tuple[Callable[[], None], torch.Tensor]:
    """A CUDA graph of `update`, which is not run by this: (what runs it, where its result will be)."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        terms = update()
    return graph.replay, terms


def wanted(device: torch.device, precision: str) -> bool:
    """Whether steps are to be graphs: on a GPU, unless $CXR_GRAPHS is 0. 16-mixed scales its gradients by a number
    that its scaler may change between two steps; it stays as it is.
    """
    return device.type == "cuda" and precision != "16-mixed" and os.environ.get("CXR_GRAPHS", "1") != "0"


class Steps:
    """Makes steps, as graphs where these give the same bytes.

    update: (batch, form) -> the step's terms. state: everything that a step changes, for the comparison. label: names
    the training in what is printed. graphs: whether to try.
    """

    def __init__(
        self, update: Callable[[Batch, Any], torch.Tensor], state: Callable[[], Any], label: str, *, graphs: bool
    ) -> None:
        self.update, self.state, self.label, self.graphs = update, state, label, graphs
        self.graph_of: dict[Hashable, Graph] = {}
        self.seen: dict[Hashable, int] = {}

    def make(self, batch: Batch, form: Hashable = (), key: tuple[int, ...] | None = None) -> torch.Tensor:
        """One step; its terms. form: what the host decides in it. key: of its random numbers on the device, if any."""

        def random() -> AbstractContextManager:
            return seeded(*key) if key else nullcontext()

        if not self.graphs:
            with random():
                return self.update(batch, form)
        whole = (form, tuple((name, value.shape) for name, value in batch.items()))
        self.seen[whole] = self.seen.get(whole, 0) + 1
        if self.seen[whole] <= WARM:
            with random():
                return self.update(batch, form)
        if self.seen[whole] <= WARM + CHECKED:
            return self._compared(whole, lambda: self.update(batch, form), random)
        with random():
            self.graph_of[whole].replay()
        return self.graph_of[whole].terms.clone()  # the next replay writes there

    def _compared(self, form: Hashable, update: Update, random: Callable[[], AbstractContextManager]) -> torch.Tensor:
        """A step without a graph, then from the same state with one, which is kept where it gives the same bytes."""
        tensors = list(_tensors(self.state()))
        before = [value.clone() for value in tensors]
        with random():
            terms = update().clone()
        after = [value.clone() for value in tensors]
        why = "its bytes differ from those of single kernels"
        try:
            _restore(tensors, before)
            if form not in self.graph_of:
                with random():
                    self.graph_of[form] = Graph(*capture(update))
            with random():
                self.graph_of[form].replay()
            same = _same(self.graph_of[form].terms, terms) and all(map(_same, tensors, after))
        except RuntimeError as error:
            why, same = f"it can't be captured: {str(error).strip().partition(chr(10))[0]}", False
        if not same:
            self.graphs = False
            self.graph_of.clear()
            print(f"{self.label}: no CUDA graph of a step: {why}", file=sys.stderr, flush=True)
        _restore(tensors, after)
        return terms


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    """The tensors in a nest of dicts and lists."""
    if isinstance(state, torch.Tensor):
        yield state.detach()
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _tensors(value)


@torch.no_grad()
def _restore(tensors: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors hold the same bytes; NaN is itself."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(value.contiguous().flatten().view(torch.uint8) for value in (one, other)))
