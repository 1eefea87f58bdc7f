"""The exit codes of a real process, and what it says on its two streams."""

import subprocess
import sys

import pytest
from PIL import Image

from tests.closure import ROOT
from tests.predict.conftest import picture

pytestmark = pytest.mark.slow


def test_a_process_ends_with_0_3_or_1(made, tmp_path):
    files, out = tmp_path / "in", tmp_path / "out"
    files.mkdir()

    def run(source=files):
        done = subprocess.run(
            [sys.executable, "-m", "stages.predict", str(made / "predictor"), str(source), "--out", str(out)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    Image.fromarray(picture(46, False)).save(files / "a.png")
    assert run()[:2] == (0, "predict: 1 of 1 files predicted\n")
    (files / "more.zip").write_bytes(b"PK")
    (files / "b.png").write_bytes(b"")
    code, said, told = run()
    assert (code, said) == (3, "predict: 1 of 2 files predicted; refused: unreadable: 1\n")
    assert "predict: left out: archives: 1 (more.zip); unpack them\n" in told
    code, said, told = run(tmp_path / "nowhere")
    assert (code, said) == (1, "") and told.startswith("predict: error: ") and told.count("\n") == 1
