"""The labelled draw, at random and in file order."""

import pandas as pd
import pytest

from cxr.adgm.labelled import assign, draw_labels
from cxr.cohort.splits import file_order
from cxr.core.findings import CLASSES
from cxr.core.guard import check_held_out, guard
from tests.adgm.make import cohort


def test_draws_are_nested_random_and_leave_validation_alone():
    records, split = cohort()
    tables = [assign(records, split, classes=3, labels=n, seed=0) for n in (3, 8)]
    few, many = (set(t.loc[t["role"] == "labelled", "image_id"]) for t in tables)
    assert few < many and len(few) == 9 and len(many) == 24
    for t in tables:
        assert (t.loc[t["role"] == "labelled", "label"].value_counts() == len(t[t["role"] == "labelled"]) / 3).all()
        assert set(t.loc[t["role"] == "valid", "image_id"]) == set(split.loc[split["split"] == "valid", "image_id"])
        assert list(t["role"].drop_duplicates()) == ["labelled", "unlabelled", "valid"]
        assert len(t) == 60
    reordered = assign(records.sample(frac=1, random_state=1), split.iloc[::-1], classes=3, labels=8, seed=0)
    pd.testing.assert_frame_equal(reordered, tables[1])
    reseeded = assign(records, split, classes=3, labels=3, seed=1)
    assert set(reseeded.loc[reseeded["role"] == "labelled", "image_id"]) != few


def test_a_test_part_is_in_no_training_and_in_no_validation():
    records, split = cohort()
    split["split"] = split["split"].mask(split.index % 6 == 4, "test")
    draw = draw_labels(records, split, classes=2, labels=5, seed=0)
    parts = {part: set(split.loc[split["split"] == part, "image_id"]) for part in ("train", "valid", "test")}
    for part, rows in (("train", draw.train), ("valid", draw.valid), ("test", draw.test)):
        assert set(rows["image_id"]) == parts[part] and len(parts[part]) >= 10
    assert set(draw.train["role"]) == {"labelled", "unlabelled"}
    unused = split.assign(split=split["split"].replace("test", "unused"))
    assert draw_labels(records, unused, classes=2, labels=5, seed=0).train.equals(draw.train)


def test_two_classes_merge_what_is_not_normal():
    records, split = cohort()
    t = assign(records, split, classes=2, labels=3, seed=0).merge(records, on="image_id")
    assert ((t["label"] == 1) == (t["class_name"] == "Normal")).all()


def test_assign_refuses_with_the_counts():
    records, split = cohort()
    few = records.copy()
    few.loc[few["class_name"] == "Normal", "class_name"] = "Lung Opacity"
    with pytest.raises(ValueError, match=r"fewer than 2 training images \(Lung Opacity \d+, No Lung.*Normal 0\)"):
        assign(few, split, classes=3, labels=1, seed=0)
    with pytest.raises(ValueError, match="no column class_name"):
        assign(records.drop(columns="class_name"), split, classes=3, labels=1, seed=0)
    with pytest.raises(ValueError, match="'p000' has class 'Opaque'"):
        assign(records.replace({"Lung Opacity": "Opaque"}), split, classes=3, labels=1, seed=0)
    with pytest.raises(ValueError, match="no validation image"):
        assign(records, split.assign(split="train"), classes=3, labels=1, seed=0)


