"""Curves and pictures of a running training: what CXR_LOG writes, and that no result knows of it."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stages import live
from stages.cli import main
from stages.gan import run as gan
from tests.stages.test_kills import command, data, hashes  # noqa: F401

HISTORY = [{"epoch": 1, "loss": 0.5, "kid": float("nan"), "note": "text"}, {"epoch": 2, "loss": 0.25, "kid": 0.1}]


def train(data, folder, epochs):  # noqa: F811
    with pytest.raises(SystemExit) as end:
        main(gan, command("gan", data, folder, epochs, 60))
    assert not end.value.code
    return hashes(folder)


def test_a_gan_trains_to_the_same_bytes_and_a_resumed_one_has_whole_curves(data, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delenv("CXR_LOG", raising=False)
    plain = train(data, tmp_path / "plain", 3)
    monkeypatch.setenv("CXR_LOG", "tensorboard, dvclive")
    train(data, tmp_path / "watched", 2)
    assert train(data, tmp_path / "watched", 3) == plain  # continues after the second epoch
    (folder,) = (tmp_path / "watched" / "state").glob("*/*/live")
    assert not list((tmp_path / "plain").rglob("live"))
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("loss_d")] == [1, 2, 3]
    assert [picture.step for picture in events.Images("grid")] == [1, 2]
    metrics = json.loads((folder / "dvclive" / "metrics.json").read_text())
    assert metrics["step"] == 3 and metrics["loss_d"] == pytest.approx(events.Scalars("loss_d")[-1].value, rel=1e-6)
    assert len((folder / "dvclive" / "plots" / "metrics" / "loss_d.tsv").read_text().splitlines()) == 4
    assert {path.name for path in (folder / "dvclive" / "plots" / "images").iterdir()} == {
        "grid-0001.png",
        "grid-0002.png",
    }


class Noted:
    """A logger that notes what it is given; it fails at epoch `at`."""

    def __init__(self, folder, instance, at=None):
        self.rows, self.at = [], at

    def row(self, epoch, values):
        if epoch == self.at:
            raise OSError("the disk is full")
        self.rows.append((epoch, values))

    def picture(self, epoch, picture): ...


def test_every_epoch_is_logged_once_without_what_is_no_number(monkeypatch, tmp_path):
    noted = Noted(None, "")
    monkeypatch.setitem(live.LOGGERS, "tensorboard", lambda *_: noted)
    watch = live.Watch(["tensorboard"], tmp_path, "gan@x-0")
    watch(HISTORY[:1], {})
    watch(HISTORY, {})
    assert noted.rows == [(1, {"loss": 0.5}), (2, {"loss": 0.25, "kid": 0.1})]


def test_a_logger_that_fails_is_one_line_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    bad, good = Noted(None, "", at=1), Noted(None, "")
    monkeypatch.setitem(live.LOGGERS, "tensorboard", lambda *_: bad)
    monkeypatch.setitem(live.LOGGERS, "dvclive", lambda *_: good)
    watch = live.Watch(["tensorboard", "dvclive"], tmp_path, "gan@x-0")
    for rows in (1, 2):
        watch(HISTORY[:rows], {})
    assert capsys.readouterr().err == "CXR_LOG: tensorboard stops: the disk is full\n"
    assert [epoch for epoch, _ in good.rows] == [1, 2]


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
