"""CheXpert's official test set: labels without sex, age and view, in two published forms, wherever they lie."""

import shutil
import zipfile

import numpy as np
import pytest

from cxr.core.findings import FINDINGS
from cxr.data.sources.archive import Folder, Zip
from cxr.data.sources.chexpert import read, tables
from cxr.data.sources.chexpert_test import read as read_test
from cxr.data.sources.chexpert_test import read_readers
from tests.data.sources.test_chexpert import write

STUDIES = {"patient64741": ("view1_frontal.jpg", "view2_lateral.jpg"), "patient64742": ("view1_frontal.jpg",)}
# The readers' tables have Lung Lesion before Lung Opacity, both label tables after it.
READERS = tuple(
    {"Lung Opacity": "Lung Lesion", "Lung Lesion": "Lung Opacity"}.get(finding, finding) for finding in FINDINGS
)


def line(key, positive, columns=FINDINGS):
    return ",".join([key, *("1" if finding in positive else "0" for finding in columns)])


def groundtruth(prefix="CheXpert-v1.0/"):
    """As published: a row a study, no line end after the last."""
    rows = [line(f"{prefix}test/patient64741/study1", ("Cardiomegaly", "Lung Opacity"))]
    rows.append(line(f"{prefix}test/patient64742/study1", ("Lung Lesion",)))
    return "\n".join([",".join(("Study", *FINDINGS)), *rows])


def image_table(positive=("Cardiomegaly", "Lung Opacity")):
    """As CheXlocalize has it: a row an image."""
    images = [("patient64741", name, positive) for name in STUDIES["patient64741"]]
    images.append(("patient64742", "view1_frontal.jpg", ("Lung Lesion",)))
    rows = [line(f"test/{patient}/study1/{name}", found) for patient, name, found in images]
    return "\n".join([",".join(("Path", *FINDINGS)), *rows]) + "\n"


def add_images(folder):
    for patient, names in STUDIES.items():
        (folder / patient / "study1").mkdir(parents=True)
        for name in names:
            (folder / patient / "study1" / name).write_bytes(b"jpeg")


def add(root, text=None, table="groundtruth.csv", labels="", images="test"):
    (root / labels).mkdir(parents=True, exist_ok=True)
    (root / labels / table).write_text(groundtruth() if text is None else text)
    if images:
        add_images(root / images)
    return root


def official(records):
    return records[records["official_split"] == "test"].reset_index(drop=True)


