"""The disk fills while a stage writes, for every kind of writer: one line, nothing half-written, earlier results as
they were, and the same command succeeds once there is room.

Two kinds of full: a small file system of its own, where this user may mount one, and a limit on the size of files.
"""

import contextlib
import io
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cxr.core.files import FULL, DiskFull, atomic, sha256, write_json
from cxr.core.findings import FINDINGS
from cxr.fidelity.formats import Fidelity
from cxr.report.inputs import Artefacts
from stages import balance, download, gan, label, report, split
from stages import resize as resizing
from stages.cli import main
from tests.make import example
from tests.report.fabricated import arguments, fabricate

LIMIT = 512  # bytes that a file may have


class Limited:
    """A folder in which every write beyond LIMIT bytes of a file fails."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    @contextlib.contextmanager
    def full(self):
        # Python caches a module's bytecode without looking whether all of it was written: a module first imported
        # under the limit would be cut off in every later process.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        cached, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            sys.dont_write_bytecode = cached


class Small:
    """A file system of some megabytes."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no file system of its own can be mounted here: {done.stderr.strip()}")

    @contextlib.contextmanager
    def full(self):
        filler = self.folder / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(bytes(512)):
                pass
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture(params=[Limited, Small])
def disk(request, tmp_path):
    if request.param is Small and not shutil.which("mount"):
        pytest.skip("no mount here")
    made = request.param(tmp_path / "disk")
    yield made
    if request.param is Small:
        subprocess.run(["umount", made.folder], check=True)


def command(run, **options) -> tuple:
    words = []
    for key, value in options.items():
        words += [f"--{key}", str(value)]
    return run, words


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Everything that the stages read, made by the stages themselves from a CheXpert of noise."""
    root = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    rows = {"train": [], "valid": []}
    for i in range(40):
        part = "valid" if i >= 34 else "train"
        name = f"{part}/patient{i:05}/study1/view1_frontal.jpg"
        (root / "source" / name).parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (40, 50)).astype(np.uint8)).save(root / "source" / name)
        positive = ",".join("1.0" if finding == "Pneumonia" and i % 3 == 0 else "" for finding in FINDINGS)
        rows[part].append(f"{name},Female,50,Frontal,AP,{positive}")
    for part, lines in rows.items():
        head = ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS))
        (root / "source" / f"{part}.csv").write_text("\n".join([head, *lines]) + "\n")
    for name in ("download", "resize", "split", "label", "gan"):
        assert run(*stages(root, root)[name]) == (0, "")
    judged = {"generator_sha256": sha256(root / "gan/pneumonia/generator.safetensors"), "generated": 12}
    write_json(root / "fidelity/gan/pneumonia/fidelity.json", example(Fidelity, **judged))
    return root


def stages(root, out) -> dict:
    """The stages' commands, reading below root and writing below out."""
    records, splits, table = root / "data/records.parquet", root / "splits/chexpert", root / "labels.parquet"
    given = {"dataset": "chexpert", "source": root / "source"}
    manifest = {"records": records, "manifest": root / "data/manifest.json"}
    made = {"model": out / "gan/pneumonia", "report": out / "report/pneumonia"}
    tiny = {"size": 16, "epochs": 1, "batch": 4, "width": 4, "z_dim": 8}
    reads = {"records": records, "stores": root / "stores", "split": splits}
    return {
        "download": command(download.run, **given, out=out / "data", state=root / "state"),
        "resize": command(
            resizing.run, **given, **manifest, size=32, out=out / "stores", state=root / "state", processes=1
        ),
        "split": command(
            split.run, dataset="chexpert", records=records, manifest=root / "data/manifest.json",
            stores=root / "stores", out=out / "splits/chexpert", findings="pneumonia",
            test_images=6, valid="official", min_positives=1,
        ),
        "label": command(label.run, policy="u_zeroes", records=records, split=splits, out=out / "labels.parquet"),
        "gan": command(gan.run, generator="pneumonia", **reads, **made, **tiny | {"size": 32}, state=out / "state"),
        "model": command(gan.run, generator="pneumonia", **reads, **made, **tiny | {"size": 32}, state=root / "state"),
        "balance": command(
            balance.run, findings="pneumonia", samplers="pneumonia", table=table, gans=root / "gan",
            records=records, split=splits, out=out / "balanced",
            fidelity=root / "fidelity", size=32, target_prevalence=0.6,
        ),
    }  # fmt: skip


def run(stage, words) -> tuple[int, str]:
    """A stage's exit code, and its complaint without the progress before it."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        with pytest.raises(SystemExit) as end:
            main(stage, words)
    return end.value.code, "\n".join(line for line in said.getvalue().splitlines() if "error" in line)


def fills(disk, stage, words) -> None:
    """The whole story of one stage, of which everything it writes lies on the disk."""
    with disk.full():
        code, said = run(stage, words)
    assert code == 1 and len(said.splitlines()) == 1, said
    assert "no room" in said and str(disk.folder) in said and "/." not in said, "the user's path, no temporary one"
    assert not [p for p in disk.folder.rglob("*") if p.is_file() and p.name != "lock"]  # empty; of a training's state
    assert run(stage, words) == (0, "")
    before = {p: sha256(p) for p in disk.folder.rglob("*") if p.is_file()}
    assert before
    with disk.full():
        assert run(stage, words)[0] == 1
    assert {p: sha256(p) for p in disk.folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["download", "resize", "split", "label", "gan", "model", "balance"])
def test_a_stage(disk, inputs, name):
    if name == "model" and isinstance(disk, Limited):
        pytest.skip("the checkpoint before the model would already be too long")
    fills(disk, *stages(inputs, disk.folder)[name])


@pytest.mark.slow
def test_the_report(disk, tmp_path):
    run_ = Artefacts(**fabricate(tmp_path / "run", labels=[50]))
    fills(disk, report.run, arguments(run_, disk.folder))


def test_several_are_written_or_none(tmp_path):
    (tmp_path / "a").write_text("earlier")
    with pytest.raises(DiskFull, match=r"b: no room left to write it; free some space and run the same command again"):
        with atomic(tmp_path / "a") as first, atomic(tmp_path / "b") as second:
            first.write_text("new")
            second.write_text("new")
            with atomic(second):
                raise OSError(FULL[0], "No space left on device")
    assert (tmp_path / "a").read_text() == "earlier" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_take_its_place_leaves_the_earlier_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("earlier")
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a"):
        pass  # nothing was written, so there is nothing to rename
    assert (tmp_path / "a" / "x").read_text() == "earlier" and [p.name for p in tmp_path.iterdir()] == ["a"]
