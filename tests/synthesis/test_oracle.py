"""The oracle: new phantom patients with the labels of their reports."""

import json

import numpy as np
import pandas as pd
import pytest

from cxr.data.phantom.patients import patient
from cxr.synthesis import oracle
from stages import arm as stage
from tests.synthesis.make import RARE, of


def test_as_many_with_and_without_each_finding_and_no_film_twice():
    rows, drawn = oracle.draw({"pneumonia": (5, 3), "lung_lesion": (4, 0)}, "u_zeroes", 7)
    assert (
        rows["truth.pneumonia"].iloc[:5].tolist() == [1] * 5 and rows["truth.pneumonia"].iloc[5:8].tolist() == [0] * 3
    )
    assert rows["truth.lung_lesion"].iloc[8:].tolist() == [1] * 4
    assert len(set(drawn)) == len(drawn) == len(rows) == 12
    for (number, s), (_, row) in zip(drawn, rows.iterrows(), strict=True):
        labels = patient(7, number, radiologist=False).studies[s - 1].labels
        assert (row["target.edema"] == 1) == (labels["Edema"] == 1)
    again, _ = oracle.draw({"pneumonia": (5, 3), "lung_lesion": (4, 0)}, "u_zeroes", 7)
    pd.testing.assert_frame_equal(rows, again)


def test_the_policy_is_that_of_the_label_table():
    counts = {"consolidation": (0, 200)}
    zeroes, ones = (oracle.draw(counts, policy, 7)[0] for policy in ("u_zeroes", "u_ones"))
    uncertain = zeroes["truth.edema"].isna()
    assert (
        uncertain.any()
        and (zeroes["target.edema"][uncertain] == 0).all()
        and (ones["target.edema"][uncertain] == 1).all()
    )


def test_the_arm_has_new_films_under_the_generated_images_ids(made):
    at, real, whole = made
    table, images, spec = of(at, "oracle")
    extra = table[table["synthetic"]]
    assert list(extra["image_id"]) == list(whole.loc[whole["synthetic"], "image_id"]) and spec["images"] == len(extra)
    assert (extra["target.pneumonia"][: RARE["pneumonia"]] == 1).all() and (extra["weight.edema"] == 1).all()
    pixels = images.images[images.rows(extra["image_id"])]
    assert pixels.shape == (len(extra), 32, 32) and len(np.unique(pixels.reshape(len(extra), -1), axis=0)) == len(extra)
    assert table[~table["synthetic"]]["image_id"].tolist() == real["image_id"].tolist()


@pytest.mark.parametrize("arm", ["oracle", "copy_paste"])
def test_data_that_are_no_phantom_have_neither_oracle_nor_outlines(made, tmp_path, arm):
    at, _, _ = made
    about = json.loads((at / "manifest.json").read_text()) | {"kind": "folder", "recipe": None}
    (tmp_path / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=f"study.arms has {arm}, which draws frontal phantoms: take it out"):
        stage.run(
            arm=arm, balanced=at / "balanced", gans=at / "gans", samplers=list(RARE), stores=at / "stores",
            split=at, records=at / "records.parquet", manifest=tmp_path / "manifest.json", out=tmp_path / "out",
            size=32, gan_size=16, gan_view="frontal", baseline=tmp_path,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