LAYOUTS = {
    "beside train.csv": {"text": image_table(), "table": "test_labels.csv"},
    "labels of the repository beside train.csv": {},
    "the repository cloned": {"labels": "cheXpert-test-set-labels"},
    "CheXlocalize, unpacked inside": {
        "text": image_table(), "table": "test_labels.csv", "labels": "chexlocalize/chexlocalize/CheXpert",
        "images": "chexlocalize/chexlocalize/CheXpert/test",
    },
    "a batch folder": {"images": "CheXpert-v1.0 batch 5 (test)"},
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_read_wherever_it_lies(tmp_path, layout, zipped):
    root = add(write(tmp_path / "data"), **LAYOUTS[layout])
    if zipped:
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for path in sorted(root.rglob("*.*g")) + sorted(root.rglob("*.csv")):
                archive.write(path, path.relative_to(root).as_posix())
        shutil.rmtree(root)
    tree = Zip(tmp_path / "data.zip") if zipped else Folder(root)
    records = read(tree)
    rows = official(records)
    assert len(records) == 4 + 3 and rows["image_id"].tolist() == [
        "test/patient64741/study1/view1_frontal",
        "test/patient64741/study1/view2_lateral",
        "test/patient64742/study1/view1_frontal",
    ]
    assert rows["study_id"].tolist() == ["patient64741/study1"] * 2 + ["patient64742/study1"]
    assert rows["projection"].tolist() == ["frontal", "lateral", "frontal"]
    assert rows[["sex", "age", "view"]].isna().all(axis=None)
    assert set(rows["path"]) <= tree.names()
    labels = rows[list(FINDINGS)].to_numpy()
    assert not np.isnan(labels).any()
    assert [[f for f, v in zip(FINDINGS, row, strict=True) if v] for row in labels] == [
        ["Cardiomegaly", "Lung Opacity"], ["Cardiomegaly", "Lung Opacity"], ["Lung Lesion"],
    ]  # fmt: skip
    assert [name.rsplit("/", 1)[-1] for name in tables(tree)[2:]] == [LAYOUTS[layout].get("table", "groundtruth.csv")]
    assert read_test(tree)[1] == []


def test_without_a_test_set_the_records_are_as_before(tmp_path):
    root = write(tmp_path / "data")
    before = read(Folder(root))
    (root / "test.csv").write_text("image,species\n1,cat\n")
    (root / "groundtruth.csv").write_text("Study,answer\nother/1,2\n".replace("answer", ",".join(FINDINGS)).replace(
        "2", ",".join("0" * 14)))  # fmt: skip
    assert read(Folder(root)).equals(before) and len(tables(Folder(root))) == 2
    add_images(root / "test")
    (table, notes) = read_test(Folder(root))
    assert table is None and "test images without labels: put groundtruth.csv beside them" in notes[0]
    shutil.rmtree(root / "test")
    table, notes = read_test(Folder(add(root, images="")))
    assert table is None and "labels test images that are not there: the official test set is left out" in notes[0]
    assert read(Folder(root)).equals(before)


def test_sex_age_and_view_are_taken_where_a_table_has_them(tmp_path):
    head = ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS))
    cells = ",".join("0" * 14)
    text = f"{head}\ntest/patient64741/study1/view1_frontal.jpg,Female,51,Frontal,AP,{cells}\n"
    row = official(read(Folder(add(write(tmp_path / "data"), text, "test.csv")))).iloc[0]
    assert (row["sex"], row["age"], row["view"], row["projection"]) == ("F", 51, "AP", "frontal")


@pytest.mark.parametrize(
    "text, message",
    [
        (image_table().replace("64742", "64799"), "1 of 3 test .*line 4 patient64799/study1.*complete the download"),
        (
            image_table().replace("w2", "w3"),
            r"line 3: patient64741/study1/view3_lateral\.jpg does not exist: complete the",
        ),
        (groundtruth().replace("test/patient64742", "train/patient64742"), "line 3: Study is .* must be like test/pat"),
        (groundtruth().replace("64742", "64741"), "line 3: .*64741/study1' stands twice"),
        (groundtruth().replace("study1,0", "study1,2"), "line 2: No Finding is '2', must be one of"),
        (groundtruth().replace("Edema", "Oedema"), "column 'Edema' is missing"),
    ],
)
def test_what_is_broken_is_named_with_its_line(tmp_path, text, message):
    table = "groundtruth.csv" if text.startswith("Study") else "test_labels.csv"
    with pytest.raises(ValueError, match=message):
        read(Folder(add(write(tmp_path / "data"), text, table)))


def test_images_in_two_folders_and_a_file_of_no_projection(tmp_path):
    root = add(write(tmp_path / "data"), labels="labels")
    add_images(root / "copy" / "test")
    with pytest.raises(ValueError, match=r"test images in several folders \(copy/test, test\): remove all but one"):
        read(Folder(root))
    shutil.rmtree(root / "copy")
    (root / "test/patient64742/study1/view1_frontal.jpg").rename(root / "test/patient64742/study1/view1.jpg")
    with pytest.raises(ValueError, match=r"line 3: the file name 'view1' says neither frontal nor lateral"):
        read(Folder(root))


def test_a_test_patient_in_train_is_a_leak(tmp_path):
    train = ["CheXpert-v1.0-small/train/patient64742/study1/view1_frontal.jpg,Female,68,Frontal,AP" + "," * 14]
    root = add(write(tmp_path / "data", train, files=[*train, "x/valid/patient64541/study1/view1_frontal.jpg"]))
    with pytest.raises(
        ValueError, match=r"1 patients are in both train\.csv and the official test set \(patient64742\)"
    ):
        read(Folder(root))


