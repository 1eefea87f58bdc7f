"""The command line that DVC's unpacking meets: underscores, booleans, lists, and one line for what is wrong."""

import os
import re
import subprocess
import sys
from typing import Annotated, Literal

import pytest
from typer import Option

from stages.__main__ import STAGES, TOOLS
from stages.cli import located, main, state_dir
from tests.closure import ROOT

got = {}


def command(
    policy: Annotated[Literal["u_zeroes", "u_ones"], Option()],
    target_prevalence: Annotated[float, Option(min=0.0, max=1.0)] = 0.1,
    augment: bool = True,
    findings: Annotated[list[str], Option()] = (),
) -> None:
    got.update(policy=policy, target_prevalence=target_prevalence, augment=augment, findings=list(findings))
    if target_prevalence == 0.5:
        raise ValueError("table.csv row 7:\n  bad value")
    if target_prevalence == 0.6:
        raise OSError(28, "No space left on device", "data/records.parquet")
    if target_prevalence == 0.75:
        raise RuntimeError("a bug")


def test_dvcs_form_of_a_section_is_understood():
    words = "--policy u_zeroes --target_prevalence 0.2 --no-augment --findings lung_lesion --findings pneumonia"
    with pytest.raises(SystemExit) as end:
        main(command, words.split())
    assert not end.value.code
    assert got == {
        "policy": "u_zeroes",
        "target_prevalence": 0.2,
        "augment": False,
        "findings": ["lung_lesion", "pneumonia"],
    }


@pytest.mark.parametrize("option", ["--target_prevalence 0.2", "--target-prevalence 0.2", "--target_prevalence=0.2"])
def test_an_option_is_accepted_with_dashes_and_underscores_and_a_value_stays(option):
    with pytest.raises(SystemExit) as end:
        main(command, ["--policy", "u_ones", *option.split(), "--findings", "a_b=c_d"])
    assert not end.value.code and got["target_prevalence"] == 0.2 and got["findings"] == ["a_b=c_d"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--policy u_maybe", "'u_maybe' is not one of 'u_zeroes', 'u_ones'"),
        ("--policy u_ones --target_prevalence 2", "--target-prevalence"),
        ("--policy u_ones --target_prevalence 0.5", "error: table.csv row 7: bad value"),
        ("--policy u_ones --target_prevalence 0.6", "error: data/records.parquet: No space left on device"),
        ("--policy u_ones --no_such_thing 1", "No such option: --no_such_thing"),
        ("", "--policy"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_1(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(command, words.split())
    error = capsys.readouterr().err
    assert end.value.code == 1 and message in error and error.count("\n") == 1


def cxr(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "stages", *words], cwd=ROOT, capture_output=True, text=True)


def test_cxr_lists_every_command_with_what_it_does():
    done = cxr()
    assert done.returncode == 0 and cxr("--help").stdout == done.stdout
    listed = re.findall(r"^  (\w+)  +[A-Z]", done.stdout, re.M)
    assert listed == [*STAGES, *TOOLS]


def test_a_command_imports_no_other_and_nothing_heavy():
    code = """if True:
        import sys
        from stages.__main__ import app
        app(["gan", "--help"], standalone_mode=False)
        loaded = {name.removeprefix("stages.") for name in sys.modules if name.startswith("stages.")}
        assert loaded <= {"__main__", "cli", "options", "state", "gan"}, loaded
        assert not {"torch", "pandas", "numpy", "dvc"} & set(sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cxr_names_a_command_that_does_not_exist():
    done = cxr("gn")
    assert done.returncode == 1 and done.stderr == "cxr: error: No such command 'gn'.\n"


def test_a_bug_is_shown_whole():
    with pytest.raises(RuntimeError):
        main(command, ["--policy", "u_ones", "--target_prevalence", "0.75"])


def test_state_is_the_repositorys_own_also_from_a_temporary_experiment(tmp_path, monkeypatch):
    monkeypatch.delenv("CXR_STATE", raising=False)
    inside = tmp_path / ".dvc" / "tmp" / "exps" / "x"
    inside.mkdir(parents=True)
    (tmp_path / ".dvc" / "config").touch()
    (tmp_path.parent / "beside").mkdir()
    for folder in (tmp_path, inside):
        monkeypatch.chdir(folder)
        assert state_dir() == tmp_path / ".checkpoints"
        assert os.path.samefile(located("../beside"), tmp_path.parent / "beside")
        for unchanged in ("phantom", "kaggle:owner/set", "s3://bucket/a.zip", "../nothing", str(tmp_path)):
            assert located(unchanged) == unchanged
    monkeypatch.setenv("CXR_STATE", "/elsewhere")
    assert str(state_dir()) == "/elsewhere"
