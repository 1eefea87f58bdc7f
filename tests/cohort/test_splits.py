"""No patient in two splits, whatever the cohort; the guard; the summary."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.cohort import splits
from cxr.cohort.formats import RsnaSplit
from cxr.core import guard
from cxr.core.findings import CLASSES, FINDINGS


def cohort(images_per_patient: list[int], valid: int = 2) -> pd.DataFrame:
    patient = [f"p{i:03d}" for i, n in enumerate(images_per_patient) for _ in range(n)]
    last = sorted(set(patient))[-valid:]
    return pd.DataFrame({
        "image_id": [f"i{i:04d}" for i in range(len(patient))],
        "patient_id": patient,
        "official_split": ["valid" if p in last else "train" for p in patient],
    })  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=8, max_size=60), st.integers(0, 2**32), st.data())
def test_no_patient_is_in_two_splits(sizes, seed, data):
    records = cohort(sizes)
    train = int((records["official_split"] == "train").sum())
    wanted = data.draw(st.integers(1, max(1, train // 3)))
    split = splits.chexpert(records, by="patient", test_images=wanted, seed=seed)
    assert sorted(split["image_id"]) == sorted(records["image_id"])
    assert (split.groupby("patient_id")["split"].nunique() == 1).all()
    drawn = int((split["split"] == "test").sum())
    assert wanted <= drawn < wanted + max(sizes)  # no more patients than needed
    official = dict(zip(records["image_id"], records["official_split"], strict=True))
    assert all(
        (official[i] == "valid") == (s == "valid") for i, s in zip(split["image_id"], split["split"], strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=8, max_size=60), st.integers(0, 2**32), st.floats(0.05, 0.5))
def test_rsna_patients_are_whole(sizes, seed, share):
    records = cohort(sizes)
    split = splits.rsna(records, by="patient", valid_share=share, seed=seed, patient_key="patient")
    assert (split.groupby("patient_id")["split"].nunique() == 1).all()
    assert set(split["split"]) == {"train", "valid"} and splits.shared_patients(split) == 0


def test_rsna_by_image_has_the_exact_size_and_shares_patients():
    records = cohort([5] * 40)
    split = splits.rsna(records, by="image", valid_share=0.1, seed=0, patient_key="patient")
    assert (split["split"] == "valid").sum() == 20
    sides = split.groupby("patient_id")["split"].nunique()
    assert splits.shared_patients(split) == (sides == 2).sum() > 10


def test_rsna_by_patient_is_refused_with_the_cure_where_patients_are_unknown():
    records = cohort([1] * 20)
    with pytest.raises(ValueError, match="names an image: .*data.rsna_patients.* or choose split.rsna = image"):
        splits.rsna(records, by="patient", valid_share=0.1, seed=0, patient_key="image")
    split = splits.rsna(records, by="image", valid_share=0.1, seed=0, patient_key="image")
    records["class_name"], records["path"] = CLASSES[0], records["image_id"]
    options = {"by": "image", "min_positives": 5, "sha256": "s"}
    counted = splits.summary(split, records, patient_key="image", **options)
    assert RsnaSplit(**counted).splits["valid"].patients is None and "shared_patients" not in counted
    counted = splits.summary(split, records, patient_key="patient", **options)
    assert (counted["splits"]["valid"]["patients"], counted["shared_patients"]) == (2, 0)


def test_unused_images_share_no_patient():
    split = pd.DataFrame({"patient_id": list("aabbc"), "split": ["train", "unused", "train", "valid", "valid"]})
    assert splits.shared_patients(split) == 1


def test_the_draw_depends_on_the_seed_and_on_nothing_else():
    records = cohort([2] * 50)
    one = splits.chexpert(records, by="patient", test_images=20, seed=1)
    assert one.equals(splits.chexpert(records.sample(frac=1, random_state=3), by="patient", test_images=20, seed=1))
    assert not one.equals(splits.chexpert(records, by="patient", test_images=20, seed=2))


def test_by_image_leaks_patients_as_the_paper_does_and_has_the_exact_size():
    split = splits.chexpert(cohort([5] * 60), by="image", test_images=40, seed=0)
    assert (split["split"] == "test").sum() == 40
    shared = set(split.loc[split["split"] == "test", "patient_id"]) & set(
        split.loc[split["split"] == "train", "patient_id"]
    )
    assert len(shared) > 10


@pytest.mark.parametrize("by", ["patient", "image"])
def test_more_test_images_than_there_are_is_refused(by):
    with pytest.raises(ValueError, match="split.test_images = 500, but train.csv has only 16 images; ask for fewer"):
        splits.chexpert(cohort([2] * 10), by=by, test_images=500, seed=0)


def test_guard_refuses_held_out_images_and_patients():
    records = cohort([2] * 30)
    split = splits.chexpert(records, by="patient", test_images=10, seed=0)
    train = split[split["split"] == "train"]
    guard.guard(train, split, by="patient", what="table")
    test = split[split["split"] == "test"].iloc[[0]]
    with pytest.raises(ValueError, match="table: 1 validation or test images would be trained on"):
        guard.guard(pd.concat([train, test]), split, by="patient", what="table")
    stranger = test.assign(image_id="another image of a test patient")
    with pytest.raises(ValueError, match="gan: images of 1 validation or test patients would be trained on"):
        guard.guard(pd.concat([train, stranger]), split, by="patient", what="gan")
    guard.guard(
        pd.concat([train, stranger]), split, by="image", what="table"
    )  # the paper's draw shares patients by design


def test_summary_leaves_findings_with_too_few_positives_out():
    records = cohort([1] * 40, valid=20)
    for name in FINDINGS:
        records[name] = np.float32(0)
    records["path"] = records["image_id"]
    valid = records.index[records["official_split"] == "valid"]
    records.loc[valid[:5], "Edema"] = 1
    records.loc[valid[:4], "Fracture"] = 1
    records.loc[valid[4:9], "Fracture"] = -1  # uncertain is no positive
    records.loc[valid, "Support Devices"] = 1  # no negative left
    split = splits.chexpert(records, by="patient", test_images=5, seed=0)
    got = splits.summary(split, records, by="patient", min_positives=5, sha256="s")
    assert got["select_on"] == ["edema"]
    assert "fracture" in got["too_few"] and "support_devices" in got["too_few"]
    assert got["splits"]["valid"]["positives"]["edema"] == 5 and got["splits"]["test"]["images"] == 5
