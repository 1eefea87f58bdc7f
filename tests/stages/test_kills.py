"""Every training stage, as its own process and command line, is ended at seeded points and run again until it is
through: its outs are those of an uninterrupted run, byte for byte. So are those of a longer run that follows a shorter.

A point is an event of the process: the end of a training step, a file about to be fsynced, or about to be renamed. The
processes are forked from one that has imported torch and used nothing of it, which saves ten seconds each.
"""

import multiprocessing
import os
import random
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import sha256, write_table
from cxr.core.findings import CLASSES, FINDINGS, SLUGS
from cxr.core.records import COLUMNS
from cxr.core.store import write_store
from cxr.training.checkpoints import states
from tests.closure import ROOT
from tests.make import write_split

pytestmark = pytest.mark.slow
KILLS = 6  # of each stage
EPOCHS = 3
STAGES = {"baseline": "classifier", "final": "classifier", "gan": "gan", "adgm": "adgm"}  # and their scripts


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "torch._dynamo",
            "lightning_fabric",
            "pyarrow.dataset",
            "PIL.PngImagePlugin",
            "typer._adapters",
            "cxr.gan.nets",
        ]
        + [
            "cxr.classifier.train",
            "cxr.adgm.train",
            "cxr.cohort.splits",
            *(f"stages.{script}" for script in set(STAGES.values())),
            __name__,
        ]
    )
    with pytest.MonkeyPatch.context() as patch:  # the server of Python 3.11 does not take over sys.path
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        context.Process(target=str).start()
        yield context


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Forty patients of noise, as the label and the resize stages would leave them."""
    root = tmp_path_factory.mktemp("kills")
    rng = np.random.default_rng(0)
    n = 40
    ids = np.array([f"p{i:03d}" for i in range(n)], object)
    split = pd.DataFrame({"image_id": ids, "patient_id": ids, "split": ["train"] * 24 + ["valid"] * 8 + ["test"] * 8})
    truth = rng.integers(0, 2, (n, len(FINDINGS))).astype(np.float32)
    truth[24:26] = [[0], [1]]  # both kinds of every finding among the validation images
    records = split.drop(columns="split").assign(projection="frontal", class_name=[CLASSES[i % 3] for i in range(n)])
    records = records.assign(**{f: truth[:, k] for k, f in enumerate(FINDINGS)})
    both = dict.fromkeys((*COLUMNS["chexpert"], *COLUMNS["rsna"]))
    write_table(root / "records.parquet", records.reindex(columns=list(both)))
    table = split.assign(projection="frontal")
    kinds = {"target": truth, "weight": np.ones_like(truth), "truth": truth}
    table = table.assign(**{f"{kind}.{s}": v[:, k] for kind, v in kinds.items() for k, s in enumerate(SLUGS)})
    write_table(root / "u_zeroes.parquet", table)
    write_split(root, split, select_on=list(SLUGS))
    for size in (16, 17, 32):
        images = rng.integers(0, 256, (n, size, size), dtype=np.uint8)
        write_store(root / "stores" / str(size), images, split[["image_id"]])
    made = pd.DataFrame({"image_id": ["synthetic"]})
    write_store(root / "synthetic", rng.integers(0, 256, (1, 32, 32), dtype=np.uint8), made)
    enriched = table.iloc[[0]].assign(image_id="synthetic", patient_id="synthetic")
    write_table(root / "enriched.parquet", pd.concat([table, enriched], ignore_index=True))
    return root


def command(stage: str, data: Path, folder: Path, epochs: int, minutes: float = 0.0) -> list[str]:
    """A stage's command line, all outs below folder/outs."""
    outs = folder / "outs"
    words = f"--epochs {epochs} --checkpoint_minutes {minutes} --state {folder}/state --split {data} "
    if stage in ("baseline", "final"):
        table = "u_zeroes" if stage == "baseline" else "enriched"
        model = "baseline/u_zeroes" if stage == "baseline" else "final"
        words += f"--table {data}/{table}.parquet --stores {data}/stores --model {outs}/{model} --weights none "
        words += f"--predictions {outs}/p.parquet --history {outs}/h.csv --size 32 --batch 8 --lr 1e-3 "
        words += "--backbone densenet_small "
        words += f"--synthetic {data}/synthetic" if stage == "final" else ""
    elif stage == "gan":
        words += f"--generator pneumonia --records {data}/records.parquet --stores {data}/stores --model {outs}/gan "
        words += f"--report {outs}/report --size 16 --width 4 --batch 4 --sample_every 2"
    else:
        words += "--variant corrected --draw 0 --classes 2 --labels 4 "
        words += f"--records {data}/records.parquet --store {data}/stores/17 --model {outs}/m "
        words += f"--predictions {outs}/p.parquet --report {outs}/report --size 17 --batch 4 --z_dim 3 --a_dim 2"
    return words.split()


def work(stage: str, words: list[str], log: str, event: int | None, number: int) -> None:
    """What the child does: the stage, with the signal `number` sent to itself at its event-th event. The log's last
    line is the count of events.
    """
    import importlib

    import torch

    from cxr.core.files import Progress
    from stages.cli import main

    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    seen = 0

    def watched(function):
        def call(*arguments, **options):
            nonlocal seen
            seen += 1
            if seen == event:
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return call

    Progress.update = watched(Progress.update)
    os.fsync = watched(os.fsync)
    Path.replace, Path.rename = watched(Path.replace), watched(Path.rename)
    sys.stderr = sys.stdout = os.fdopen(1, "w", buffering=1)
    try:
        main(importlib.import_module(f"stages.{STAGES[stage]}").run, words)
    finally:
        print(f"events {seen}", flush=True)


