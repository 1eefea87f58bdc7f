"""The diffusion model on the page: its pictures, what it was trained on, its judgements beside the DCGANs'."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import write_json, write_table
from cxr.core.picture import grid
from cxr.diffusion.formats import Kept
from cxr.report.sections.diffusion import diffusion, shuffled
from cxr.report.sections.fidelity import fidelity
from tests.make import example


@pytest.fixture
def run(made, tmp_path):
    """The fabricated run with a diffusion model of seed 2 that balances the table."""
    artefacts = made[0]
    shutil.copytree(artefacts.gan, tmp_path / "gan/0")
    folder = tmp_path / "gan/2/diffusion"
    write_json(folder / "kept.json", example(Kept, epochs=2, steps=60, weights=1_200_000, loss=0.125))
    write_table(folder / "history.csv", pd.DataFrame({"epoch": [1, 2], "loss": [0.75, 0.125]}))
    tiles = np.arange(64, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    for name, images in {"real": tiles, "generated": tiles + 100, "rows": tiles[:32]}.items():
        Image.fromarray(grid(images)).save(folder / f"{name}.png")
    shutil.copytree(artefacts.fidelity, tmp_path / "fidelity/0")
    for name in (*artefacts.findings, "every"):
        shutil.copytree(artefacts.fidelity / artefacts.findings[0], tmp_path / "fidelity/2/diffusion" / name)
    changed = {"gan": tmp_path / "gan/0", "fidelity": tmp_path / "fidelity/0"}
    return dataclasses.replace(artefacts, **changed, diffusion_seeds=[2], samplers=["diffusion"])


def test_without_one_there_is_no_section(made):
    assert diffusion(made[0]) is None


def test_what_it_was_trained_on_and_that_it_was_trained_once(run):
    part = diffusion(run)
    assert part["kept"]["steps"] == 60 and part["first_loss"] == 0.75 and part["rows_of"][0] == "No Finding"
    assert part["balances"] and part["shared"]  # the classifier's only seed is 0
    assert not diffusion(dataclasses.replace(run, samplers=run.findings))["balances"]
    assert not diffusion(dataclasses.replace(run, seeds=[2]))["shared"]


def test_its_judgements_stand_beside_those_of_the_dcgans(run):
    names = [answer["name"] for answer in fidelity(run)["answers"]]
    assert names[: len(run.findings)] == ["Pneumonia", "Lung Lesion", "Consolidation"]
    assert names[-2:] == ["Consolidation, diffusion", "All X-rays, diffusion"]
    assert [a["of_all"] for a in fidelity(run)["answers"]] == [False] * 3 + [True] * 4


def test_the_key_names_the_generated_tiles(run):
    sheets = (Image.open(run.gan.parent / f"2/diffusion/{name}.png") for name in ("real", "generated"))
    picture, key = shuffled(*sheets, seed=3)
    tiles = np.asarray(picture).reshape(3, 8, 8, 8).transpose(0, 2, 1, 3).reshape(24, 64)[:, 0]
    assert len(key) == 12 and [k + 1 for k, value in enumerate(tiles) if value >= 100] == key
    assert sorted(tiles[tiles < 100]) == list(range(12))
