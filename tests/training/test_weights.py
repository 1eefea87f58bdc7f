"""Weight files against the library's own functions, and a training state written and read."""

import pytest
import safetensors.torch
import torch

from cxr.training import weights

TENSORS = {
    "b.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).t(),  # not contiguous
    "a": torch.tensor(7, dtype=torch.int64),
    "half": torch.randn(5).to(torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "none": torch.zeros(0, 3),
}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one
    )


def test_a_file_repeats_to_the_byte_and_is_the_librarys(tmp_path):
    for name, tensors in (("a", TENSORS), ("b", dict(reversed(TENSORS.items())))):
        weights.write(tmp_path / name, tensors, {"k": "v"})
    contiguous = {name: value.contiguous() for name, value in TENSORS.items()}
    expected = safetensors.torch.save(contiguous, {"k": "v"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == expected
    tensors, metadata = weights.read(tmp_path / "a")
    assert same(tensors, TENSORS) and metadata == {"k": "v"}


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match=r"w\.safetensors: cannot be read"):
        weights.read(tmp_path / "w.safetensors")


def test_state_comes_back_as_it_was(tmp_path):
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    state = {
        "optimiser": optimiser.state_dict(),
        "history": [{"epoch": 1, "loss": 0.1}],
        "none": None,
        "n": {3: torch.ones(2)},
    }
    weights.save_state(tmp_path / "s.safetensors", state)
    got = weights.load_state(tmp_path / "s.safetensors")
    assert got["history"] == state["history"] and got["none"] is None and torch.equal(got["n"][3], torch.ones(2))
    other = torch.optim.Adam(net.parameters(), lr=0.5)
    other.load_state_dict(got["optimiser"])
    assert other.param_groups[0]["lr"] == 0.1
    assert torch.equal(other.state_dict()["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])
    weights.save_state(tmp_path / "again.safetensors", got)  # tensors that were read share the file's memory
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "s.safetensors").read_bytes()


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:20], lambda b: b"", lambda b: b"\x80\x04pickle" + b])
def test_a_torn_or_foreign_file_is_one_clear_line(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    weights.write(path, TENSORS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"w\.safetensors: not a whole safetensors file"):
        weights.read(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": []}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "pickle", "shape": [1], "data_offsets": [0, 4]}}',
        b"[" * 100_000,
    ],
)
def test_a_header_that_lies_is_one_clear_line(tmp_path, header):
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"w\.safetensors: not a whole safetensors file"):
        weights.read(path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    weights.save(tmp_path / "w.safetensors", torch.nn.Linear(3, 2).state_dict(), {"net": "Linear"})
    weights.load_into(torch.nn.Linear(3, 2), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="weights of another architecture; 2 tensors"):
        weights.load_into(torch.nn.Linear(3, 5), tmp_path / "w.safetensors")


def test_a_state_may_hold_one_tensor_twice(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    weights.save_state(tmp_path / "s.safetensors", {"last": shared, "best": {"prob": shared, "row": shared[1]}})
    state = weights.load_state(tmp_path / "s.safetensors")
    assert torch.equal(state["last"], shared) and torch.equal(state["best"]["prob"], shared)
    assert torch.equal(state["best"]["row"], shared[1])
