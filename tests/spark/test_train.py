"""Trainings on Spark: each command is a training of its own, with the bytes that it has alone."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import sha256
from cxr.core.findings import FINDINGS
from cxr.core.records import COLUMNS
from cxr.core.store import write_store
from cxr.spark import train
from tests.closure import ROOT
from tests.make import write_split

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("CXR_LONG" not in os.environ, reason="it takes minutes; set CXR_LONG=1"),
]
GAN = "--size 16 --epochs 1 --batch 8 --z_dim 4 --width 8 --sample_every 1 --select last"


def test_each_training_is_its_own(spark, tmp_path):
    """Two generators with two seeds, at once on two cores, against each alone."""
    n, rng = 40, np.random.default_rng(0)
    ids = [f"i{k:02}" for k in range(n)]
    write_store(tmp_path / "stores/16", rng.integers(0, 255, (n, 16, 16), np.uint8), pd.DataFrame({"image_id": ids}))
    known = {"image_id": ids, "patient_id": [f"p{k // 2}" for k in range(n)], "projection": "frontal", "view": "AP"}
    known |= {"sex": "F", "age": 50.0} | dict.fromkeys(FINDINGS, 1.0)
    table = pd.DataFrame(dict.fromkeys(COLUMNS["chexpert"], "") | known)
    table.to_parquet(tmp_path / "records.parquet", index=False)
    write_split(tmp_path / "split", table[["image_id", "patient_id"]].assign(split="train"), min_positives=1)
    words = f"{sys.executable} -m stages.gan --generator pneumonia --records {tmp_path}/records.parquet"
    words += f" --stores {tmp_path}/stores --split {tmp_path}/split {GAN}"

    def command(seed: int, where: str) -> str:
        out = tmp_path / where / str(seed)
        return f"cd {ROOT} && {words} --seed {seed} --state {out}/state --model {out}/model --report {out}/report"

    train.run(spark, [command(seed, "spark") for seed in (0, 1)], 2, gpu=False)
    alone = subprocess.run(command(0, "alone"), shell=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert alone.returncode == 0
    for out in ("model", "report"):
        assert sha256(tmp_path / "spark/0" / out) == sha256(tmp_path / "alone/0" / out)
        assert sha256(tmp_path / "spark/0" / out) != sha256(tmp_path / "spark/1" / out)


def test_what_fails_is_named_after_the_others_ended(spark, tmp_path):
    commands = [f"touch {tmp_path}/a", "echo no weights >&2; exit 3", f"touch {tmp_path}/c"]
    with pytest.raises(ValueError, match=r"exit 3.*: exit 3: no weights$"):
        train.run(spark, commands, 2, gpu=False)
    assert [file.name for file in tmp_path.iterdir()] == ["a"], "the second turn did not start"
