from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import write_json, write_table
from cxr.core.records import COLUMNS
from cxr.core.store import write_store
from tests.adgm.make import cohort
from tests.make import write_split


@pytest.fixture(scope="package")
def data(tmp_path_factory) -> Path:
    """A folder with a store of 17 x 17 images in which Normal is dark, records, a split, and an encoder's features, of
    which the first is the mean grey level."""
    root = tmp_path_factory.mktemp("adgm")
    records, split = cohort()
    level = np.where(records["class_name"] == "Normal", 60, 160)[:, None, None]
    images = np.clip(level + np.random.default_rng(0).normal(0, 20, (60, 17, 17)), 0, 255).astype(np.uint8)
    write_store(root / "stores" / "17", images, records[["image_id"]])
    write_table(root / "records.parquet", records.reindex(columns=COLUMNS["rsna"]))
    digest = write_split(root, split)
    features = np.concatenate([images.mean((1, 2))[:, None], np.random.default_rng(1).normal(0, 1, (60, 5))], axis=1)
    table = pd.DataFrame(features.astype(np.float32), columns=[f"feature.{k}" for k in range(6)])
    write_table(root / "encoder" / "features.parquet", table.assign(image_id=records["image_id"]))
    write_json(root / "encoder" / "encoder.json", {"features": 6, "split_sha256": digest, "width": 4})
    return root
