"""The registry: each data set reads its made tree, and every trap that its publishers set."""

import gzip

import numpy as np
import pandas as pd
import pytest

from cxr.data.decode import decode
from cxr.data.sources import mimic, nih, padchest, registry, vindr
from cxr.data.sources.archive import Folder
from cxr.data.sources.dataset import Given
from cxr.external import mapping
from tests.data.sources import trees

MADE = {"nih": trees.nih, "mimic": trees.mimic, "padchest": trees.padchest, "vindr": trees.vindr}


def read(root, name, **given):
    return registry.read(registry.find(name), Folder(root), Given(**given))


@pytest.mark.parametrize("name", MADE)
def test_a_made_tree_is_recognised_read_and_its_images_decode(tmp_path, name):
    tree = Folder(MADE[name](tmp_path))
    assert registry.recognise(tree) == [name]
    dataset = registry.find(registry.AUTO, tree)
    reading = registry.read(dataset, tree, Given())
    assert list(reading.records.columns[9:]) == [*dataset.findings, *(["boxes"] if dataset.boxes else [])]
    assert set(reading.tables) <= tree.names()
    for path in reading.records["path"]:
        assert decode(tree.read(path), path, 32).pixels.std() > 5


def test_a_source_of_another_kind_says_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="no PadChest here.*its files are those of nih"):
        read(trees.nih(tmp_path), "padchest")
    with pytest.raises(ValueError, match="unknown data set 'nhi': choose from chexpert, rsna, nih"):
        registry.find("nhi")
    with pytest.raises(ValueError, match="holds none that is recognised"):
        registry.find("auto", Folder(tmp_path / "images_001"))


def test_every_data_set_says_whose_patients_it_shows_and_where_to_get_it():
    assert registry.share_patients("nih", "rsna") and not registry.share_patients("nih", "chexpert")
    for dataset in registry.DATASETS.values():
        assert dataset.terms and dataset.where and dataset.labelled_by and dataset.recognised_by


@pytest.mark.parametrize("name", [*MADE, "nih_experts", "kaggle_vindr"])
def test_every_table_may_be_packed(tmp_path, name):
    """Each CSV and list as .gz beside it, then instead of it."""
    make = {**MADE, "nih_experts": trees.nih_experts, "kaggle_vindr": trees.kaggle_vindr}[name]
    dataset, given = name.partition("_")[0], {"labels": "radiologists"} if name == "nih_experts" else {}
    dataset = "vindr" if name == "kaggle_vindr" else dataset
    root = make(tmp_path)
    whole = read(root, dataset, **given)
    tables = [file for end in ("*.csv", "*.txt") for file in root.rglob(end)]
    for file in tables:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read(root, dataset, **given).tables == whole.tables
    for file in tables:
        file.unlink()
    packed = read(root, dataset, **given)
    pd.testing.assert_frame_equal(packed.records, whole.records)
    assert all(table.endswith(".gz") for table in packed.tables)


def test_the_newer_table_of_nih_counts_beside_the_older_one(tmp_path):
    root = trees.nih(tmp_path)
    newer = (root / "Data_Entry_2017_v2020.csv").read_text()
    (root / "Data_Entry_2017.csv").write_text(newer.replace("Pneumonia", "Hernia"))
    reading = registry.read(registry.find("auto", Folder(root)), Folder(root), Given())
    assert reading.tables[0] == "Data_Entry_2017_v2020.csv" and reading.records["Pneumonia"].sum() == 1


def test_nih_labels_ages_lists_and_boxes(tmp_path):
    rows = read(trees.nih(tmp_path), "nih").records.set_index("image_id")
    first = rows.loc["00000001_000.png"]
    assert first["patient_id"] == "00000001" and first["view"] == "PA" and first["sex"] == "M"
    assert first["Cardiomegaly"] == 1 and first["Infiltration"] == 1 and first["Edema"] == 0
    assert np.isnan(first["Fracture"])  # radiologists alone labelled it
    assert rows["age"].tolist() == [57, 58, 414, 30]  # 058Y is an old table's form; an impossible age stays
    assert rows["official_split"].tolist() == ["train", "train", "test", "test"]
    assert [box["finding"] for box in first["boxes"]] == ["Infiltration", "Cardiomegaly"]  # the list says Infiltrate
    assert first["boxes"][0] == {
        "finding": "Infiltration",
        "x": 10.5,
        "y": 20,
        "width": 30,
        "height": 40.25,
        "reader": "",
    }


