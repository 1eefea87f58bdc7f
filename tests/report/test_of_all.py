"""Generators of all training X-rays on the page: pictures, what they were trained on, judgements beside the DCGANs'."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import write_json, write_table
from cxr.core.picture import grid
from cxr.diffusion.formats import Edited, Kept
from cxr.gan import formats as gan_formats
from cxr.report import page
from cxr.report.sections.fidelity import fidelity
from cxr.report.sections.of_all import of_all, shuffled
from tests.make import example
from tests.report.fabricated import Page


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
    assert of_all(made[0]) == []


def test_what_it_was_trained_on_and_that_it_was_trained_once(run):
    (part,) = of_all(run)
    assert part["kept"]["steps"] == 60 and part["first_loss"] == 0.75 and part["rows_of"][0] == "No Finding"
    assert part["balances"] and part["shared"]  # the classifier's only seed is 0
    assert not of_all(dataclasses.replace(run, samplers=run.findings))[0]["balances"]
    assert not of_all(dataclasses.replace(run, seeds=[2]))[0]["shared"]


def test_its_judgements_stand_beside_those_of_the_dcgans(run):
    names = [answer["name"] for answer in fidelity(run)["answers"]]
    assert names[: len(run.findings)] == ["Pneumonia", "Lung Lesion", "Consolidation"]
    assert names[-2:] == ["Consolidation, diffusion", "All X-rays, diffusion"]
    assert [a["of_all"] for a in fidelity(run)["answers"]] == [""] * 3 + ["diffusion"] * 4


def test_the_key_names_the_generated_tiles(run):
    sheets = (Image.open(run.gan.parent / f"2/diffusion/{name}.png") for name in ("real", "generated"))
    picture, key = shuffled(*sheets, seed=3)
    tiles = np.asarray(picture).reshape(3, 8, 8, 8).transpose(0, 2, 1, 3).reshape(24, 64)[:, 0]
    assert len(key) == 12 and [k + 1 for k, value in enumerate(tiles) if value >= 100] == key
    assert sorted(tiles[tiles < 100]) == list(range(12))


def test_a_projection_gan_stands_beside_it(run, bare):
    folder = run.gan.parent / "4/projection"
    kept = {"mode": "projection", "select": "last", "average": 0.99, "epoch": 9, "epochs": 9, "kept_back": 0}
    write_json(folder / "kept.json", example(gan_formats.Kept, **kept, stopped_at=None, why=None))
    for name in ("real", "rows", "generated"):
        target = "grid-0009" if name == "generated" else name
        shutil.copy(run.gan.parent / f"2/diffusion/{name}.png", folder / f"{target}.png")
    shutil.copytree(run.fidelity.parent / "2/diffusion", run.fidelity.parent / "4/projection")
    both = dataclasses.replace(run, projection_seeds=[4])
    entries, judged = of_all(both), fidelity(both)
    assert [entry["kind"] for entry in entries] == ["diffusion", "projection"] and not entries[1]["balances"]
    assert judged["answers"][-1]["name"] == "All X-rays, projection"
    text = Page(page.render(bare | {"of_all": entries, "fidelity": judged})).text
    assert "The generator after epoch 9 of 9 is kept." in text and "Its X-rays are in no training table." in text
    assert "took 60 steps. Its loss fell from 0.75 in the first epoch to 0.12" in text


def test_edited_x_rays_show_real_patients_and_the_page_says_so(run, bare):
    folder = run.gan.parent / "2/editing"
    shutil.copytree(run.gan.parent / "2/diffusion", folder)
    (folder / "history.csv").unlink()  # nothing was trained
    write_json(folder / "kept.json", Edited(sources=40, patients=25, masked=0.125))
    shutil.copytree(run.fidelity.parent / "2/diffusion", run.fidelity.parent / "2/editing")
    file = run.fidelity.parent / "2/editing/every/fidelity.json"
    judged = json.loads(file.read_text())
    for space in judged["memorisation"]["spaces"].values():
        space["own_median"] = 1.625
    file.write_text(json.dumps(judged))
    edited = dataclasses.replace(run, editing_seeds=[2], samplers=["editing"])
    entries, judged = of_all(edited), fidelity(edited)
    assert [(entry["kind"], entry["balances"]) for entry in entries] == [("diffusion", False), ("editing", True)]
    text = Page(page.render(bare | {"of_all": entries, "fidelity": judged})).text
    assert "drew a finding into 40 real X-rays of 25 training patients" in text and "12.5 %" in text
    assert "The rows are As they are, Pneumonia" in text and "an edited X-ray shows a real patient" in text
    assert "edited, to its own patient" in text and "1.625" in text
    assert "own_median" not in fidelity(run)["memory"].frame()
