"""Curves and pictures of a running training: what CXR_LOG writes, and that no result knows of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc.cli import main as dvc
from dvc.repo import Repo
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stages import cli, live
from stages.cli import main
from stages.gan import run as gan
from tests.closure import ROOT
from tests.stages.test_kills import command, data, hashes  # noqa: F401

HISTORY = [{"epoch": 1, "loss": 0.5, "kid": float("nan"), "note": "text"}, {"epoch": 2, "loss": 0.25, "kid": 0.1}]
PICTURE = torch.zeros(16, 16, dtype=torch.uint8)


def train(data, folder, epochs, code=0):  # noqa: F811
    with pytest.raises(SystemExit) as end:
        main(gan, command("gan", data, folder, epochs, 60))
    assert (end.value.code or 0) == code
    return hashes(folder)


def test_a_gan_trains_to_the_same_bytes_and_a_resumed_one_has_whole_curves(data, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXR_LOG", raising=False)
    plain = train(data, tmp_path / "plain", 3)
    assert not (tmp_path / "live").exists()
    monkeypatch.setenv("CXR_LOG", "tensorboard, dvclive")
    train(data, tmp_path / "watched", 2)
    assert train(data, tmp_path / "watched", 3) == plain  # continues after the second epoch
    (state,) = (tmp_path / "watched" / "state").glob("*/*")
    events = EventAccumulator(str(state / "live" / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("loss_d")] == [1, 2, 3]
    assert [picture.step for picture in events.Images("grid")] == [1, 2, 3]  # the last epoch's too
    metrics = json.loads((tmp_path / "live" / "metrics" / state.parent.name / f"{state.name}.json").read_text())
    assert metrics["step"] == 3 and metrics["loss_d"] == pytest.approx(events.Scalars("loss_d")[-1].value, rel=1e-6)
    plots = tmp_path / "live" / "plots" / state.parent.name / state.name
    assert len((plots / "metrics" / "loss_d.tsv").read_text().splitlines()) == 4
    assert {path.name for path in (plots / "images" / "grid").iterdir()} == {"1.png", "2.png", "3.png"}


def words_of(block: str) -> list[list[str]]:
    return [line.split() for line in block.splitlines()]


def test_dvc_draws_the_curves_of_a_running_training_and_git_and_the_pipeline_do_not_see_them(
    tmp_path, monkeypatch, capsys
):
    """By the commands that the page shows, in a clone with this project's live/, .gitignore and .dvcignore."""
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)\n```", page[page.index("## Watch a training") :], re.S)
    (show,) = (words_of(block) for block in blocks if "dvc plots show" in block)
    (clean,) = (words_of(block) for block in blocks if "git clean" in block)
    names = subprocess.run(["git", "ls-files", "live"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in [*names.split(), ".gitignore", ".dvcignore"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    assert dvc(["init", "-q"]) == 0
    git("add", "-A")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "clone")
    assert Repo().metrics.show()[""] == {"data": {}}  # before any training: no error of a missing file
    assert "error" not in str(Repo().plots.show())

    with live.Watch(["dvclive"], tmp_path / "state" / "gan@x-0" / "abc", "gan@x-0") as watch:
        watch(HISTORY, {1: PICTURE, 2: PICTURE})
        shutil.rmtree(tmp_path / "dvc_plots", ignore_errors=True)
        assert [dvc(words[1:]) for words in show] == [0, 0, 0]
    printed = capsys.readouterr().out
    assert "live/metrics/gan@x-0/abc.json" in printed and "0.25" in printed
    drawn = (tmp_path / "dvc_plots" / "index.html").read_text(encoding="utf-8")
    assert "live/plots/gan@x-0/abc/metrics/loss.tsv" in drawn and '"loss": "0.25"' in drawn
    assert len(list((tmp_path / "dvc_plots").rglob("*grid*.png"))) == 2
    assert git("status", "--porcelain") == ""
    assert Repo().status() == {}
    assert dvc(["plots", "diff", "HEAD"]) == 0 and "loss.tsv" in (tmp_path / "dvc_plots" / "index.html").read_text()
    for words in clean:
        git(*words[1:])
    assert not list((tmp_path / "live").glob("*/gan*")) and git("status", "--porcelain") == ""


class Noted:
    """A logger that notes what it is given; it fails at epoch `at`."""

    def __init__(self, at=None):
        self.calls, self.at = [], at

    def row(self, epoch, values):
        if epoch == self.at:
            raise OSError("the disk is full")
        self.calls.append((epoch, values))

    def picture(self, epoch, picture):
        self.calls.append((epoch, "picture"))

    def end(self, outcome):
        self.calls.append(outcome)


def noted(monkeypatch, **loggers):
    for name, logger in loggers.items():
        monkeypatch.setitem(live.LOGGERS, name, lambda *_, logger=logger: logger)
    return loggers.values()


def test_every_epoch_is_logged_once_in_order_without_what_is_no_number(monkeypatch, tmp_path):
    """Rows and pictures by epoch, also where a resumed training hands over all at once, or a picture without a row."""
    (logger,) = noted(monkeypatch, tensorboard=Noted())
    rows = [{"epoch": epoch, "loss": epoch / 2} for epoch in (1, 2, 3, 4)]
    pictures = {3: PICTURE, 1: PICTURE}
    with live.Watch(["tensorboard"], tmp_path, "gan@x-0") as watch:
        watch(rows[:3], pictures)
        watch(rows, pictures)
        pictures |= {4: PICTURE, 9: PICTURE}  # looks after the last epoch
    expected = [(1, {"loss": 0.5}), (1, "picture"), (2, {"loss": 1.0}), (3, {"loss": 1.5}), (3, "picture")]
    assert logger.calls == [*expected, (4, {"loss": 2.0}), (4, "picture"), (9, "picture"), "finished"]
    (logger,) = noted(monkeypatch, tensorboard=Noted())
    live.Watch(["tensorboard"], tmp_path, "gan@x-0")(HISTORY, {})
    assert logger.calls == [(1, {"loss": 0.5}), (2, {"loss": 0.25, "kid": 0.1})]


def test_a_logger_that_fails_is_one_line_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    bad, good = noted(monkeypatch, tensorboard=Noted(at=1), dvclive=Noted())
    with live.Watch(["tensorboard", "dvclive"], tmp_path, "gan@x-0") as watch:
        for rows in (1, 2):
            watch(HISTORY[:rows], {})
    assert capsys.readouterr().err == "CXR_LOG: tensorboard stops: the disk is full\n"
    assert bad.calls == ["failed"]
    assert good.calls == [(1, {"loss": 0.5}), (2, {"loss": 0.25, "kid": 0.1}), "finished"]


def module(name: str, monkeypatch, **members) -> None:
    stub = types.ModuleType(name)
    stub.__spec__ = ModuleSpec(name, None)
    vars(stub).update(members)
    monkeypatch.setitem(sys.modules, name, stub)


@pytest.fixture
def runs(monkeypatch):
    """Stubs of mlflow and wandb, as strict as the real ones: the runs that they made, each a dict."""
    made, active = [], []

    def start(kind, name, more=None):
        assert kind not in [run["kind"] for run in active], "a run is active"
        active.append({"kind": kind, "name": name, "rows": [], "pictures": [], "end": None} | (more or {}))
        made.append(active[-1])

    def running(kind):
        (run,) = (run for run in active if run["kind"] == kind)
        return run

    def end(kind, how):
        run = running(kind)
        active.remove(run)
        run["end"] = how

    def to_mlflow(picture, file):
        assert isinstance(picture, np.ndarray) and picture.dtype == np.uint8
        running("mlflow")["pictures"].append(file)

    module(
        "mlflow", monkeypatch,
        start_run=lambda run_name: start("mlflow", run_name),
        log_metrics=lambda values, step: running("mlflow")["rows"].append(step),
        log_image=to_mlflow,
        end_run=lambda status: end("mlflow", status),
    )  # fmt: skip

    class Run:
        def log(self, values, step):
            run = running("wandb")
            if step >= max(run["rows"], default=0):  # the real one drops the others
                run["pictures" if "grid" in values else "rows"].append(step)

        def finish(self, exit_code):
            end("wandb", exit_code)

    def init(project, name, group, dir):
        start("wandb", name, {"project": project, "group": group})
        assert Path(dir).is_dir()
        return Run()

    module("wandb", monkeypatch, init=init, Image=lambda picture: picture)
    return made


def test_mlflow_and_wandb_get_a_run_for_each_training_of_a_process(data, tmp_path, monkeypatch, runs, capsys):  # noqa: F811
    monkeypatch.setenv("CXR_LOG", "mlflow,wandb")
    train(data, tmp_path, 2)
    train(data, tmp_path, 3)  # continues after the second epoch
    assert "CXR_LOG" not in capsys.readouterr().err
    name = {"name": "gan@pneumonia-0"}
    pictures = [f"grid-{epoch:04d}.png" for epoch in (1, 2, 3)]
    for made, epochs in (runs[:2], [1, 2]), (runs[2:], [1, 2, 3]):
        files = pictures[: len(epochs)]
        assert made == [
            name | {"kind": "mlflow", "rows": epochs, "pictures": files, "end": "FINISHED"},
            name | {"kind": "wandb", "rows": epochs, "pictures": epochs, "end": 0, "project": "cxr", "group": "gan"},
        ]


def test_runs_end_as_killed_on_sigterm_in_a_training_and_after_it(data, tmp_path, monkeypatch, runs):  # noqa: F811
    monkeypatch.setenv("CXR_LOG", "mlflow,wandb")
    log = sys.modules["mlflow"].log_metrics
    sys.modules["mlflow"].log_metrics = lambda *a, **k: (log(*a, **k), os.kill(os.getpid(), signal.SIGTERM))
    train(data, tmp_path, 3, code=128 + signal.SIGTERM)
    assert [(run["rows"], run["end"]) for run in runs] == [([1], "KILLED"), ([1], 1)]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), live.Watch(["wandb"], tmp_path, "final@0") as watch:
        watch(HISTORY, {})
        os.kill(os.getpid(), signal.SIGTERM)  # while the stage predicts
    assert (runs[-1]["name"], runs[-1]["end"]) == ("final@0", 1) and signal.getsignal(signal.SIGTERM) == before


def test_a_second_training_of_one_command_ends_the_runs_of_the_first(tmp_path, runs):
    with cli.at_end:
        for number in (1, 2):
            live.watch(["mlflow", "wandb"], tmp_path, f"gan@x-{number}")(HISTORY, {})
    assert [run["end"] for run in runs] == ["FINISHED", 0] * 2


@pytest.mark.parametrize(
    ("error", "how"),
    [(None, "finished"), (SystemExit(0), "finished"), (SystemExit(), "finished"), (SystemExit(1), "failed"),
     (SystemExit("text"), "failed"), (ValueError(), "failed"), (SystemExit(143), "killed")],
)  # fmt: skip
def test_how_a_training_ended(error, how):
    assert live.outcome(error) == how


def test_a_wrong_name_is_one_line_before_the_training(monkeypatch):
    monkeypatch.setenv("CXR_LOG", "tensorboard,tensorbord")
    with pytest.raises(ValueError, match="^CXR_LOG = tensorbord: choose from dvclive, tensorboard, mlflow, wandb"):
        live.chosen()
    monkeypatch.setenv("CXR_LOG", "dvclive")
    monkeypatch.setattr(live.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="^CXR_LOG = dvclive: it is not installed; pip install dvclive$"):
        live.chosen()
    monkeypatch.delenv("CXR_LOG")
    assert live.chosen() == []
