"""The flow of patients: counts against the records, what is left out, and a source whose patients are unknown."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import write_json
from cxr.core.records import load
from cxr.data.formats import Manifest
from cxr.report.figures.flow import Box
from cxr.report.figures.flow import flow as figure
from cxr.report.sections.flow import flow
from tests.make import example

pytestmark = pytest.mark.usefixtures("undrawn")


def step(rows, dataset, name):
    (row,) = [r for r in rows if (r["dataset"], r["step"]) == (dataset, name)]
    return row


def test_the_steps_add_up_to_the_records(made):
    rows = flow(made[0])["table"].rows
    records = load(made[0].chexpert / "records.parquet", "chexpert")
    every = step(rows, "CheXpert", "records")
    assert every["images"] == len(records) and every["patients"] == records["patient_id"].nunique()
    assert every["studies"] == records["study_id"].nunique()
    parts = [r for r in rows if r["dataset"] == "CheXpert" and r["step"] not in ("records",)]
    assert sum(r["images"] for r in parts) == len(records)
    assert sum(r["patients"] for r in parts) == every["patients"]  # split by patient
    split = pd.read_parquet(made[0].splits / "chexpert" / "split.parquet")
    assert step(rows, "CheXpert", "test")["images"] == (split["split"] == "test").sum()


def test_rejected_images_and_those_outside_the_split_are_counted(made, tmp_path):
    for name in ("stores", "splits"):
        shutil.copytree(getattr(made[0], name), tmp_path / name)
    split = pd.read_parquet(tmp_path / "splits/chexpert/split.parquet")
    gone = split["image_id"][:3]
    split[5:].to_parquet(tmp_path / "splits/chexpert/split.parquet")
    rejected = pd.DataFrame({"image_id": gone, "path": "x", "reason": "empty"})
    rejected.to_csv(tmp_path / "stores/chexpert/rejected.csv", index=False)
    result = flow(dataclasses.replace(made[0], stores=tmp_path / "stores", splits=tmp_path / "splits"))
    rows = result["table"].rows
    assert step(rows, "CheXpert", "rejected")["images"] == 3
    assert step(rows, "CheXpert", "outside the split")["images"] == 2
    words = [text.get_text() for text in result["pictures"][0]["picture"].figure.axes[0].texts]
    assert {"3 unreadable", "2 outside the split", "Images left out"} <= set(words)


def test_where_an_image_is_all_that_is_known_of_a_patient_only_images_are_counted(made, tmp_path):
    shutil.copytree(made[0].rsna, tmp_path / "rsna")
    records = load(made[0].rsna / "records.parquet", "rsna")
    row = step(flow(made[0])["table"].rows, "RSNA 2018", "records")
    assert row["patients"] == records["patient_id"].nunique() and row["images"] == len(records)
    write_json(tmp_path / "rsna/manifest.json", example(Manifest, kind="phantom", patient_key="image"))
    result = flow(dataclasses.replace(made[0], rsna=tmp_path / "rsna"))
    row = step(result["table"].rows, "RSNA 2018", "records")
    assert row["patients"] is None and row["studies"] is None and row["images"] == len(records)
    words = " ".join(text.get_text() for text in result["pictures"][1]["picture"].figure.axes[0].texts)
    assert f"{len(records)} images" in words and "patient" not in words
    assert "with their class, 500 without" in words


def test_no_box_lies_on_another():
    branches = [[Box("part", ["a"] * k), Box("use", ["b"])] for k in (1, 3, 2)]
    drawn = figure([Box("records", ["x", "y"]), Box("split", ["z"])], [Box("left out", ["1", "2"]), None], branches)
    frames = [patch.get_bbox() for patch in drawn.axes[0].patches if hasattr(patch, "get_boxstyle")]
    assert len(frames) == 9
    for k, one in enumerate(frames):
        assert 0 <= one.x0 < one.x1 <= 7.2
        for other in frames[k + 1 :]:
            apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
            assert apart, (one, other)
    assert np.isfinite(drawn.get_size_inches()).all()


def test_a_missing_split_is_named_with_its_cure(made, tmp_path):
    with pytest.raises(ValueError, match="split.parquet: no such file; `dvc repro split@chexpert` makes it"):
        flow(dataclasses.replace(made[0], splits=tmp_path))