def test_nih_radiologists_labels_are_of_their_images_alone(tmp_path):
    reading = read(trees.nih_experts(tmp_path), "nih", labels="radiologists")
    rows = reading.records.set_index("image_id")
    assert list(rows.index) == ["00000001_000.png", "00000002_000.png"]
    assert rows["Fracture"].tolist() == [1, 0] and rows["Pneumothorax"].tolist() == [0, 1]
    assert rows["Nodule or mass"].tolist() == [1, 0] and rows["Cardiomegaly"].isna().all()
    assert "2 images with the labels of radiologists" in reading.notes[0]
    assert any("four_findings" in name for name in reading.tables)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("00000001_000.png,Cardiomegly,0,1,57,M,PA,1,1,1,1", "line 2: unknown label 'Cardiomegly'"),
        ("00000001_000.png,No Finding|Mass,0,1,57,M,PA,1,1,1,1", "line 2: Finding Labels is 'No Finding|Mass'"),
        ("00000001_000.png,Mass,0,2,57,M,PA,1,1,1,1", "Patient ID is '2' but the file is of patient 00000001"),
        ("1_000.png,Mass,0,1,57,M,PA,1,1,1,1", "Image Index is '1_000.png', must be like"),
    ],
)
def test_a_wrong_row_of_nih_is_named(tmp_path, row, problem):
    with pytest.raises(ValueError, match=problem.replace("|", r"\|")):
        read(trees.nih(tmp_path, [row]), "nih")


def test_nih_with_a_missing_archive_or_lists_that_leak(tmp_path):
    whole = trees.nih(tmp_path)
    (whole / "images_003/images/00000002_000.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 images do not exist .*00000002_000\.png.*complete the download"):
        read(whole, "nih")
    (whole / "train_val_list.txt").write_text("00000001_000.png\n")
    (whole / "test_list.txt").write_text("00000001_001.png\n00000002_000.png\n00000003_000.png\n")
    with pytest.raises(ValueError, match="patient 00000001 is in train_val_list.txt and test_list.txt"):
        read(whole, "nih")
    (whole / "test_list.txt").write_text("00000002_000.png\n")
    with pytest.raises(ValueError, match="2 images stand in neither"):
        read(whole, "nih")


def test_mimic_joins_its_tables(tmp_path):
    reading = read(trees.mimic(tmp_path), "mimic")
    rows = reading.records.set_index("image_id")
    assert list(rows.index) == ["aa-1", "aa-2", "bb-1"]
    assert rows["projection"].tolist() == ["frontal", "lateral", "frontal"]
    assert rows["view"].tolist()[::2] == ["PA", "AP"] and rows["view"].isna().tolist() == [False, True, False]
    assert rows["official_split"].tolist() == ["train", "train", "valid"]
    assert rows["Edema"].tolist() == [1, 1, -1] and rows["Pneumonia"].tolist()[:2] == [0, 0]  # columns are alphabetical
    assert rows["sex"].isna().all() and rows["age"].isna().all()
    assert "1 images with a view" in reading.notes[0] and "1 images of studies without a row" in reading.notes[1]
    assert all(name.endswith(".gz") for name in reading.tables)