def test_two_label_tables_that_differ_are_said_aloud(tmp_path):
    root = add(write(tmp_path / "data"))
    (root / "test_labels.csv").write_text(image_table())
    assert read_test(Folder(root))[1] == []
    (root / "test_labels.csv").write_text(image_table(positive=("Edema",)))
    rows, notes = read_test(Folder(root))
    assert rows["Cardiomegaly"].tolist() == [1, 1, 0] and rows["Edema"].sum() == 0  # groundtruth.csv counts
    assert "test_labels.csv differs from groundtruth.csv, which counts: other labels for 1 studies" in notes[0]


def add_reader(root, name, positive, folder="cheXpert-test-set-labels/radiologists/benchmark_radiologists"):
    (root / folder).mkdir(parents=True, exist_ok=True)
    rows = [line(f"CheXpert-v1.0/test/{p}/study1", found, READERS) for p, found in positive.items()]
    (root / folder / f"{name}.csv").write_text("\n".join([",".join(("Study", *READERS)), *rows]) + "\n")


def test_readers(tmp_path):
    root = add(write(tmp_path / "data"))
    studies = official(read(Folder(root)))["study_id"].drop_duplicates()
    empty = read_readers(Folder(root), studies)
    assert len(empty) == 0 and list(empty) == ["study_id", "reader", *FINDINGS] and empty["Edema"].dtype == np.float32
    more = {"patient64743": ("Edema",)}  # of a study that the records lack
    add_reader(root, "bc6", {"patient64742": (), "patient64741": ("Lung Lesion",)} | more)
    add_reader(root, "bc4", {"patient64741": ("Lung Opacity",), "patient64742": ("Edema",)})
    add_reader(root, "bc1_gt", {"patient64741": ()}, "radiologists/groundtruth")  # made the truth: no benchmark
    readers = read_readers(Folder(root), studies)
    assert readers[["study_id", "reader"]].to_numpy().tolist() == [
        ["patient64741/study1", "bc4"], ["patient64742/study1", "bc4"],
        ["patient64741/study1", "bc6"], ["patient64742/study1", "bc6"],
    ]  # fmt: skip
    assert readers["Lung Opacity"].tolist() == [1, 0, 0, 0] and readers["Lung Lesion"].tolist() == [0, 0, 1, 0]
    assert len([name for name in tables(Folder(root)) if "benchmark" in name]) == 2
    add_reader(root, "bc4", {"patient64741": (), "patient64742": ()}, "copy/benchmark_radiologists")
    with pytest.raises(ValueError, match="holds two different tables of the reader bc4"):
        read_readers(Folder(root), studies)
    add_reader(root, "bc4", {"patient64741": ()}, "copy/benchmark_radiologists")
    with pytest.raises(ValueError, match=r"bc4\.csv lacks 1 test studies \(patient64742/study1\)"):
        read_readers(Folder(root), studies)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("study1,0", "study1,-1", "line 2: No Finding is '-1', must be one of 1, 0"),
        ("study1,0", "study1,", r"line 2: must be a study like test/patient64741/study1 and fourteen labels"),
        ("test/patient64742", "exam/9", r"line 3: must be a study like"),
        ("64742", "64741", r"line 3: patient64741/study1 stands twice"),
    ],
)
def test_a_readers_broken_row_is_named(tmp_path, old, new, message):
    root = add(write(tmp_path / "data"))
    add_reader(root, "bc4", {"patient64741": (), "patient64742": ()})
    (file,) = root.rglob("bc4.csv")
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"bc4\.csv {message}"):
        read_readers(Folder(root), official(read(Folder(root)))["study_id"])


def test_a_table_that_a_spreadsheet_saved_is_read_and_a_broken_one_is_not_left_out(tmp_path):
    root = add(write(tmp_path / "data"))
    whole = official(read(Folder(root)))
    text = groundtruth().replace(",", ";").replace("Lung Opacity", "LUNG_OPACITY").replace("Study", "study")
    (root / "groundtruth.csv").write_bytes(text.encode("utf-16"))
    assert official(read(Folder(root))).equals(whole)
    (root / "groundtruth.csv").write_bytes(b"")
    (root / "test.csv").write_bytes(b"")  # of something else
    with pytest.raises(ValueError, match=r"groundtruth\.csv is empty: download the dataset again"):
        read(Folder(root))
