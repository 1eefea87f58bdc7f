"""Training state that survives, and only what it should; listing and pruning it."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from cxr.training.checkpoints import Checkpoints, hold
from cxr.training.machine import fabric
from stages.checkpoints import run as command
from stages.state import training_state
from tests.closure import ROOT


def state(n: int) -> dict:
    return {"n": n, "tensor": torch.full((3,), float(n))}


def test_the_newest_state_comes_back_and_two_are_kept(tmp_path):
    kept = Checkpoints(tmp_path, {"params": {"lr": 1}})
    for n in (10, 20, 30):
        kept.save(state(n), n)
    assert Checkpoints(tmp_path, {"params": {"lr": 1}}).load(100)["n"] == 30
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert Checkpoints(tmp_path, {"params": {"lr": 2}}).load(100) is None  # another fingerprint


def test_a_shorter_training_does_not_take_a_longer_ones_state_nor_delete_it(tmp_path):
    kept = Checkpoints(tmp_path, {})
    kept.save(state(30), 30)
    assert kept.load(at_most=20) is None
    for n in (5, 10, 20):
        kept.save(state(n), n)
    assert kept.load(20)["n"] == 20 and kept.load(40)["n"] == 30


def test_a_torn_state_is_skipped_with_a_line(tmp_path, capsys):
    kept = Checkpoints(tmp_path, {})
    kept.save(state(1), 1)
    kept.save(state(2), 2)
    newest = max(tmp_path.rglob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    assert kept.load(9)["n"] == 1
    assert "checkpoint skipped" in capsys.readouterr().err


def test_sigterm_saves_after_the_step_and_exits(tmp_path):
    kept = Checkpoints(tmp_path, {}, minutes=60)
    with pytest.raises(SystemExit) as stopped, kept:
        kept.step(lambda: state(1), 1)
        assert kept.load(9) is None
        signal.raise_signal(signal.SIGTERM)
        kept.step(lambda: state(2), 2)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert kept.load(9)["n"] == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_during_validation_saves_at_once(tmp_path):
    kept = Checkpoints(tmp_path, {}, minutes=60)
    with pytest.raises(SystemExit) as stopped, kept:
        kept.step(lambda: state(1), 1)
        signal.raise_signal(signal.SIGINT)
        kept.step(lambda: state(1), 1)  # called between the batches: no step was made
    assert stopped.value.code == 128 + signal.SIGINT and kept.load(9)["n"] == 1


def test_a_state_is_saved_when_the_minutes_are_over(tmp_path):
    kept = Checkpoints(tmp_path, {}, minutes=5)
    kept.saved_at -= 4.9 * 60
    kept.step(lambda: state(1), 1)
    assert kept.load(9) is None
    kept.saved_at -= 0.1 * 60
    kept.step(lambda: state(2), 2)
    kept.step(lambda: state(3), 3)
    assert kept.load(9)["n"] == 2


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with Checkpoints(tmp_path, {}):
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == before


def test_the_last_state_is_kept_however_recent_the_one_before(tmp_path):
    kept = Checkpoints(tmp_path, {}, minutes=60)
    kept.step(lambda: state(1), 7)
    kept.step(lambda: state(2), 7, last=True)
    assert kept.load(7)["n"] == 2


def test_a_foreign_state_is_skipped_with_a_line(tmp_path, capsys):
    one, other = (Checkpoints(tmp_path, {"params": {"lr": lr}}) for lr in (1, 2))
    one.save(state(1), 1)
    other.save(state(2), 2)
    shutil.copy(other.folder / "state-000000000002.safetensors", one.folder)
    (one.folder / "state-latest.safetensors").touch()
    assert one.load(9)["n"] == 1
    assert "state-000000000002.safetensors: the state of another training" in capsys.readouterr().err


def test_it_says_why_it_starts_anew(tmp_path, capsys):
    one = Checkpoints(tmp_path, {"params": {"lr": 1}, "code": {"cxr/gan/nets.py": "a"}})
    one.save(state(1), 5)
    assert Checkpoints(tmp_path, {"params": {"lr": 1}, "code": {"cxr/gan/nets.py": "b"}}).load(9) is None
    assert f"starts anew: changed since {one.mark}: code.cxr/gan/nets.py\n" == capsys.readouterr().err
    assert one.load(4) is None and "further on than this one is to go" in capsys.readouterr().err


def test_what_a_killed_process_was_writing_is_removed_unless_another_trains(tmp_path):
    first = Checkpoints(tmp_path, {})
    first.save(state(1), 1)
    torn = first.folder / ".state-000000000002-1-0123abcd.safetensors"
    torn.touch()
    Checkpoints(tmp_path, {}).load(9)
    assert torn.exists()  # the first still holds the folder: it may be writing this
    first.__exit__()
    Checkpoints(tmp_path, {}).load(9)
    assert not torn.exists()


def test_the_fingerprint_follows_inputs_code_parameters_and_machine(tmp_path, monkeypatch):
    (tmp_path / "table").write_text("1")
    machine = fabric("32-true")

    def state_of(stage: str = "gan", **params) -> Checkpoints:
        script, inputs = str(ROOT / "stages" / f"{stage}.py"), {"table": tmp_path / "table"}
        return training_state(script, "gan", machine, inputs, params, 5.0, tmp_path, {"average": 0.0})

    first = state_of(lr=1.0)
    files = set(first.fingerprint["code"])
    assert {"cxr/gan/train.py", "cxr/gan/nets.py", "cxr/training/weights.py", "cxr/core/records.py"} <= files
    assert not {name for name in files if not name.startswith(("cxr/core/", "cxr/training/", "cxr/gan/"))}
    assert first.fingerprint["machine"] == {
        "device": "cpu", "precision": "32-true", "torch": torch.__version__,
        "threads": torch.get_num_threads(), "instructions": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
    assert first.mark == state_of(lr=1.0, average=0.0).mark
    assert (
        len({first.mark, state_of(lr=2.0).mark, state_of(lr=1.0, average=0.5).mark, state_of("classifier").mark}) == 4
    )
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
        assert state_of(lr=1.0).mark != first.mark  # a cluster may have nodes of two kinds
    (tmp_path / "table").write_text("2")
    assert state_of(lr=1.0).mark != first.mark
    monkeypatch.setattr(type(machine), "device", torch.device("cuda"))
    marks = set()
    for name, cudnn, threads in (("H100", 1, 1), ("H100", 1, 2), ("A10", 1, 1), ("H100", 2, 1)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda cudnn=cudnn: cudnn)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        marks.add(state_of(lr=1.0).mark)
    assert len(marks) == 3  # another model or cuDNN is another kind of machine, another number of host threads is not


def aged(path: Path, days: float) -> None:
    for file in [path, *path.rglob("*")]:
        os.utime(file, (time.time() - 86_400 * days,) * 2)


@pytest.fixture
def kept(tmp_path) -> dict[str, Path]:
    """Two trainings of gan@edema, 40 and 10 days old, one of final, 20 days old, and an archive."""
    folders = {}
    for stage, lr, days in (("gan@edema", 1, 40), ("gan@edema", 2, 10), ("final", 1, 20)):
        training = Checkpoints(tmp_path / stage, {"params": {"lr": lr}})
        training.save(state(1), 1_200)
        training.__exit__()
        aged(training.folder, days)
        folders[f"{stage} {lr}"] = training.folder
    archive = tmp_path / "downloads" / "a.zip"
    archive.parent.mkdir()
    archive.write_bytes(b"0" * 5_000_000)
    aged(archive, 5)
    return folders | {"archive": archive}


def left(kept: dict[str, Path]) -> set[str]:
    return {name for name, path in kept.items() if path.exists()}


def test_the_list_says_stage_fingerprint_steps_age_and_size(kept, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    with hold(kept["final 1"]):
        command(state=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert "in 4 trainings and downloads" in lines[0] and lines[1].split() == [
        "stage",
        "fingerprint",
        "or",
        "file",
        "steps",
        "age",
        "size",
    ]
    rows = [line.split() for line in lines[2:]]
    assert [row[0] for row in rows] == ["final", "gan@edema", "gan@edema", "downloads"]
    assert rows[0][1:5] == [kept["final 1"].name, "1,200", "20", "d"] and rows[0][-2:] == ["in", "use"]
    assert rows[1][1] == kept["gan@edema 2"].name and rows[3][1:] == ["a.zip", "5", "d", "5.0", "MB"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({}, {"gan@edema 1"}),
        ({"keep": 0}, {"gan@edema 1", "gan@edema 2", "final 1"}),
        ({"keep": 0, "older_than": 15.0}, {"gan@edema 1", "final 1"}),
        ({"keep": 2, "downloads": True}, {"archive"}),
    ],
)
def test_prune_deletes_what_it_is_asked_to(kept, tmp_path, options, gone, capsys):
    command(state=tmp_path, prune=True, **options)
    assert set(kept) - left(kept) == gone
    assert f"pruned {len(gone)} of 4" in capsys.readouterr().out


def test_prune_leaves_what_a_training_holds(kept, tmp_path):
    training = Checkpoints(tmp_path / "final", {"params": {"lr": 1}})
    with training:
        assert training.load(2_000)["n"] == 1
        command(state=tmp_path, prune=True, keep=0)
        assert left(kept) == {"final 1", "archive"}
    command(state=tmp_path, prune=True, keep=0)
    assert left(kept) == {"archive"}
