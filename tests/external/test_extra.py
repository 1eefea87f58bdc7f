"""Training on other hospitals' data: which rows, which labels count, and that nobody who is tested on is among them."""

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import COLUMNS, SLUGS
from cxr.data.sources.registry import DATASETS
from cxr.external import extra
from cxr.external.extra import HeldOut, keep

NIH, CHEXPERT = DATASETS["nih"], DATASETS["chexpert"]
ROWS = pd.DataFrame({"image_id": ["a", "b", "c"], "patient_id": ["1", "1", "2"], "projection": "frontal"})


def held_out(patients, people="nih", key="patient") -> HeldOut:
    return HeldOut("are tested on somewhere", people, key, frozenset(patients), "do something else")


def labelled(dataset, **given) -> pd.DataFrame:
    blank = dict.fromkeys(dataset.findings, np.nan)
    return ROWS.assign(**blank | {name.replace("_", " "): values for name, values in given.items()})


def test_held_out_patients_are_refused_with_the_cure_or_left_out():
    with pytest.raises(
        ValueError, match="1 of its 2 patients are patients that are tested on.*shared: leave_out.*or do"
    ):
        keep(ROWS, "nih", "patient", [held_out("2")], "n")
    kept = keep(ROWS, "nih", "patient", [held_out("2"), held_out("9")], "n", leave_out=True)
    assert kept.rows["image_id"].tolist() == ["a", "b"] and (kept.patients, kept.images) == (1, 1)
    with pytest.raises(ValueError, match="all its patients are patients that are tested on somewhere: remove it"):
        keep(ROWS, "nih", "patient", [held_out("12")], "n", leave_out=True)


def test_other_people_under_the_same_numbers_stay():
    assert len(keep(ROWS, "nih", "patient", [held_out("12", "stanford")], "n").rows) == 3


@pytest.mark.parametrize(("own", "theirs"), [("image", "patient"), ("patient", "image")])
def test_images_without_a_patient_are_refused_among_the_same_people(own, theirs):
    for leave_out in (False, True):
        with pytest.raises(ValueError, match="nothing says whose image is whose: do something else"):
            keep(ROWS, "nih", own, [held_out("", key=theirs)], "n", leave_out)


def test_a_finding_without_a_label_and_an_uncertain_one_have_no_weight():
    rows = labelled(NIH, Effusion=[1.0, 0.0, np.nan], Pneumonia=[-1.0, 0.0, np.nan], Infiltration=[1.0, 1.0, 1.0])
    table, meanings = extra.label_table(rows, NIH, "n")
    assert list(table) == list(COLUMNS) and table["image_id"].tolist() == ["n/a", "n/b"]  # c's label means no finding
    assert table["patient_id"].tolist() == ["n/1", "n/1"] and set(table["split"]) == {"train"}
    assert table["weight.pleural_effusion"].tolist() == [1, 1] and table["target.pleural_effusion"].tolist() == [1, 0]
    assert table["weight.pneumonia"].tolist() == [0, 1] and np.isnan(table["truth.pneumonia"].iloc[0])
    others = [slug for slug in SLUGS if slug not in ("pleural_effusion", "pneumonia")]
    assert not table[[f"weight.{slug}" for slug in others]].to_numpy().any()
    assert table[[f"target.{slug}" for slug in SLUGS]].notna().all(axis=None)
    counts = extra.counts(table, meanings)
    assert set(counts) == {"pleural_effusion", "pneumonia"}
    assert (counts["pleural_effusion"].images, counts["pleural_effusion"].positives) == (2, 1)


def test_a_near_label_is_marked():
    table, meanings = extra.label_table(labelled(NIH, Mass=[1.0, 0.0, 0.0], Nodule=[0.0, 0.0, 1.0]), NIH, "n")
    assert extra.counts(table, meanings)["lung_lesion"].model_dump() == {"images": 3, "positives": 2, "answer": "near"}


def test_labels_that_mean_nothing_are_one_line():
    with pytest.raises(ValueError, match="data.extra n: no label of NIH ChestX-ray14 here means one of CheXpert's"):
        extra.label_table(labelled(NIH, Hernia=[1.0, 0.0, 0.0]), NIH, "n")
