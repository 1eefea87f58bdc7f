"""A classifier of 32 px, trained on ninety image files, its predictor's folder, and a run of predict on the files."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.cohort import policies
from cxr.core.files import write_json, write_table
from cxr.core.findings import FINDINGS
from cxr.data.pack import pack
from cxr.data.sources.archive import Folder
from stages import calibrate
from stages import classifier as classifier_stage
from stages import predict as stage
from tests.data.pictures import smooth
from tests.make import write_split

N = 90


def picture(k: int, lateral: bool) -> np.ndarray:
    """The k-th image: soft texture, and a bright bar that stands in a frontal and lies in a lateral one."""
    pixels = smooth(56, 48, k)
    if lateral:
        pixels[20:30] = 250
    else:
        pixels[:, 18:28] = 250
    return pixels


def make(at, view="all", backbone="densenet_small"):
    """Everything up to the predictor's folder, at / "predictor"."""
    names, files = [], at / "files"
    lateral = np.arange(N) % 5 == 4
    for k in range(N):
        name = f"patient{k:05}/study1/view1_{'lateral' if lateral[k] else 'frontal'}.png"
        (files / name).parent.mkdir(parents=True)
        Image.fromarray(picture(k, lateral[k])).save(files / name)
        names.append(name)
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"image_id": names, "path": names, "patient_id": [name[:12] for name in names]})
    table["projection"] = np.where(lateral, "lateral", "frontal")
    for finding in FINDINGS:
        table[finding] = (rng.random(N) < 0.4).astype(np.float32)
    table["Fracture"] = np.float32(0)
    table["Pleural Other"] = np.where(np.arange(N) < 45, -1, 1).astype(np.float32)  # ignored in training
    part = np.repeat(["train", "valid", "test"], [45, 30, 15])
    split = table[["image_id", "patient_id"]].assign(split=part)
    write_split(at / "split", split, select_on=["edema"])
    pack(Folder(files), table, [32], at / "stores", processes=1)
    write_table(at / "labels.parquet", policies.table(table, split, "u_ignore"))
    write_json(at / "manifest.json", {"kind": "phantom", "images": N, "bytes": 1, "tables": {}})
    classifier_stage.run(
        table=at / "labels.parquet", stores=at / "stores", split=at / "split", model=at / "model",
        predictions=at / "predictions.parquet", history=at / "history.csv", backbone=backbone, size=32,
        epochs=1, batch=9, weights="none", view=view, precision="32-true", state=at / "state",
    )  # fmt: skip
    calibrated(at)
    return at


def calibrated(at, **options):
    given = {
        "model": at / "model", "predictions": at / "predictions.parquet", "table": at / "labels.parquet",
        "label_table": at / "labels.parquet", "stores": at / "stores", "split": at / "split",
        "manifest": at / "manifest.json", "instance": "final@0", "out": at / "predictor", "replicates": 50,
        "min_positives": 3, "precision": "32-true",
    }  # fmt: skip
    calibrate.run(**given | options)


def predicted(at, source, out, predictor=None, **options):
    """The exit code of predict, and its table."""
    import typer

    code = 0
    try:
        stage.run(
            predictor or at / "predictor", str(source), out=out, **{"precision": "32-true", "processes": 1} | options
        )
    except typer.Exit as end:
        code = end.exit_code
    return code, pd.read_parquet(out / "predictions.parquet")


@pytest.fixture(scope="package")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("predict"))


@pytest.fixture(scope="package")
def frontal(tmp_path_factory):
    return make(tmp_path_factory.mktemp("frontal"), "frontal")


@pytest.fixture(scope="package")
def whole(made, tmp_path_factory):
    """(folder of the outputs, their table) of all files."""
    out = tmp_path_factory.mktemp("out")
    with contextlib.redirect_stdout(None):
        return out, predicted(made, made / "files", out)[1]
