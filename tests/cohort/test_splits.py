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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=30, max_size=80), st.integers(0, 2**32), st.floats(0, 1), st.integers(1, 9))
def test_fewer_training_patients_move_nobody_else(sizes, seed, share, most):
    records = cohort(sizes)
    rng = np.random.default_rng(seed)
    rare = ["Pneumonia", "Fracture"]
    records = records.assign(**{name: rng.choice([1.0, 0.0, -1.0, np.nan], len(records)) for name in rare})
    whole = splits.chexpert(records, by="patient", test_images=9, valid_images=5, seed=seed)
    few = splits.chexpert(
        records, by="patient", test_images=9, valid_images=5, seed=seed, train_share=share, rare=rare,
        rare_patients=most,
    )  # fmt: skip
    left = whole["split"] != few["split"]
    assert (whole.loc[left, "split"] == "train").all() and (few.loc[left, "split"] == "unused").all()
    assert (few.groupby("patient_id")["split"].nunique() == 1).all()
    train = few[few["split"] == "train"].merge(records, on=["image_id", "patient_id"])
    patients = whole.loc[whole["split"] == "train", "patient_id"].nunique()
    assert train["patient_id"].nunique() <= max(1, round(share * patients))
    for name in rare:
        assert train.loc[train[name] == 1, "patient_id"].nunique() <= most


def test_as_many_patients_with_a_rare_finding_as_are_asked_for_and_all_without():
    records = cohort([2] * 60).assign(Fracture=np.where(np.arange(120) % 6 == 0, 1.0, 0.0))
    split = splits.chexpert(records, by="patient", test_images=10, seed=0, rare=["Fracture"], rare_patients=7)
    train = split[split["split"] == "train"].merge(records, on=["image_id", "patient_id"])
    assert train.loc[train["Fracture"] == 1, "patient_id"].nunique() == 7
    unused = split[split["split"] == "unused"].merge(records, on=["image_id", "patient_id"])
    official = unused["official_split"] == "valid"
    assert (unused[~official].groupby("patient_id")["Fracture"].max() == 1).all()  # nobody without it has to leave


@pytest.mark.parametrize("share", [1.0, 0.4, 0.0])
def test_a_share_of_the_patients_with_a_rare_finding_in_pa_stays_and_all_others(share):
    """Every second image is a patient's second; only first ones are PA. A patient leaves as a whole."""
    records = cohort([2] * 60)
    n = np.arange(120)
    records = records.assign(Fracture=np.where(n % 4 == 0, 1.0, 0.0), view=np.where(n % 8 == 0, "PA", "AP"))
    options = {"by": "patient", "test_images": 10, "seed": 0, "rare": ["Fracture"]}
    whole = splits.chexpert(records, **options)
    split = splits.chexpert(records, **options, rare_in_pa=share)
    in_pa = records.loc[(whole["split"] == "train") & (records["Fracture"] == 1) & (records["view"] == "PA")]
    chosen = whole["patient_id"].isin(in_pa["patient_id"]) & (whole["split"] == "train")
    assert split["split"][~chosen].equals(whole["split"][~chosen])
    assert set(split["split"][chosen]) <= {"train", "unused"}
    assert (split["split"][chosen] == "train").sum() == 2 * round(share * len(in_pa))
    guard.guard(split[split["split"] == "train"], split, by="patient", what="split")
    few = splits.chexpert(records, **options, rare_in_pa=share, rare_patients=5)
    train = few[few["split"] == "train"].merge(records, on=["image_id", "patient_id"])
    assert train.loc[train["Fracture"] == 1, "patient_id"].nunique() == 5  # of those who are left
    guard.guard(few[few["split"] == "train"], few, by="patient", what="split")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=8, max_size=60), st.integers(0, 2**32), st.floats(0.05, 0.3))
def test_rsna_patients_are_whole(sizes, seed, share):
    records = cohort(sizes)
    split = splits.rsna(records, by="patient", valid_share=share, seed=seed, patient_key="patient")
    assert (split.groupby("patient_id")["split"].nunique() == 1).all()
    assert set(split["split"]) == {"train", "valid"} and splits.shared_patients(split) == 0
    three = splits.rsna(records, by="patient", valid_share=share, test_share=0.3, seed=seed, patient_key="patient")
    assert (three.groupby("patient_id")["split"].nunique() == 1).all()
    assert images(three, "valid") == images(split, "valid")  # a test set moves nobody into or out of validation
    assert images(three, "test") and images(three, "train") < images(split, "train")


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


def images(split: pd.DataFrame, part: str) -> set[str]:
    return set(split.loc[split["split"] == part, "image_id"])


@pytest.mark.parametrize("by", ["patient", "image"])
def test_rsna_parts_have_their_sizes_or_are_refused(by):
    records = cohort([1] * 40)
    split = splits.rsna(records, by=by, valid_share=0.1, test_share=0.25, seed=3, patient_key="patient")
    assert split["split"].value_counts().to_dict() == {"train": 26, "test": 10, "valid": 4}
    message = r"split.valid_share = 0.6 and split.test_share = 0.4: this leaves no training image of 40; ask for less"
    with pytest.raises(ValueError, match=message):
        splits.rsna(records, by=by, valid_share=0.6, test_share=0.4, seed=3, patient_key="patient")
    with pytest.raises(ValueError, match=r"split.valid_share = 0.7 and split.test_share = 0.6: this leaves"):
        splits.rsna(records, by=by, valid_share=0.7, test_share=0.6, seed=3, patient_key="patient")


