"""The fingerprint of the code: what counts and what does not, on a package of three modules."""

from pathlib import Path

import pytest

from cxr.training import fingerprint

FILES = {
    "script.py": """
def run():
    from net.training import train
    train.fit(1)
""",
    "net/training/train.py": '''
"""How a net is trained."""
from __future__ import annotations
from dataclasses import dataclass
from net.training import losses
from net.training.machine import seed

NEUTRAL = {"average": 0.0}
SHARE = 0.5

@dataclass
class Settings:
    """average: decay."""
    lr: float
    share: float = Field(0.5, ge=0.0, le=1.0, description="a share")
    average: float = 0.0

def fit(s):
    """Train."""
    seed(3)
    if s.average:
        losses.average()
    if SHARE > 1:
        raise ValueError("too large")
    loss = losses.loss(SHARE)  # a word
    print("loss", loss)
    return loss
''',
    "net/training/losses.py": "def loss(x):\n    return 2 * x\n\n\ndef average():\n    return 0\n",
    "net/training/machine.py": "def seed(n):\n    return n\n\n\ndef loss(x):\n    return x\n",
    "net/other.py": "x = 1\n",
}
TRAIN = "net/training/train.py"


def mark(folder: Path, files: dict[str, str], unused: tuple[str, ...] = ("average",)) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return fingerprint.mark({"code": fingerprint.code(folder / "script.py", unused, folder / "net")})


def changed(**edits: tuple[str, str]) -> dict[str, str]:
    """FILES with one text for another in the module named."""
    files = dict(FILES)
    for module, (before, after) in edits.items():
        name = f"net/training/{module}.py"
        assert before in files[name]
        files[name] = files[name].replace(before, after)
    return files


def renamed(before: str, after: str) -> dict[str, str]:
    """FILES with a module under another name."""
    files = {
        name.replace(f"/{before}.", f"/{after}."): text.replace(f"import {before}", f"import {after}")
        .replace(f"{before}.", f"{after}.")
        .replace(f"training.{before} ", f"training.{after} ")
        for name, text in FILES.items()
    }
    assert files.keys() != FILES.keys()
    return files


SAME = {
    "a docstring": changed(train=("How a net is trained", "The loop")),
    "a function's docstring": changed(train=('"""Train."""', "")),
    "a comment": changed(train=("# a word", "# another")),
    "an error's words": changed(train=("too large", "lower it")),
    "a printed word": changed(train=('"loss"', '"mean loss"')),
    "a setting's range": changed(train=("ge=0.0, le=1.0", "ge=0.1")),
    "a setting's words": changed(train=("a share", "share of all")),
    "a renamed module": renamed("losses", "aims"),
    "a renamed module of a function": renamed("machine", "box"),
    "a renamed entry": renamed("train", "zoo"),
    "the order of imports": changed(
        train=(
            "from net.training import losses\nfrom net.training.machine import seed",
            "from net.training.machine import seed\nfrom net.training import losses",
        )
    ),
    "a module that is not imported": FILES | {"net/other.py": "x = 2\n"},
}


@pytest.mark.parametrize("what", SAME)
def test_what_shapes_no_result_does_not_count(what, tmp_path):
    assert mark(tmp_path / "a", FILES) == mark(tmp_path / "b", SAME[what])


def test_a_new_option_that_is_not_used_does_not_count(tmp_path):
    """With its neutral value, its field, its branch and a module of its own."""
    files = changed(
        train=("from net.training import losses\n", "from net.training import losses\nfrom net.training import noise\n")
    )
    for before, after in (
        ('{"average": 0.0}', '{"average": 0.0, "noise": 0.0}'),
        ("    average: float = 0.0\n", "    average: float = 0.0\n    noise: float = 0.0\n"),
        ("    seed(3)\n", "    seed(3)\n    if s.noise:\n        noise.add(s.noise)\n"),
        ("losses.loss(SHARE)", "losses.loss(noise.add(SHARE) if s.noise else SHARE)"),
    ):
        assert before in files[TRAIN]
        files[TRAIN] = files[TRAIN].replace(before, after)
    files["net/training/noise.py"] = "def add(x):\n    return x + 1\n"
    before = mark(tmp_path / "a", FILES)
    assert mark(tmp_path / "b", files, ("average", "noise")) == before
    assert mark(tmp_path / "b", files, ("average",)) != before


@pytest.mark.parametrize(
    "edit",
    [
        {"train": ("SHARE = 0.5", "SHARE = 0.6")},
        {"losses": ("2 * x", "3 * x")},
        {"machine": ("return n", "return -n")},
        {"train": ("seed(3)", "seed(4)")},
        {"train": ("losses.loss(SHARE)", "losses.average()")},
        {"train": ("from net.training import losses", "from net.training import machine as losses")},
        {"train": ("    lr: float\n", "    lr: float = 1.0\n")},
    ],
)
def test_what_may_shape_a_result_counts(edit, tmp_path):
    assert mark(tmp_path / "a", FILES) != mark(tmp_path / "b", changed(**edit))


def test_an_option_that_is_used_counts(tmp_path):
    assert mark(tmp_path / "a", FILES, ()) != mark(tmp_path / "a", FILES)
    assert mark(tmp_path / "b", changed(losses=("return 0", "return 1")), ()) != mark(tmp_path / "a", FILES, ())


def test_files_are_named_by_their_place_in_the_package(tmp_path):
    mark(tmp_path, FILES)
    files = fingerprint.code(tmp_path / "script.py", (), tmp_path / "net")
    assert list(files) == [f"net/training/{name}.py" for name in ("losses", "machine", "train")]


def test_an_option_at_its_neutral_value_is_left_out():
    neutral = {"average": 0.0, "bounded": False, "mode": "plain"}
    assert fingerprint.without_neutral({"lr": 1.0, "average": 0.0, "bounded": False, "mode": "plain"}, neutral) == {
        "lr": 1.0
    }
    assert fingerprint.without_neutral({"average": 0.5, "mode": "other"}, neutral) == {"average": 0.5, "mode": "other"}