def ends(processes, stage: str, words: list[str], log: Path, event: int | None = None, number: int = 0) -> int:
    """Run the stage to its end, or to its event; the process's exit code (minus the signal that killed it)."""
    child = processes.Process(target=work, args=(stage, words, str(log), event, number))
    child.start()
    child.join(240)
    assert child.exitcode is not None, log.read_text()
    return child.exitcode


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in (folder / "outs").rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): sha256(p) for p in files}


def position(folder: Path) -> int:
    """Steps of the newest state."""
    return max((newest for training in folder.glob("state/*/*") for newest in states(training)), default=0)


@pytest.fixture(scope="module")
def uninterrupted(processes, data, tmp_path_factory):
    """stage -> (the outs' hashes, events, steps) of one run to epoch EPOCHS, each made when first asked for."""
    made: dict[str, tuple[dict[str, str], int, int]] = {}

    def run(stage: str) -> tuple[dict[str, str], int, int]:
        if stage not in made:
            folder = tmp_path_factory.mktemp(f"whole-{stage}")
            code = ends(processes, stage, command(stage, data, folder, EPOCHS), folder / "log")
            text = (folder / "log").read_text()
            assert code == 0, text
            made[stage] = hashes(folder), int(re.findall(r"^events (\d+)$", text, re.M)[-1]), position(folder)
            assert len(made[stage][0]) >= 4
        return made[stage]

    return run


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_random_points_it_ends_with_the_same_bytes(stage, processes, data, uninterrupted, tmp_path):
    expected, events, steps = uninterrupted(stage)
    rng = random.Random(stage)
    words, log = command(stage, data, tmp_path, EPOCHS), tmp_path / "log"
    reached = [0]
    for left in range(KILLS, 0, -1):
        remaining = events * (1 - reached[-1] / steps)
        event = rng.randint(1, max(1, int(1.7 * remaining / (left + 1))))
        assert ends(processes, stage, words, log, event, signal.SIGKILL) == -signal.SIGKILL, log.read_text()
        reached.append(position(tmp_path))
    assert ends(processes, stage, words, log) == 0, log.read_text()
    assert reached == sorted(reached) and len(set(reached)) >= KILLS // 2, reached
    assert hashes(tmp_path) == expected
    assert not list(tmp_path.rglob(".*")), "a killed process's temporaries stay behind"


def test_twenty_kills_are_asked_for():
    assert KILLS * len(STAGES) >= 20


@pytest.mark.parametrize("stage", ["gan", "adgm"])
def test_killed_while_it_writes_its_outs_it_leaves_nothing_half_done(stage, processes, data, uninterrupted, tmp_path):
    expected, events, steps = uninterrupted(stage)
    words, log = command(stage, data, tmp_path, EPOCHS), tmp_path / "log"
    assert ends(processes, stage, words, log, events - 2, signal.SIGKILL) == -signal.SIGKILL
    assert position(tmp_path) == steps and hashes(tmp_path) != expected and list(tmp_path.rglob("outs/**/.*"))
    assert ends(processes, stage, words, log) == 0, log.read_text()
    assert hashes(tmp_path) == expected and not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", STAGES)
def test_asked_to_end_it_saves_and_goes_on_to_the_same_bytes(stage, number, processes, data, uninterrupted, tmp_path):
    expected, _, steps = uninterrupted(stage)
    words, log = command(stage, data, tmp_path, EPOCHS, minutes=60), tmp_path / "log"
    # Without saves in between the events are the fingerprint's rename, then a step each.
    asked = 1 + random.Random(f"{stage} {number}").randint(1, steps - 1)
    assert ends(processes, stage, words, log, asked, number) == 128 + number, log.read_text()
    assert position(tmp_path) == asked - 1
    assert f"stopped by {number.name}; the same command continues from here" in log.read_text()
    assert not (tmp_path / "outs").exists()
    assert ends(processes, stage, words, log) == 0, log.read_text()
    assert f"continues from step {asked - 1:,} " in log.read_text()
    assert hashes(tmp_path) == expected


@pytest.mark.parametrize("stage", ["baseline", "gan", "adgm"])
def test_a_longer_run_continues_a_shorter_one_to_the_same_bytes(stage, processes, data, uninterrupted, tmp_path):
    expected, _, steps = uninterrupted(stage)
    log = tmp_path / "log"
    for epochs in (1, EPOCHS):
        assert ends(processes, stage, command(stage, data, tmp_path, epochs, 60), log) == 0, log.read_text()
    assert f"continues from step {steps // EPOCHS:,} " in log.read_text()
    assert hashes(tmp_path) == expected


def test_two_at_once_under_one_fingerprint_do_not_disturb_each_other(processes, data, uninterrupted, tmp_path):
    """As two queued experiments are: one state folder, each its own outs."""
    expected, _, _ = uninterrupted("gan")
    children = []
    for name in ("one", "two"):
        words = command("gan", data, tmp_path / name, EPOCHS)
        words[words.index("--state") + 1] = str(tmp_path / "state")
        (tmp_path / name).mkdir()
        children.append(processes.Process(target=work, args=("gan", words, str(tmp_path / name / "log"), None, 0)))
    for child in children:
        child.start()
    for child, name in zip(children, ("one", "two"), strict=True):
        child.join(240)
        assert child.exitcode == 0, (tmp_path / name / "log").read_text()
        assert hashes(tmp_path / name) == expected
    assert len(list((tmp_path / "state" / "gan@pneumonia-0").iterdir())) == 1
