"""Files whole or not at all, and nothing left of a process that was killed."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from cxr.core.files import atomic, sha256, write_json, write_table


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


@pytest.mark.parametrize("name", ["gan.safetensors", "folder"])
def test_what_a_killed_process_left_goes_with_the_next_attempt(tmp_path, name):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stem, suffix = os.path.splitext(name)
    left = {pid: tmp_path / f".{stem}-{pid}-0123abcd{suffix}" for pid in (ended.pid, os.getpid(), os.getppid())}
    other = tmp_path / f".other-{ended.pid}-0123abcd{suffix}"
    for path in (*left.values(), other):
        path.mkdir() if name == "folder" else path.touch()
    with atomic(tmp_path / name) as temporary:
        assert not left[ended.pid].exists() and not left[os.getpid()].exists()
        with atomic(tmp_path / name) as inner:  # one of ours under way is not taken for a dead one's
            inner.write_text("")
        temporary.write_text("")
    assert sorted(tmp_path.iterdir()) == sorted([left[os.getppid()], other, tmp_path / name])
