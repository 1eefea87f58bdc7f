"""One planted oddity per check: each check finds its own and nothing else."""

import numpy as np
import pytest

from cxr.cohort import checks as doctor
from cxr.core.findings import CLASSES, FINDINGS
from tests.cohort.test_describe import chexpert, rsna

SOUND = [
    (f"p{k}", "study1", 1, "FM"[k % 2], 40 + k, "frontal", "PA", {finding: 1.0, "No Finding": 0.0})
    for k, finding in enumerate(f for f in FINDINGS if f != "No Finding")
] + [("p90", f"study{k}", 1, "F", 30, "frontal", "AP", {"No Finding": 1.0, "Support Devices": 1.0}) for k in (1, 2)]


def row(patient="p99", study="study1", number=1, sex="F", age=50, projection="frontal", view="AP", **labels):
    return patient, study, number, sex, age, projection, view, labels


def found(checks):
    return checks[checks["severity"] != "ok"].set_index("check")


def test_sound_records_have_nothing():
    assert not len(found(doctor.chexpert(chexpert(SOUND))))


@pytest.mark.parametrize(
    ("rows", "check", "severity", "examples"),
    [
        ([row(age=-1), row("p98", age=111)], "impossible age", "warning", 2),
        ([row(age=0)], "age 0", "note", 1),
        ([row(age=np.nan)], "unknown age", "note", 1),
        ([row(sex=None)], "unknown sex", "note", 1),
        ([row(), row(study="study2", sex="M")], "patient's sex changes", "warning", 1),
        ([row(view=None)], "frontal without AP or PA", "note", 1),
        ([row(**{"No Finding": 1, "Edema": 1})], "No Finding with a pathology", "warning", 1),
        ([row(**{"No Finding": 1, "Edema": -1})], "No Finding with an uncertain pathology", "note", 1),
        ([row(Edema=1), row(number=2, Edema=0)], "study with differing labels", "warning", 2),
        ([row(), row(number=2, projection="lateral", view=None)], "lateral", "note", 1),
        ([row(Edema=-1), row("p98", Edema=-1)], "finding with more uncertain than positives", "note", 1),
    ],
)
def test_each_check_of_chexpert_finds_its_own_alone(rows, check, severity, examples):
    result = found(doctor.chexpert(chexpert(SOUND + rows)))
    assert list(result.index) == [check]
    assert (result.loc[check, "severity"], result.loc[check, "count"]) == (severity, examples)
    shown = result.loc[check, "examples"]
    assert ("p9" in shown or shown == "Edema") and len(shown.split(", ")) == examples


def test_checks_that_come_together():
    table = chexpert([*SOUND, row(view="LL")])
    assert list(found(doctor.chexpert(table)).index) == ["frontal without AP or PA", "frontal with a lateral view"]
    table = chexpert([*SOUND, row(projection="lateral", view=None)])
    result = found(doctor.chexpert(table))
    assert list(result.index) == ["lateral", "study without a frontal"]
    assert result.loc["study without a frontal", "examples"] == "p99/study1"


def test_names_splits_and_paths():
    table = chexpert(SOUND)
    table.loc[0, "image_id"] = "train/p0/study1/view1_lateral"
    assert found(doctor.chexpert(table))["examples"].to_dict() == {
        "file name says another projection": "train/p0/study1/view1_lateral"
    }
    table = chexpert(SOUND)
    table.loc[1, "path"] = table.loc[0, "path"]
    assert found(doctor.chexpert(table))["count"].to_dict() == {"duplicate path": 2}
    table = chexpert([*SOUND, row(patient="p0", study="study2")])
    table.loc[len(table) - 1, "official_split"] = "valid"
    assert found(doctor.chexpert(table))["count"].to_dict() == {"patient in train and valid": 2}
    table = chexpert([r for r in SOUND if "Fracture" not in r[-1]])
    assert found(doctor.chexpert(table))["examples"].to_dict() == {"finding without positives": "Fracture"}


def test_only_the_first_examples_are_named():
    table = chexpert(SOUND + [row(f"q{k}", age=200) for k in range(9)])
    result = found(doctor.chexpert(table)).loc["impossible age"]
    assert result["count"] == 9 and len(result["examples"].split(", ")) == doctor.EXAMPLES


def test_checks_of_rsna():
    sound = [("a", CLASSES[0], [[1, 2, 3, 4]], "F", 40, "AP"), ("b", CLASSES[2], [], "F", 50, "PA")]

    def records(rows):
        table = rsna(rows)
        return table.assign(patient_id=table["patient_id"].replace("b", "a"))

    assert not len(found(doctor.rsna(records(sound))))
    planted = {
        "opacity without a box": ("c", CLASSES[0], [], "F", 40, "AP"),
        "box without opacity": ("c", CLASSES[1], [[1, 2, 3, 4]], "F", 40, "AP"),
        "impossible box": ("c", CLASSES[0], [[1, 2, 0, 4]], "F", 40, "AP"),
        "impossible age": ("c", CLASSES[2], [], "F", 155, "AP"),
    }
    for check, planted_row in planted.items():
        assert found(doctor.rsna(records([*sound, planted_row])))["examples"].to_dict() == {check: "c"}


@pytest.mark.parametrize("dataset", ["chexpert", "rsna"])
def test_a_key_with_one_image_each_is_asked_about_aloud(dataset):
    if dataset == "chexpert":
        result = found(doctor.chexpert(chexpert(SOUND[:-1])))
        n = len(SOUND) - 1
    else:
        result = found(doctor.rsna(rsna([(name, CLASSES[2], [], "F", 40, "AP") for name in "abcdefg"])))
        n = 7
    assert list(result.index) == ["every patient has exactly one image"]
    row = result.iloc[0]
    assert (row["count"], row["severity"]) == (n, "warning") and len(row["examples"].split(", ")) == doctor.EXAMPLES
    assert row["advice"].startswith("does the patient's key name patients, or images?")
