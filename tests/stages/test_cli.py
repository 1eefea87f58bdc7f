"""The command line that DVC's unpacking meets: underscores, booleans, lists, and one line for what is wrong."""

import os
import re
import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator
from typer import Option

from cxr.core.formats import Format
from stages.__main__ import STAGES, TOOLS
from stages.cli import located, main, state_dir
from stages.options import takes_settings
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


class Settings(Format):
    """Of every kind that a training has."""

    variant: Literal["plain", "bounded"] = Field(description="which one")
    channels: Literal[1, 3] = Field(1, description="of an image")
    lr: float = Field(1e-3, ge=0.0, le=1.0, description="step length")
    warmup: float = Field(0.0, ge=0.0, description="epochs until it counts")
    batch_size: int = Field(4, ge=2, description="images in a step")
    bounded: bool = Field(False, description="bound the weights")
    parts: str = Field("none", description="none, or some of a,b")

    @field_validator("parts")
    @classmethod
    def _check(cls, value: str) -> str:
        if value == "c":
            raise ValueError("net.parts: 'c' is not one of a, b")
        return value


@takes_settings
def training(name: Annotated[str, Option()], settings: Settings, draws: int = 2) -> None:
    """Train it."""
    got.update(name=name, settings=settings, draws=draws)


def test_each_field_of_settings_is_an_option():
    words = "--name x --variant bounded --channels 3 --batch_size 8 --bounded --lr 1"
    with pytest.raises(SystemExit) as end:
        main(training, words.split())
    assert not end.value.code and (got["name"], got["draws"]) == ("x", 2)
    assert got["settings"] == Settings(variant="bounded", channels=3, lr=1.0, batch_size=8, bounded=True, parts="none")
    training(name="y", variant="plain")  # as from Python
    assert got["settings"].model_dump() == Settings(variant="plain").model_dump()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--variant other", "'other' is not one of 'plain', 'bounded'"),
        ("--variant plain --channels 2", "'2' is not one of '1', '3'"),
        ("--variant plain --lr 1.5", "'--lr': Input should be less than or equal to 1"),
        ("--variant plain --warmup inf", "error: warmup is inf; it should be a finite number"),
        ("--variant plain --batch_size 1", "'--batch-size': Input should be greater than or equal to 2"),
        ("--variant plain --batch_size many", "'--batch-size': Input should be a valid integer"),
        ("--variant plain --parts c", "error: net.parts: 'c' is not one of a, b"),
        ("", "--variant"),
    ],
)
def test_a_value_that_a_field_refuses_is_one_line_that_names_the_option(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(training, ["--name", "x", *words.split()])
    error = capsys.readouterr().err
    assert end.value.code == 1 and message in error and error.count("\n") == 1, error
    assert re.split("[ _]", words.rpartition("--")[2])[0] in error


def test_help_has_a_fields_words_range_and_default(capsys):
    with pytest.raises(SystemExit):
        main(training, ["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "step length [default: 0.001; 0.0<=x<=1.0]" in printed and "--settings" not in printed
    assert "--bounded / --no-bounded" in printed and "which one [required]" in printed


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
        assert loaded <= {"__main__", "cli", "live", "options", "state", "gan"}, loaded
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
