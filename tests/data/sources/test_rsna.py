"""The RSNA challenge's tables and headers as records: one per image, with its patient, and nothing private."""

import io
import warnings

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from cxr.data.sources.archive import Folder
from cxr.data.sources.rsna import read

LABELS = [
    "b,10.0,20.0,30.0,40.0,1",
    "b,50.5,60.0,70.0,80.0,1",
    "a,,,,,0",
    "c,,,,,0",
]
CLASSES = ["a,Normal", "b,Lung Opacity", "b,Lung Opacity", "c,No Lung Opacity / Not Normal"]
SECRETS = ("DOE^PLANTED", "MRN-PLANTED", "19010203", "PLANTED HOSPITAL")


def header(age="051Y", sex="F", view="PA") -> bytes:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.PatientName, data.PatientID, data.PatientBirthDate, data.InstitutionName = SECRETS
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, value in (("PatientAge", age), ("PatientSex", sex), ("ViewPosition", view)):
            if value is not None:
                setattr(data, tag, value)
        data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def write(root, labels=LABELS, classes=CLASSES, images=None, columns="patientId,x,y,width,height,Target"):
    """An RSNA challenge in the folder `root`; images: bytes by patientId."""
    folder = root / "stage_2_train_images"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows, head in (
        ("stage_2_train_labels.csv", labels, columns),
        ("stage_2_detailed_class_info.csv", classes, "patientId,class"),
    ):
        if rows is not None:
            (root / name).write_text("\n".join([head, *rows]) + "\n")
    images = {"a": header(), "b": header("49", "M", "AP"), "c": header(None, None, None)} if images is None else images
    for image, data in images.items():
        (folder / f"{image}.dcm").write_bytes(data)
    return Folder(root)


def test_one_record_per_image(tmp_path):
    table = read(write(tmp_path))
    assert table["image_id"].tolist() == table["patient_id"].tolist() == table["study_id"].tolist() == ["b", "a", "c"]
    assert table["path"][0] == "stage_2_train_images/b.dcm"
    assert table["class_name"].tolist() == ["Lung Opacity", "Normal", "No Lung Opacity / Not Normal"]
    assert table["boxes"].tolist() == [[[10, 20, 30, 40], [50.5, 60, 70, 80]], [], []]
    assert table["sex"].fillna("?").tolist() == ["M", "F", "?"]
    np.testing.assert_array_equal(table["age"], np.float32([49, 51, np.nan]))
    assert table["view"].fillna("?").tolist() == ["AP", "PA", "?"]
    assert set(table["projection"]) == {"frontal"} and set(table["official_split"]) == {"train"}


def test_the_tables_may_lie_deeper(tmp_path):
    table = read(write(tmp_path / "one" / "two"))
    tree = Folder(tmp_path)
    assert table["path"][0] == "stage_2_train_images/b.dcm"
    assert read(tree)["path"][0] == "one/two/stage_2_train_images/b.dcm"


def test_headers_that_say_nothing_or_are_broken_leave_nulls(tmp_path, capfd, recwarn):
    images = {"a": b"", "b": header("??", "female", "OBLIQUE"), "c": header()[:200]}
    table = read(write(tmp_path, images=images))
    assert table[["sex", "view"]].isna().all(axis=None) and table["age"].isna().all()
    lateral = read(write(tmp_path, images={"a": header(view="LL")}))
    assert lateral.set_index("image_id").loc["a", ["view", "projection"]].tolist() == ["LL", "lateral"]
    assert not recwarn.list and "??" not in "".join(capfd.readouterr())


