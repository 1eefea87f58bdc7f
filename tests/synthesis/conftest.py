"""What balance, gan, split and resize leave, and every arm made of it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.core.files import sha256
from cxr.core.findings import COLUMNS, SLUGS
from cxr.core.records import COLUMNS as RECORDS
from cxr.core.store import write_store
from cxr.data.formats import Manifest
from cxr.gan import nets
from cxr.gan.formats import Generator
from cxr.synthesis import arms, balance
from cxr.synthesis.formats import FindingPlan, Plan
from cxr.training.weights import save
from tests.make import example
from tests.synthesis.make import RARE, make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything that balance, gan, split and resize leave, at 32 and 16 px, and each arm made of it."""
    at = tmp_path_factory.mktemp("arms")
    rng = np.random.default_rng(0)
    n = 60
    labels = (rng.random((n, len(SLUGS))) < 0.3).astype(np.float32)
    for name in RARE:
        labels[:, SLUGS.index(name)] = np.arange(n) % 15 == list(RARE).index(name)
    head = pd.DataFrame({"image_id": [f"i{i:03d}" for i in range(n)], "patient_id": [f"p{i:03d}" for i in range(n)]})
    head["split"] = np.where(np.arange(n) < 45, "train", np.where(np.arange(n) < 50, "valid", "test"))
    head["projection"] = np.where(np.arange(n) % 4 == 3, "lateral", "frontal")
    kinds = {"target": labels, "weight": np.ones_like(labels), "truth": labels}
    blocks = [pd.DataFrame(v, columns=[f"{k}.{s}" for s in SLUGS]) for k, v in kinds.items()]
    real = pd.concat([head, *blocks], axis=1)[list(COLUMNS)].assign(synthetic=False)
    for size in (16, 32):
        write_store(at / "stores" / str(size), rng.integers(0, 255, (n, size, size), np.uint8), head[["image_id"]])
    extra = [balance.synthetic_rows(name, k, "masked", real, "frontal") for name, k in RARE.items()]
    whole = pd.concat([real, *extra], ignore_index=True)
    (at / "balanced").mkdir()
    whole.to_parquet(at / "balanced/table.parquet")
    made = whole.loc[whole["synthetic"], ["image_id"]].reset_index(drop=True)
    write_store(at / "balanced/images", rng.integers(0, 255, (len(made), 32, 32), np.uint8), made)
    plan = {
        "target_prevalence": 0.2,
        "labels": "masked",
        "findings": {name: example(FindingPlan, positives=3, generated=k, negatives=0) for name, k in RARE.items()},
    }
    (at / "balanced/plan.json").write_text(json.dumps(example(Plan, **plan)))
    for name in RARE:
        (at / "gans" / name).mkdir(parents=True)
        g, _ = nets.build(16, 8, 4, 1, 3, gain=0.5)
        with torch.no_grad():
            next(g.parameters()).add_(1)  # as if trained
        meta = {"size": 16, "z_dim": 8, "width": 4, "channels": 1, "seed": 3, "images": 9, "epochs": 1}
        meta |= {"split_sha256": "", "mode": "per_finding", "view": "frontal", "holdout": 0.0, "gain": 0.5}
        save(at / "gans" / name / "generator.safetensors", g.state_dict(), example(Generator, **meta))
    head[["image_id", "patient_id", "split"]].to_parquet(at / "split.parquet")
    about = {"by": "patient", "sha256": sha256(at / "split.parquet")}
    (at / "split.json").write_text(json.dumps(about))
    recipe = {"patients": 40, "seed": 5}
    (at / "manifest.json").write_text(json.dumps(example(Manifest, kind="phantom", recipe=recipe)))
    records = head.assign(view=["AP", "PA", "AP", None] * 15).reindex(columns=RECORDS["chexpert"])
    records.to_parquet(at / "records.parquet")
    small_doses = {f"{kind}_dose_{percent}" for kind in ("gan", "oracle") for percent in (25, 50, 100)}
    for name in arms.ARMS:
        if name not in ("copy_paste", "pseudo_labels") and (name in small_doses or "_dose_" not in name):
            make(at, name)
    return at, real, whole
