"""generate: the same X-rays for the same seed, and no X-rays of a generator that copies training images."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import sha256
from cxr.fidelity.formats import Fidelity, Memorisation
from stages import generate as stage
from tests.make import example


@pytest.fixture
def judged(made, tmp_path):
    gans = made[0] / "gans/pneumonia"
    """A function that writes fidelity.json of a generator with this share of duplicates."""

    def write(duplicates, weights=None):
        weights = weights or sha256(gans / "generator.safetensors")
        memorisation = example(Memorisation, duplicates=duplicates)
        numbers = example(Fidelity, memorisation=memorisation, generator_sha256=weights)
        (tmp_path / "gans/pneumonia").mkdir(parents=True, exist_ok=True)
        (tmp_path / "gans/pneumonia/fidelity.json").write_text(json.dumps(numbers))
        return {"generator": gans, "fidelity": tmp_path}

    return write


def pixels(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_the_same_seed_gives_the_same_x_rays_and_more_begin_with_fewer(judged, tmp_path):
    given = judged(0.01)
    for name, n, seed in (("a", 70, 0), ("b", 70, 0), ("c", 3, 0), ("d", 70, 1)):
        stage.run(**given, out=tmp_path / name, n=n, seed=seed)
    a, b, c, d = (pixels(tmp_path / name) for name in "abcd")
    assert a.shape == (70, 16, 16) and a.dtype == np.uint8 and a.std() > 0.2
    assert (a == b).all() and np.abs(a[:3].astype(int) - c).max() <= 1 and (a != d).mean() > 0.1
    table = pd.read_csv(tmp_path / "a/table.csv")
    assert list(table["file"]) == sorted(path.name for path in (tmp_path / "a").glob("*.png"))
    assert set(table["finding"]) == {"pneumonia"}


def test_a_generator_that_copies_is_refused_unless_forced(judged, tmp_path):
    given = judged(0.2)
    with pytest.raises(ValueError, match=r"20.0% of its X-rays copy training images, more than max_duplicates = 0.05"):
        stage.run(**given, out=tmp_path / "out", n=2)
    assert not (tmp_path / "out").exists()
    stage.run(**given, out=tmp_path / "out", n=2, force=True)
    stage.run(**given, out=tmp_path / "more", n=2, max_duplicates=0.3)
    assert len(pixels(tmp_path / "out")) == len(pixels(tmp_path / "more")) == 2


@pytest.mark.parametrize(
    "duplicates, weights, message",
    [(None, None, "could not judge whether it copies"), (0.0, "other", "judges another generator")],
)
def test_a_generator_that_was_not_judged_is_refused(judged, tmp_path, duplicates, weights, message):
    given = judged(duplicates, weights)
    with pytest.raises(ValueError, match=message):
        stage.run(**given, out=tmp_path / "out", n=1)
    (tmp_path / "gans/pneumonia/fidelity.json").unlink()
    with pytest.raises(ValueError, match="was never judged"):
        stage.run(**given, out=tmp_path / "out", n=1)


def test_a_folder_with_files_is_left_alone(judged, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    with pytest.raises(ValueError, match="is not empty; give a new folder"):
        stage.run(**judged(0.0), out=tmp_path / "out", n=1)
    with pytest.raises(ValueError, match="makes X-rays of pneumonia: choose one"):
        stage.run(**judged(0.0), out=tmp_path / "new", n=1, finding=["edema"])
    assert (tmp_path / "out/mine.txt").read_text() == "x"