def with_test_set(sizes: list[int], valid: int = 2, test: int = 3) -> pd.DataFrame:
    """A cohort whose last patients are the official test set, those before them valid.csv."""
    records = cohort(sizes, valid + test)
    last = sorted(set(records["patient_id"]))[-test:]
    return records.assign(official_split=records["official_split"].mask(records["patient_id"].isin(last), "test"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=16, max_size=60), st.integers(0, 2**32),
    st.sets(st.sampled_from(["valid", "test"])), st.sampled_from(["patient", "image"]),
)  # fmt: skip
def test_official_parts_are_taken_whole_or_not_at_all(sizes, seed, official, by):
    records = with_test_set(sizes)
    n = int((records["official_split"] == "train").sum()) // 4
    split = splits.chexpert(records, by=by, test_images=n, valid_images=n, official=official, seed=seed)
    owned = dict(zip(records["image_id"], records["official_split"], strict=True))
    of = split.assign(official=split["image_id"].map(owned))
    for part in ("valid", "test"):
        inside = of[of["split"] == part]
        if part in official:
            assert set(inside["official"]) == {part}
            assert len(inside) == (records["official_split"] == part).sum()
        else:
            assert set(inside["official"]) == {"train"}
            assert n <= len(inside) < n + max(sizes) and (by == "patient" or len(inside) == n)
            assert set(of.loc[of["official"] == part, "split"]) == {"unused"}
    assert set(of.loc[of["official"] != "train", "split"]) <= {"valid", "test", "unused"}  # nothing trains on them
    if by == "patient":
        assert (split.groupby("patient_id")["split"].nunique() == 1).all()
        guard.guard(split[split["split"] == "train"], split, by=by, what="table")
    unused = split[split["split"] == "unused"]
    if len(unused):
        with pytest.raises(ValueError, match="would be trained on"):
            guard.guard(unused, split, by=by, what="table")


def test_the_validation_draw_moves_no_test_patient():
    records = with_test_set([3] * 60)
    tests = [
        splits.chexpert(records, by="patient", test_images=30, valid_images=n, official=official, seed=4)
        for official, n in ((["valid"], 0), ([], 10), ([], 60))
    ]
    assert images(tests[0], "test") == images(tests[1], "test") == images(tests[2], "test")
    assert images(tests[1], "valid") < images(tests[2], "valid")


@pytest.mark.parametrize(
    "choice, expected",
    [
        (("auto", "auto"), {"test"}), (("official", "auto"), {"valid", "test"}), (("train", "auto"), {"test"}),
        (("auto", "train"), set()), (("official", "official"), {"valid", "test"}), (("train", "train"), set()),
    ],
)  # fmt: skip
def test_auto_takes_what_can_be_used(choice, expected):
    """valid.csv with 4 lesions and 5 edemas among 11 images, 5 asked for."""
    records = with_test_set([1] * 40, valid=11)
    lesion = np.zeros(40, np.float32)
    lesion[28:32] = 1
    records = records.assign(**{"Lung Lesion": lesion, "Edema": np.where(np.arange(40) % 2, 1.0, np.nan)})
    valid, test = choice
    asked = {"valid": valid, "test": test, "rare": ["Edema", "Lung Lesion"]}
    official, why = splits.official_parts(records, **asked, min_positives=5)
    assert official == expected
    assert bool(why) == (valid == "auto") and all("4 positives (or others) of Lung Lesion" in line for line in why)
    assert splits.official_parts(records, **asked, min_positives=4)[0] == expected | (
        {"valid"} if valid == "auto" else set()
    )


def test_an_official_part_that_is_not_there_is_refused():
    records = cohort([1] * 20)
    asked = {"valid": "auto", "rare": [], "min_positives": 5}
    assert splits.official_parts(records, test="auto", **asked) == ({"valid"}, [])
    with pytest.raises(
        ValueError, match=r"split.test = official, but the source lacks the official test set.*or choose"
    ):
        splits.official_parts(records, test="official", **asked)


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
    message = "split.test_images = 7 and split.valid_images = 9, but train.csv has only 16 images; ask for fewer"
    with pytest.raises(ValueError, match=message):
        splits.chexpert(cohort([2] * 10), by=by, test_images=7, valid_images=9, official=(), seed=0)


def test_draws_that_take_every_patient_are_refused():
    with pytest.raises(ValueError, match="split.test_images = 15: this takes every patient of train.csv"):
        splits.chexpert(cohort([2] * 10), by="patient", test_images=15, seed=0)
    with pytest.raises(ValueError, match="split.test_images = 7 and split.valid_images = 7: this takes every patient"):
        splits.chexpert(cohort([2] * 10), by="patient", test_images=7, valid_images=7, official=(), seed=0)


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
    assert got["official"] == {"train": ["train"], "valid": ["valid"], "test": ["train"]}
    assert got["splits"]["valid"]["positives"]["edema"] == 5 and got["splits"]["test"]["images"] == 5
