"""Arms made from a small cohort that balance, gan, split and resize left (conftest.py)."""

import json

import pandas as pd

from cxr.core.store import open_store
from stages import arm as stage

RARE = {"pneumonia": 6, "lung_lesion": 3}  # generated images of each finding


def make(at, name, gan_size=16, baseline=None):
    stage.run(
        arm=name, balanced=at / "balanced", gans=at / "gans", stores=at / "stores", split=at,
        out=at / "arms" / name, size=32, gan_size=gan_size, samplers=list(RARE),
        records=at / "records.parquet", manifest=at / "manifest.json", gan_view="frontal", view="all",
        baseline=baseline or at / "baseline/0/u_zeroes", seed=0,
    )  # fmt: skip


def of(at, name):
    folder = at / "arms" / name
    table = pd.read_parquet(folder / "table.parquet")
    images = open_store(folder / "images") if (folder / "images").exists() else None
    return table, images, json.loads((folder / "arm.json").read_text())