def test_nothing_private_gets_out(tmp_path, capfd, recwarn):
    table = read(write(tmp_path, images={"a": header("x"), "b": header()[:-2], "c": header()}))
    said = table.to_json() + "".join(capfd.readouterr()) + "".join(str(warning.message) for warning in recwarn)
    assert not [secret for secret in SECRETS if secret in said]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"columns": "patientId,x,y,width,height,Class"}, r"labels\.csv line 1: column 'Target' is missing"),
        ({"labels": ["a,,,,,2"]}, r"labels\.csv line 2: Target is '2', must be one of 0, 1"),
        ({"labels": ["a,,,,,"]}, r"labels\.csv line 2: Target is blank"),
        (
            {"labels": ["a,1,2,,4,1"]},
            r"labels\.csv line 2: Target is 1 but x, y, width, height are '1, 2, , 4', no box",
        ),
        ({"labels": ["a,1,2,0,4,1"]}, r"labels\.csv line 2: Target is 1 but"),
        ({"labels": ["a,1,2,3,4,0"]}, r"labels\.csv line 2: Target is 0, but there is a box \(1, 2, 3, 4\)"),
        ({"labels": [*LABELS, "a,1,2,3,4,1"]}, r"labels\.csv: image a has Target 0 and 1 \(lines 4, 6\)"),
        ({"labels": LABELS[:3]}, r"labels\.csv lacks 1 images of the other table \(c\)"),
        ({"classes": CLASSES[:3]}, r"class_info\.csv lacks 1 images of the other table \(c\)"),
        (
            {"classes": [*CLASSES, "a,Lung Opacity"]},
            r"lines 2, 6: image a is Normal and Lung Opacity: keep one of them",
        ),
        (
            {"classes": ["a,Sick", *CLASSES[1:]]},
            r"class_info\.csv line 2: class is 'Sick', must be one of Lung Opacity, No",
        ),
        (
            {"classes": ["a,Lung Opacity", *CLASSES[1:]]},
            r"labels\.csv line 4: image a has Target 0 but the class 'Lung Opacity' in stage_2_detailed",
        ),
        ({"classes": [CLASSES[0], "b,Normal", CLASSES[3]]}, r"line 2: image b has Target 1 but the class 'Normal'"),
        ({"labels": ["../a,,,,,0"]}, r"labels\.csv line 2: patientId is '\.\./a', no file name"),
        (
            {"images": {"a": b""}},
            r"labels\.csv: 2 of 3 images do not exist in .*stage_2_train_images/ \(b, c\): complete",
        ),
        ({"labels": None}, r"class_info\.csv lacks stage_2_train_labels\.csv"),
        ({"labels": None, "classes": None}, r"no RSNA challenge here"),
        ({"classes": []}, r"class_info\.csv has a header but no rows"),
    ],
)
def test_what_is_broken_is_named_with_its_place(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, **change))


@pytest.mark.parametrize("nothing", ["0", "0.0", "NaN", "nan", " "])
def test_a_row_without_a_box_may_say_so_in_other_words(tmp_path, nothing):
    rows = [row.replace(",,,,,", f",{nothing},{nothing},{nothing},{nothing},") for row in LABELS]
    assert read(write(tmp_path / "other", rows)).equals(read(write(tmp_path / "plain")))


def test_files_are_found_in_a_doubled_folder_with_any_case_of_their_suffix(tmp_path):
    tree = write(tmp_path / "plain")
    expected = read(tree)
    images = tmp_path / "plain" / "stage_2_train_images"
    (images / "again").mkdir()
    for number, path in enumerate(sorted(images.glob("*.dcm"))):
        path.rename(images / ("again" if number else "") / f"{path.stem}.DCM")
    table = read(Folder(tmp_path / "plain"))
    assert sorted(table["path"]) == ["stage_2_train_images/" + name for name in ("a.DCM", "again/b.DCM", "again/c.DCM")]
    assert table.drop(columns="path").equals(expected.drop(columns="path"))
    with pytest.raises(ValueError, match=rf"no RSNA challenge here: .*; {tmp_path}/plain has them: give it as source$"):
        read(Folder(images))


def test_png_copies_and_links_are_named_with_the_cure(tmp_path):
    write(tmp_path, images={})
    for name in "abc":
        (tmp_path / "stage_2_train_images" / f"{name}.png").write_bytes(b"png")
    with pytest.raises(
        ValueError, match=r"\(b, a, c\): there is stage_2_train_images/a\.png; give .* DICOM files: sex, a"
    ):
        read(Folder(tmp_path))
    (tmp_path / "stage_2_train_images.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"if they are in stage_2_train_images\.zip, unpack it there"):
        read(Folder(tmp_path))


def test_real_files(shared_data):
    table = read(Folder(shared_data / "rsna"))
    assert len(table) == 209 and set(table["view"]) == {"AP", "PA"} and set(table["sex"]) == {"F", "M"}
    assert table["age"].between(1, 100).all()
    assert ((table["boxes"].str.len() > 0) == (table["class_name"] == "Lung Opacity")).all()