def test_mimic_other_labels_and_people_of_mimic_iv(tmp_path):
    people = "subject_id,gender,anchor_age,anchor_year\n10000032,F,52,2180\n11000033,M,40,2185\n"
    root = trees.mimic(tmp_path, packed=False, **{"patients.csv": people})
    rows = read(root, "mimic", labels="negbio").records
    assert rows["Edema"].tolist() == [-1, -1, 1]
    assert rows["sex"].tolist() == ["F", "F", "M"] and rows["age"].tolist() == [52, 52, 45]
    gold = "study_id," + ",".join(n.replace("Lung Opacity", "Airspace Opacity") for n in trees.MIMIC_LABELS)
    values = ["1" if name in ("Lung Opacity", "Fracture") else "" for name in trees.MIMIC_LABELS]
    (root / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text(gold + "\n50000002," + ",".join(values) + "\n")
    rows = read(root, "mimic", labels="radiologists").records
    assert rows["image_id"].tolist() == ["bb-1"] and rows["Lung Opacity"].tolist() == [1]
    with pytest.raises(ValueError, match="labels = 'chexbert': MIMIC-CXR has chexpert, negbio, radiologists"):
        read(root, "mimic", labels="chexbert")


def test_mimic_with_the_chosen_label_table_alone(tmp_path):
    root = trees.mimic(tmp_path)
    (root / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    for name in ("mimic", "auto"):
        dataset = registry.find(name, Folder(root), Given("negbio"))
        rows = registry.read(dataset, Folder(root), Given("negbio")).records
        assert rows["Edema"].tolist() == [-1, -1, 1]
    with pytest.raises(ValueError, match="without the table of chexpert: write labels: negbio"):
        read(root, "mimic")


def test_a_part_of_a_data_set_that_stands_twice_does_not_vanish(tmp_path):
    people = "subject_id,gender,anchor_age,anchor_year\n10000032,F,52,2180\n"
    root = trees.mimic(tmp_path / "m", **{"hosp/patients.csv": people, "old/patients.csv": people})
    with pytest.raises(ValueError, match="several tables of MIMIC-IV's patients .*: give the folder of one"):
        read(root, "mimic")
    root = trees.vindr(tmp_path / "v")
    (root / "old").mkdir()
    (root / "old/annotations_train.csv").write_bytes((root / "annotations/annotations_train.csv").read_bytes())
    with pytest.raises(ValueError, match="several tables of VinDr-CXR"):
        read(root, "vindr")


def test_a_torn_packed_table_is_named(tmp_path):
    root = trees.mimic(tmp_path)
    file = root / "mimic-cxr-2.0.0-split.csv.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"split\.csv\.gz is no whole \.gz"):
        read(root, "mimic")


def test_padchest_lists_projections_and_ages(tmp_path):
    reading = read(trees.padchest(tmp_path), "padchest")
    rows = reading.records.set_index("image_id")
    assert list(rows.index) == ["a1.png", "a2.png", "b1.png"]
    assert rows["atelectasis"].tolist() == [1, 0, 0]  # by a branch of it
    assert rows["pneumonia"].tolist() == [1, 0, 0]  # written with a blank before it
    assert rows["normal"].tolist() == [0, 1, 0] and rows["infiltrates"].tolist() == [0, 0, 1]
    assert rows["devices"].tolist() == [0, 0, 1]
    assert rows["projection"].tolist() == ["frontal", "lateral", "frontal"]
    assert rows["sex"].tolist()[:2] == ["F", "M"] and rows["sex"].isna().tolist()[2]
    assert rows["age"].tolist()[:2] == [85, 85] and np.isnan(rows["age"].iloc[2])
    assert rows["patient_id"].nunique() == 2 and len(reading.notes) == 2


def test_a_finding_of_padchest_is_there_with_each_branch_of_the_published_tree(tmp_path):
    """From the authors' trees_code.txt, a line for each term with branches."""
    published = {
        "atelectasis": "total atelectasis, lobar atelectasis, segmental atelectasis, laminar atelectasis, "
        "round atelectasis, atelectasis basal",
        "consolidation": "air bronchogram",
        "pleural effusion": "loculated pleural effusion, loculated fissural effusion, hydropneumothorax, empyema, "
        "hemothorax",
        "pneumonia": "atypical pneumonia",
        "pneumothorax": "hydropneumothorax",
        "fracture": "clavicle fracture, humeral fracture, vertebral fracture, rib fracture, callus rib fracture",
        "nodule": "multiple nodules",
        "pleural thickening": "apical pleural thickening, calcified pleural thickening",
        "infiltrates": "interstitial pattern, ground glass pattern, reticular interstitial pattern, "
        "reticulonodular interstitial pattern, miliary opacities, alveolar pattern, consolidation, air bronchogram",
    }
    for name, branches in published.items():
        assert set(padchest.TREE[name]) == {name, *branches.split(", ")}, name
    leaves = {name for name, terms in padchest.TREE.items() if len(terms) == 1}
    assert leaves == {"cardiomegaly", "pulmonary edema", "pulmonary mass", "normal"}
    claimed = {one.label for one in mapping.meanings(padchest.DATASET) if "with its branches" in one.reason}
    assert claimed == {name for name in published if name not in ("infiltrates", "nodule", "pleural thickening")}


def test_numbers_of_patients_that_a_spreadsheet_rounded_are_refused(tmp_path):
    root = trees.padchest(tmp_path)
    file = root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"pt-a", b"8.39860488694292E+35")))
    with pytest.raises(ValueError, match=r"line 2: PatientID is '8\.39860488694292E\+35', a number .* rounded"):
        read(root, "padchest")


def test_no_cell_of_padchest_is_run():
    assert padchest.labels_of("__import__('os').system('x')") is None
    assert padchest.labels_of("['nodule', \"rib fracture\"]") == {"nodule", "rib fracture"}


def test_vindr_takes_most_readers_and_both_spellings(tmp_path):
    reading = read(trees.vindr(tmp_path), "vindr")
    rows = reading.records.set_index("image_id")
    assert rows["Cardiomegaly"].tolist() == [1, 0, 0]  # two of three
    assert rows["Nodule/Mass"].tolist() == [0, 0, 0]  # one of three
    assert rows["Other diseases"].tolist() == [0, 0, 1] and rows["No finding"].tolist() == [0, 1, 0]
    assert rows["official_split"].tolist() == ["train", "train", "test"]
    assert rows["age"].tolist()[0] == 45 and rows["age"].isna().tolist() == [False, True, True]  # 000Y is unknown
    assert rows["boxes"].iloc[0][0]["reader"] == "R1" and rows["boxes"].iloc[0][0]["width"] == 10.5
    assert reading.manifest == {"patient_key": "image"} and "no table names the patients" in reading.notes[0]


def test_kaggles_vindr_counts_readers_not_boxes(tmp_path):
    rows = read(trees.kaggle_vindr(tmp_path), "vindr").records
    assert rows["Cardiomegaly"].tolist() == [1] and rows["No finding"].tolist() == [0]
    assert rows["Nodule/Mass"].tolist() == [0]  # one reader drew two boxes
    assert rows["Pneumonia"].isna().all() and len(rows["boxes"][0]) == 4


def test_the_networks_findings_are_among_the_labels_of_the_readers():
    assert set(nih.REPORTED) <= set(nih.FINDINGS) and set(vindr.KAGGLE_FINDINGS) <= set(vindr.FINDINGS)
    assert set(mimic.SPLITS.values()) == {"train", "valid", "test"}
