"""Every way in which a file of predictions can be wrong, and what the reader is told."""

import numpy as np
import pandas as pd
import pytest

from cxr.adgm.variants import Run
from cxr.core.findings import SLUGS
from cxr.evaluation.predictions import read_adgm, read_classifier, read_runs, same_images

STAGE, CURE = "final", "`dvc repro -f final` makes it again"


def classifier(n=8):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "patient_id": [f"p{k // 2}" for k in range(n)]})
    table["split"] = ["test", "valid"] * (n // 2)
    table["split_sha256"] = "0a"
    for name in SLUGS:
        table[f"score.{name}"] = rng.random(n, np.float32)
        table[f"truth.{name}"] = np.array([1, 0, np.nan, 0] * (n // 4), np.float32)
    return table


def adgm():
    table = classifier()[["image_id", "patient_id", "split_sha256"]].assign(split="valid", label=[0, 1] * 4)
    for which in ("last", "best"):
        table[f"prob_{which}.0"] = np.float32(0.25)
        table[f"prob_{which}.1"] = np.float32(0.75)
    return table


def write(folder, table):
    table.to_parquet(folder / "final.parquet", index=False)
    return folder / "final.parquet"


def test_rows_come_in_the_order_of_image_id_and_other_columns_are_left(tmp_path):
    table = classifier().assign(comment="x")
    read = read_classifier(write(tmp_path, table.iloc[::-1]), STAGE)
    pd.testing.assert_frame_equal(read, table[read.columns], check_dtype=False)
    assert "comment" not in read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="score.edema"), "column 'score.edema' is missing"),
        (lambda t: t.drop(columns="patient_id"), "column 'patient_id' is missing"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.assign(image_id="i0"), "image_id 'i0' occurs twice"),
        (lambda t: t.assign(patient_id=None), "a row without image_id, patient_id or split"),
        (lambda t: t.assign(split="valid"), "no row of the test split"),
        (lambda t: t.drop(columns="split_sha256"), "column 'split_sha256' is missing"),
        (lambda t: t.assign(split_sha256=["0a", "0b"] * 4), "its rows come from several splits"),
        (
            lambda t: t.assign(**{"score.edema": [0.5] * 5 + [1.25] + [0.5] * 2}),
            "score.edema is 1.25 for 'i5', must be",
        ),
        (lambda t: t.assign(**{"score.edema": np.nan}), "score.edema is nan for 'i0', must be within 0 and 1"),
        (lambda t: t.assign(**{"score.edema": -np.inf}), "score.edema is -inf for 'i0', must be within 0 and 1"),
        (lambda t: t.assign(**{"score.edema": "high"}), "column score.edema is not numeric"),
        (lambda t: t.assign(**{"truth.edema": -1.0}), "truth.edema is -1.0 for 'i0', must be 1, 0 or blank"),
    ],
)
def test_a_classifiers_file_that_is_wrong(tmp_path, change, message):
    path = write(tmp_path, change(classifier()))
    with pytest.raises(ValueError) as error:
        read_classifier(path, STAGE)
    assert message in str(error.value) and str(path) in str(error.value) and CURE in str(error.value)


def test_a_file_that_is_missing_or_torn(tmp_path):
    with pytest.raises(ValueError, match="no such file; `dvc repro final` makes it"):
        read_classifier(tmp_path / "final.parquet", STAGE)
    path = write(tmp_path, classifier())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="no readable parquet file"):
        read_classifier(path, STAGE)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="no readable parquet file"):
        read_classifier(path, STAGE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="prob_best.1"), "column 'prob_best.1' is missing"),
        (lambda t: t.assign(label=2), "label is 2 for 'i0', must be a whole number from 0 to 1"),
        (lambda t: t.assign(label=0.5), "label is 0.5 for 'i0'"),
        (lambda t: t.assign(**{"prob_last.0": 1.5}), "prob_last.0 is 1.5 for 'i0', must be within 0 and 1"),
        (lambda t: t.assign(**{"prob_best.0": 0.5}), "prob_best of 'i0' sums to 1.25, not to 1"),
    ],
)
def test_an_adgms_file_that_is_wrong(tmp_path, change, message):
    path = write(tmp_path, change(adgm()))
    with pytest.raises(ValueError) as error:
        read_adgm(path, 2, STAGE)
    assert message in str(error.value) and str(path) in str(error.value) and CURE in str(error.value)


def test_an_adgms_file_of_fewer_classes_is_refused(tmp_path):
    path = write(tmp_path, adgm())
    assert len(read_adgm(path, 2, STAGE)) == 8
    with pytest.raises(ValueError, match="column 'prob_last.2' is missing"):
        read_adgm(path, 3, STAGE)


def test_models_must_have_seen_the_same_images():
    table = classifier()

    def differ(other):
        same_images({"b": other, "a": table})

    differ(table.assign(**{"score.edema": 0}))  # scores may differ; blanks equal blanks
    with pytest.raises(ValueError, match=r"a and b: 1 image\(s\) are in only one of them, such as 'i7'"):
        differ(table.iloc[:-1])
    with pytest.raises(ValueError, match="a and b: truth.edema of 'i3' differs"):
        differ(table.assign(**{"truth.edema": table["truth.edema"].where(table.index != 3, 1)}))
    with pytest.raises(ValueError, match="a and b: split of 'i1' differs; make both from the same split"):
        differ(table.assign(split="test"))
    with pytest.raises(ValueError, match="a and b were made under different splits; make both from the same split"):
        differ(table.assign(split_sha256="0b"))


def test_a_table_of_another_kind_is_no_prediction(tmp_path):
    weights = tmp_path / "final.parquet"
    weights.write_bytes((8).to_bytes(8, "little") + b"{}      ")  # a safetensors file without tensors
    with pytest.raises(ValueError, match=r"final\.parquet: no readable parquet file; `dvc repro -f final`"):
        read_classifier(weights, STAGE)
    with pytest.raises(ValueError, match=r"column 'score\.no_finding' is missing"):
        read_classifier(write(tmp_path, adgm()), STAGE)


def test_a_run_is_reported_on_its_test_part_where_there_is_one(tmp_path):
    runs = [Run("corrected", 2, 5, draw) for draw in (0, 1)]
    parts = ["valid", "test", "valid", "test", "test", "valid", "valid", "test"]
    for run in runs:
        adgm().assign(split=parts).to_parquet(tmp_path / f"{run.name}.parquet")
    tables = read_runs(tmp_path, runs)
    assert all(table["image_id"].tolist() == ["i1", "i3", "i4", "i7"] for table in tables.values())
    adgm().to_parquet(tmp_path / f"{runs[0].name}.parquet")
    assert len(read_runs(tmp_path, runs[:1])[runs[0]]) == 8
    with pytest.raises(ValueError, match=r"8 image|4 image"):
        read_runs(tmp_path, runs)  # one predicted test images, the other none
