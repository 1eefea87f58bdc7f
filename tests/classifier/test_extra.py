"""Rows of other hospitals at the end of a label table, and a control arm's length with them."""

import numpy as np
import pandas as pd
import pytest

from cxr.classifier import extra, extra_images
from cxr.classifier.net import classes_of
from cxr.classifier.objectives import BASELINE
from cxr.core.files import write_table
from cxr.core.findings import COLUMNS, UNCERTAIN


def label_table(*ids: str, **more) -> pd.DataFrame:
    columns = {name: np.float32(1) for name in COLUMNS}
    columns |= {"patient_id": list(ids), "split": "train", "projection": "frontal"} | more
    return pd.DataFrame({"image_id": list(ids)} | columns | {"image_id": list(ids)})


def test_rows_are_of_the_view_and_in_the_order_of_the_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        table = label_table(f"{name}/1", f"{name}/2", projection=["frontal", "lateral"])
        write_table(tmp_path / name / "table.parquet", table)
    assert extra.rows(tmp_path, ["b", "a"], "all")["image_id"].tolist() == ["b/1", "b/2", "a/1", "a/2"]
    assert extra.rows(tmp_path, ["a", "b"], "frontal")["image_id"].tolist() == ["a/1", "b/1"]
    with pytest.raises(ValueError, match="classifier.extra has 'c', which data.extra does not name"):
        extra.rows(tmp_path, ["a", "c"], "all")


def test_no_extra_row_is_synthetic_or_of_the_uncertain_class():
    uncertain = dict.fromkeys(UNCERTAIN, np.float32(0)) | {"uncertain.edema": np.float32(1), "weight.edema": 0.0}
    whole = extra.joined(label_table("x", "y", synthetic=[False, True], **uncertain), label_table("a/1"))
    assert whole["image_id"].tolist() == ["x", "y", "a/1"] and whole["synthetic"].tolist() == [False, True, False]
    assert classes_of(whole) == 3 and whole["uncertain.edema"].tolist() == [1, 1, 0]
    assert list(extra.joined(label_table("x"), label_table("a/1"))) == list(label_table("x"))


def test_an_arm_that_counts_images_counts_these_too():
    assert extra_images.lengthened(BASELINE, 7)["epoch_images"] == 0  # all rows of the table
    assert extra_images.lengthened(BASELINE | {"epoch_images": 40}, 7)["epoch_images"] == 47
    with pytest.raises(ValueError, match="study.arms has pos_weight"):
        extra_images.lengthened(BASELINE | {"objective": "pos_weight"}, 7)
