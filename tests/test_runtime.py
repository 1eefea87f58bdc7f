"""Files whole or not at all; training state that survives, and only what it should."""

import json
import signal

import pandas as pd
import pytest
import torch

from cxr.checkpoints import Checkpoints
from cxr.files import atomic, sha256, write_json, write_table


def test_a_failure_leaves_the_earlier_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with atomic(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(RuntimeError), atomic(tmp_path / "folder") as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]


def test_json_is_valid_and_tables_repeat(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None]}
    table = pd.DataFrame({"x": [1 / 3, 2.0], "y": ["a", None]})
    for name in ("t.csv", "t.parquet"):
        write_table(tmp_path / name, table)
        first = sha256(tmp_path / name)
        write_table(tmp_path / name, table)
        assert sha256(tmp_path / name) == first
    assert (tmp_path / "t.csv").read_text() == "x,y\n0.333333,a\n2,\n"


def test_a_folders_hash_follows_names_and_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = sha256(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert sha256(tmp_path / "a") != first


def state(n: int) -> dict:
    return {"n": n, "tensor": torch.full((3,), float(n))}


def test_the_newest_state_comes_back_and_two_are_kept(tmp_path):
    kept = Checkpoints(tmp_path, {"lr": 1})
    for n in (10, 20, 30):
        kept.save(state(n), n)
    assert Checkpoints(tmp_path, {"lr": 1}).load(100)["n"] == 30
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert Checkpoints(tmp_path, {"lr": 2}).load(100) is None  # another fingerprint


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
