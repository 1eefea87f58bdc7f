"""When a step is made as a CUDA graph: a stand-in for the capture, which replays the Python that it was given."""

import pytest
import torch

from cxr.training import graphs


class Game:
    """A state that a step changes: weights and momentum, with torch's own random numbers."""

    def __init__(self) -> None:
        self.weights, self.momentum = torch.zeros(3), torch.zeros(3)
        self.calls = 0

    def update(self, batch, form) -> torch.Tensor:
        self.calls += 1
        self.momentum.mul_(0.5).add_(batch["x"] * (2.0 if form else 1.0) + torch.rand(3))
        self.weights.add_(self.momentum)
        return self.weights.sum()[None]

    def state(self) -> dict:
        return {"net": {"weights": self.weights}, "more": [1, "a", {"m": self.momentum}]}


def replayed(update, spoil=lambda terms: None):
    terms = torch.zeros(1)

    def replay() -> None:
        terms.copy_(update())
        spoil(terms)

    return replay, terms


def played(steps: int, on: bool) -> tuple[Game, list[torch.Tensor], graphs.Steps]:
    """Steps whose every third is of another form; the batch lies at one address."""
    game = Game()
    made, x, terms = graphs.Steps(game.update, game.state, "a training", graphs=on), torch.zeros(3), []
    for step in range(steps):
        x.fill_(step)
        terms.append(made.make({"x": x}, step % 3 == 0, (7, step)))
    return game, terms, made


def same(one, other) -> bool:
    games = all(torch.equal(getattr(one[0], name), getattr(other[0], name)) for name in ("weights", "momentum"))
    return games and all(map(torch.equal, one[1], other[1]))


def test_a_graph_a_form_gives_the_same_bytes(monkeypatch, capsys):
    captured = []
    monkeypatch.setattr(graphs, "capture", lambda update: (captured.append(1), replayed(update))[1])
    eager, graphed = played(40, False), played(40, True)
    assert same(eager, graphed) and len(captured) == 2 and capsys.readouterr().err == ""
    assert graphed[2].graphs and eager[0].calls == 40 and graphed[0].calls == 40 + 2 * graphs.CHECKED


def test_a_graph_whose_bytes_differ_is_not_used(monkeypatch, capsys):
    monkeypatch.setattr(graphs, "capture", lambda update: replayed(update, lambda terms: terms.mul_(1 + 1e-6)))
    assert same(played(40, False), played(40, True))
    assert (
        capsys.readouterr().err
        == "a training: no CUDA graph of a step: its bytes differ from those of single kernels\n"
    )


def test_a_number_that_the_host_changes_is_seen_at_the_second_step(monkeypatch, capsys):
    """The stand-in keeps the batch of the step it was captured at, as a graph would a Python number."""

    def frozen(update):
        first = torch.full((), float("nan"))
        terms = torch.zeros(1)

        def replay() -> None:
            terms.copy_(update())
            if first.isnan():
                first.fill_(terms.item())
            terms.fill_(first.item())

        return replay, terms

    monkeypatch.setattr(graphs, "capture", frozen)
    assert same(played(40, False), played(40, True)) and "bytes differ" in capsys.readouterr().err


def test_what_cannot_be_captured_runs_as_it_is(monkeypatch, capsys):
    def fails(update):
        update()  # what a capture leaves half done
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs, "capture", fails)
    assert same(played(20, False), played(20, True))
    printed = (
        "a training: no CUDA graph of a step: it can't be captured: operation not permitted when stream is capturing\n"
    )
    assert capsys.readouterr().err == printed


def test_the_terms_of_a_step_stay_when_the_next_one_is_made(monkeypatch):
    monkeypatch.setattr(graphs, "capture", replayed)
    terms = played(30, True)[1]
    assert len({float(term) for term in terms}) == 30


def test_graphs_are_for_a_gpu_that_is_not_asked_otherwise(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert graphs.wanted(cuda, "bf16-mixed") and graphs.wanted(cuda, "32-true")
    assert not graphs.wanted(cpu, "32-true") and not graphs.wanted(cuda, "16-mixed")
    monkeypatch.setenv("CXR_GRAPHS", "0")
    assert not graphs.wanted(cuda, "32-true")


@pytest.mark.parametrize("value", [float("nan"), -0.0])
def test_bytes_are_compared_not_values(value):
    a = torch.tensor([value])
    assert graphs._same(a, a.clone()) and not graphs._same(torch.tensor([-0.0]), torch.tensor([0.0]))
    assert not graphs._same(a, a.double()) and graphs._same(torch.tensor(3), torch.tensor(3))
