"""The trainings' own loop on torch's meta device, which has shapes and no numbers: what would wait for a GPU raises."""

import collections
import contextlib
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cxr.training import loop
from cxr.training.checkpoints import Checkpoints

META = torch.device("meta")
VIEWS = {
    "view", "expand", "slice", "select", "t", "transpose", "permute", "unsqueeze", "squeeze", "alias", "detach",
    "as_strided", "_unsafe_view", "unbind", "split", "chunk", "split_with_sizes", "_reshape_alias", "view_as",
}  # fmt: skip


class Wrapped(torch.nn.Module):
    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *args):
        return self.net(*args)

    def __getattr__(self, name):  # as Fabric's wrapper
        return getattr(super().__getattr__("net"), name) if name != "net" else super().__getattr__(name)


class Meta:
    """The least of a Fabric, on the meta device."""

    device = META
    strategy = SimpleNamespace(precision=SimpleNamespace(precision="32-true", state_dict=dict))

    def setup(self, net, *optimisers):
        return (Wrapped(net.to(META)), *optimisers)

    def autocast(self):
        return contextlib.nullcontext()

    def backward(self, loss):
        loss.backward()

    def to_device(self, value):
        return tuple(v.to(META) for v in value) if isinstance(value, tuple) else value.to(META)


class NoFloat64(TorchDispatchMode):
    """Raises where a float64 appears on the device: a Mac's GPU has none, a card for graphics is slow at it."""

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.device == META and value.dtype == torch.float64:
                raise TypeError(f"float64 on the device: {op}")
        return out


class Count(NoFloat64):
    """copies: from the host to the device; ops: on the device, without views; where `on`."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.copies, self.ops = False, 0, collections.Counter()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(op, types, args, kwargs)
        if not self.on:
            return out
        name = op._schema.name.split("::")[1]
        taken = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
        given = [v for v in tree_leaves(out) if isinstance(v, torch.Tensor)]
        to_device = any(v.device == META for v in given)
        if name in ("_to_copy", "copy_") and to_device and any(v.device != META for v in taken):
            self.copies += 1
        elif name not in VIEWS and any(v.device == META for v in [*taken, *given]):
            self.ops[name] += 1
        return out


class Enough(Exception):
    pass


class Third(Checkpoints):
    """Checkpoints that keep nothing, count the second and the third step and end there."""

    def __init__(self, folder, count: Count) -> None:
        super().__init__(folder, {})
        self.count, self.steps = count, 0

    def load(self, at_most):
        return None

    def step(self, state, position, *, last=False):
        self.steps += 1
        self.count.on = True
        if self.steps == 3:
            raise Enough


def counted(training: loop.Training, folder, steps: int) -> Count:
    """Two steps of a training as loop.run makes them, after a first one."""
    count = Count()
    with count, contextlib.suppress(Enough):
        loop.run(training, Third(folder, count), label="training", epochs=1, steps=steps, batch=4)
    assert count.on
    return count
