from pathlib import Path

import numpy as np
import pytest

from cxr.core.files import write_table
from cxr.core.records import COLUMNS
from cxr.core.store import write_store
from tests.adgm.make import cohort
from tests.make import write_split


@pytest.fixture(scope="package")
def data(tmp_path_factory) -> Path:
    """A folder with a store of 17 x 17 images in which Normal is dark, records and a split."""
    root = tmp_path_factory.mktemp("adgm")
    records, split = cohort()
    level = np.where(records["class_name"] == "Normal", 60, 160)[:, None, None]
    images = np.clip(level + np.random.default_rng(0).normal(0, 20, (60, 17, 17)), 0, 255).astype(np.uint8)
    write_store(root / "stores" / "17", images, records[["image_id"]])
    write_table(root / "records.parquet", records.reindex(columns=COLUMNS["rsna"]))
    write_split(root, split)
    return root