def test_a_tenth_of_each_class_stays_unlabelled():
    records, split = cohort()
    table = assign(records, split, classes=3, labels=1000, seed=0).query("role != 'valid'")
    held = table.groupby("label").size()
    drawn = table[table["role"] == "labelled"].groupby("label").size()
    assert (drawn == held * 9 // 10).all() and (table["role"] == "unlabelled").any()


def test_too_few_images_of_a_class_are_one_line():
    records, split = cohort()
    assert draw_labels(records, split, classes=3, labels=3, seed=0).warning is None
    draw = draw_labels(records, split, classes=3, labels=20, seed=0)
    assert min(draw.drawn.values()) < 20 and f"Normal {draw.drawn['Normal']}" in draw.warning
    assert len(draw.y_labelled) == sum(draw.drawn.values()) and len(draw.train) == 50 and len(draw.valid) == 10
    assert draw.shares("uniform") == [1 / 3] * 3
    assert draw.shares("training") == [float((draw.train["label"] == k).mean()) for k in range(3)]


def boxes() -> pd.DataFrame:
    """Ten patients; the second has three rows, the ninth two. Rows: 0 | 1 1 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 8 | 9."""
    count = [1, 3, 1, 1, 1, 1, 1, 1, 2, 1]
    ids = [f"r{9 - i}" for i in range(10)]  # file order is not the order of the names
    kinds = [0, 0, 2, 1, 2, 2, 0, 1, 0, 2]
    rows = {"image_id": ids, "patient_id": ids, "class_name": [CLASSES[k] for k in kinds]}
    return pd.DataFrame(
        rows | {"boxes": [[[0, 0, 1, 1]] * n if k == 0 else [] for n, k in zip(count, kinds, strict=True)]}
    )


def test_file_order_takes_the_rows_that_the_published_code_takes():
    records = boxes()  # 13 rows, 10 patients: rows 0..2 train, 3..9 validate, 10..12 are never used
    split = file_order(records, valid_share=0.7)
    rows = {(i, s): n for i, s, n in split[["image_id", "split", "rows"]].itertuples(index=False)}
    assert rows == {
        ("r9", "train"): 1, ("r8", "train"): 2, ("r8", "valid"): 1, ("r7", "valid"): 1, ("r6", "valid"): 1,
        ("r5", "valid"): 1, ("r4", "valid"): 1, ("r3", "valid"): 1, ("r2", "valid"): 1, ("r1", "unused"): 2,
        ("r0", "unused"): 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="needs the boxes of RSNA's records"):
        file_order(records.drop(columns="boxes"), valid_share=0.1)
    with pytest.raises(ValueError, match="split.valid_share = 0.0 leaves no row"):
        file_order(records, valid_share=0.0)


def test_the_papers_cut_is_at_row_24015_of_26684():
    records = pd.DataFrame({"image_id": [f"{i:05d}" for i in range(26684)]})
    records = records.assign(patient_id=records["image_id"], boxes=[[]] * 26684)
    assert (file_order(records, valid_share=0.1)["split"] == "valid").idxmax() == 24015


def test_labels_in_file_order_are_the_first_rows_and_rows_repeat():
    records = boxes()
    split = file_order(records, valid_share=0.3)  # rows 0..6 train: r9, r8 three times, r7, r6, r5
    table = assign(records, split, classes=2, labels=2, seed=5)
    train = table[table["role"] != "valid"]
    assert list(train["image_id"]) == ["r9", "r8", "r7", "r8", "r8", "r6", "r5"]  # labelled first
    assert list(train.loc[train["role"] == "labelled", "image_id"]) == ["r9", "r8", "r7"]  # nine tenths of 2
    assert table.loc[table["role"] == "valid", "rows"].tolist() == [1, 1, 1]


def test_guard_lets_the_cut_through_only_where_the_split_says_so():
    records = boxes()
    split = file_order(records, valid_share=0.7)
    train = split[split["split"] == "train"]
    guard(train, split, by="file_order", what="t")
    with pytest.raises(ValueError, match="1 validation or test images would be trained on, the first is 'r8'"):
        guard(train, split, by="patient", what="t")
    for image in ("r7", "r0"):  # validated on, never used
        with pytest.raises(ValueError, match=f"would be trained on, the first is '{image}'"):
            guard(split[split["image_id"] == image], split, by="file_order", what="t")


def test_the_papers_slices_share_patients_and_may_be_trained_on():
    records = boxes().assign(patient_id="one")  # as with RSNA's mapping, where a patient has several images
    split = file_order(records, valid_share=0.7)
    train = split[split["split"] == "train"]
    check_held_out(train, split, "file_order", "t")
    with pytest.raises(ValueError, match="t: 1 validation or test images would be trained on, the first is 'r5'"):
        check_held_out(pd.concat([train, split[split["image_id"] == "r5"]]), split, "file_order", "t")
    other = split[split["image_id"] != "r8"]  # without the image on the cut
    with pytest.raises(ValueError, match="t: images of 1 validation or test patients would be trained on"):
        check_held_out(other[other["split"] == "train"], other, "patient", "t")
