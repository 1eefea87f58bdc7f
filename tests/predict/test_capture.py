"""Secondary Captures: in the right study, with the right picture, and the only output that names the patient."""

import sys

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.uid import SecondaryCaptureImageStorage

from cxr.core import files
from cxr.core.findings import FINDINGS, SLUGS
from cxr.data.picture import whole
from cxr.predict import capture, cards, heat, structured
from tests.data.pictures import dicom
from tests.data.test_privacy import PLANTED, SECRETS
from tests.predict.conftest import picture, predicted
from tests.predict.test_private import leaked

STUDY = "1.2.840.99999.77.5"


def fill(folder):
    folder.mkdir()
    tags = PLANTED | {"StudyInstanceUID": STUDY, "ViewPosition": "AP", "SeriesInstanceUID": "1.2.76"}
    for k, name in enumerate(("a.dcm", "b.dcm")):
        (folder / name).write_bytes(dicom(picture(45 + k, False), **tags | {"SOPInstanceUID": f"1.2.77.{k}"}))
    burned = {"BurnedInAnnotation": "YES", "StudyInstanceUID": "1.9"}
    (folder / "c.dcm").write_bytes(dicom(picture(47, False), **burned, **PLANTED))
    Image.fromarray(picture(48, False)).save(folder / "d.png")
    (folder / "e.dcm").write_bytes(dicom(picture(49, False), **PLANTED))  # names no study
    (folder / "f.dcm").write_bytes(dicom(picture(50, False), Modality="CT", StudyInstanceUID="1.8"))  # refused
    return folder


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    """(folder of the files, folder of the outputs)."""
    root = tmp_path_factory.mktemp("capture")
    code, table = predicted(made, fill(root / "in"), root / "out", dicom=True)
    assert code == 3 and list(table["reason"].isna()) == [True] * 5 + [False]
    return root / "in", root / "out"


def test_each_dicom_with_a_study_has_one_in_its_study(run):
    files = sorted((run[1] / "dicom").iterdir())
    assert [file.name for file in files] == ["image-000001.dcm", "image-000002.dcm", "study-000001.dcm"]
    made = [pydicom.dcmread(file) for file in files[:2]]
    for k, one in enumerate(made):
        assert one.SOPClassUID == SecondaryCaptureImageStorage and one.StudyInstanceUID == STUDY
        assert one.PatientID == PLANTED["PatientID"] and one.PatientName == PLANTED["PatientName"]
        assert one.AccessionNumber == PLANTED["AccessionNumber"] and one.StudyDate == PLANTED["StudyDate"]
        assert one.SOPInstanceUID != f"1.2.77.{k}" and one.BurnedInAnnotation == "NO"
        assert "Not for diagnosis" in one.SeriesDescription
        assert one.SOPInstanceUID.is_valid and one.SeriesInstanceUID.is_valid
    assert made[0].SeriesInstanceUID == made[1].SeriesInstanceUID and made[0].SOPInstanceUID != made[1].SOPInstanceUID


def test_its_picture_shows_the_x_ray_and_the_findings(run):
    pixels = pydicom.dcmread(run[1] / "dicom/image-000001.dcm").pixel_array
    assert pixels.shape[1:] == (2 * capture.SIDE, 3) and pixels.shape[0] > capture.SIDE + 5 * capture.LINE
    gray = pixels[: capture.SIDE, : capture.SIDE].astype(int)
    assert np.ptp(gray, axis=2).max() == 0  # no colour on the plain picture
    height, width = picture(45, False).shape
    shown = gray[:, :, 0][:, (gray[:, :, 0] > 0).any(axis=0)]
    expected = Image.fromarray(picture(45, False)).resize((round(capture.SIDE * width / height), capture.SIDE), 2)
    assert shown.shape == np.asarray(expected).shape and np.abs(shown - np.asarray(expected).astype(int)).mean() < 2
    maps = pixels[: capture.SIDE, capture.SIDE :].astype(int)
    assert np.ptp(maps, axis=2).max() > 60
    assert pixels[capture.SIDE :].max() > 200  # words


def values(report) -> list[dict]:
    """Of each image of a Structured Report: code of the concept -> number, or meaning of the answer."""
    (whole,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"]
    images = []
    for group in whole.ContentSequence:
        images.append({})
        for item in group.ContentSequence:
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            if item.ValueType == "NUM":
                images[-1][name] = float(item.MeasuredValueSequence[0].NumericValue)
            elif item.ValueType == "CODE":
                images[-1][name] = item.ConceptCodeSequence[0].CodeMeaning.lower()
            elif item.ValueType == "IMAGE":
                images[-1]["image"] = item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    return images


def test_a_study_has_one_report_with_the_tables_numbers(run):
    report, table = pydicom.dcmread(run[1] / "dicom/study-000001.dcm"), pd.read_csv(run[1] / "predictions.csv")
    assert report.StudyInstanceUID == STUDY and report.PatientID == PLANTED["PatientID"]
    assert report.VerificationFlag == "UNVERIFIED" and report.CompletionFlag == "PARTIAL"
    images = values(report)
    assert [image["image"] for image in images] == ["1.2.77.0", "1.2.77.1"]
    known = 0
    for image, row in zip(images, table.to_dict("records"), strict=False):
        for slug, name in zip(SLUGS, FINDINGS, strict=True):
            probability, called = row[f"probability.{slug}"], row[f"positive.{slug}"]
            assert np.isnan(probability) == (f"Probability of {name}" not in image)
            if np.isnan(probability):
                assert image[name] == row[f"status.{slug}"]
            if not np.isnan(probability):
                assert image[f"Probability of {name}"] == pytest.approx(probability, abs=1e-5)
                assert image[name] == called
                known += 1
    assert known > 20
    referenced = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {i.ReferencedSOPInstanceUID for s in referenced for i in s.ReferencedSOPSequence} == {"1.2.77.0", "1.2.77.1"}


def test_a_second_run_gives_the_same_uids(run, made, tmp_path):
    predicted(made, run[0], tmp_path / "again", dicom=True)
    for name in ("image-000001.dcm", "image-000002.dcm", "study-000001.dcm"):
        one, other = (pydicom.dcmread(out / "dicom" / name) for out in (run[1], tmp_path / "again"))
        assert one.SOPInstanceUID == other.SOPInstanceUID and one.SeriesInstanceUID == other.SeriesInstanceUID
        assert "PixelData" not in one or (one.pixel_array == other.pixel_array).all()


def test_other_pixels_or_another_method_have_other_uids(run, made, tmp_path):
    predicted(made, run[0], tmp_path / "none", dicom=True, heat_maps="none")
    one, other = (pydicom.dcmread(out / "dicom/image-000001.dcm") for out in (run[1], tmp_path / "none"))
    assert (one.pixel_array.shape != other.pixel_array.shape) or (one.pixel_array != other.pixel_array).any()
    assert one.SOPInstanceUID != other.SOPInstanceUID and one.SeriesInstanceUID != other.SeriesInstanceUID
    header = pydicom.Dataset()
    header.StudyInstanceUID, header.SOPInstanceUID = STUDY, "1.2.77.1"
    uids = {capture.captured(header, np.full((8, 8, 3), k, np.uint8), "m").SOPInstanceUID for k in (0, 0, 1)}
    assert len(uids) == 2


def test_the_uid_of_a_report_depends_on_all_that_it_says():
    header = pydicom.Dataset()
    header.StudyInstanceUID, header.SOPInstanceUID = STUDY, "1.2.77.1"
    bar = cards.Bar("Edema", 0.25, (0, 0.1, 0.2, 0.3, 0.4), 0.6, "yes")
    said = [structured.Reported(header, [bar], []), structured.Reported(header, [bar._replace(positive="no")], [])]
    said += [said[0]._replace(without=[cards.Without("Fracture", "not trained on")])]
    uids = set()
    for images in ([said[0]], [said[0]], [said[1]], [said[2]], said[:2]):
        image = [one._replace(header=capture_ready(header)) for one in images]
        uids.add(structured.report(image, "identity", "model", 1).SOPInstanceUID)
    assert len(uids) == 4


def capture_ready(header):
    """A header with the elements that a report asks for, as capture.py completes it."""
    whole = pydicom.Dataset()
    whole.update(header)
    for keyword in capture.EMPTY:
        setattr(whole, keyword, None)
    whole.SOPClassUID, whole.SeriesInstanceUID = SecondaryCaptureImageStorage, "1.2.76"
    return whole


def test_a_report_that_fails_is_counted(run, made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(structured, "_report", lambda *_: 1 / 0)
    predicted(made, run[0], tmp_path / "out", dicom=True)
    said = capsys.readouterr()
    assert "2 Secondary Captures, 3 images have none; 0 Structured Reports, 4 studies have none" in said.out
    assert "dicom: 5/5 images" in said.err and "cards: 6/6 images" in said.err


def test_a_run_replaces_the_folders_of_an_earlier_one(run, made, tmp_path):
    out, few = tmp_path / "out", tmp_path / "few"
    few.mkdir()
    (few / "a.dcm").write_bytes((run[0] / "a.dcm").read_bytes())
    predicted(made, run[0], out, dicom=True, fhir=True)
    predicted(made, few, out, dicom=True, fhir=True)
    assert sorted(path.name for path in (out / "dicom").iterdir()) == ["image-000001.dcm", "study-000001.dcm"]
    assert [path.name for path in (out / "fhir").iterdir()] == ["study-000001.json"]


@pytest.mark.parametrize("name", ["other.dcm", "image-000001.dcm"])
def test_a_folder_that_predict_did_not_write_is_never_replaced(run, made, tmp_path, name):
    source = tmp_path / "dicom"
    source.mkdir()
    (source / name).write_bytes((run[0] / "a.dcm").read_bytes())
    with pytest.raises(ValueError, match="would be replaced, and holds"):
        predicted(made, source, tmp_path, dicom=True)
    assert [path.name for path in source.iterdir()] == [name]


def test_no_folder_is_listed_for_each_file(made, run, tmp_path, monkeypatch):
    swept = []
    real = files._sweep
    monkeypatch.setattr(files, "_sweep", lambda path: swept.append(path.name) or real(path))
    predicted(made, run[0], tmp_path / "out", dicom=True, fhir=True)
    assert swept.count("dicom") == swept.count("fhir") == 1
    assert not [name for name in swept if name.startswith(("image", "study"))]


def test_nothing_else_names_the_patient(run):
    secrets = [*SECRETS, STUDY.encode()]
    named = {file for file, _ in leaked(run[1], secrets)}
    assert named == {"image-000001.dcm", "image-000002.dcm", "study-000001.dcm"}


def test_without_the_option_there_are_none(made, run, tmp_path):
    predicted(made, run[0], tmp_path / "plain")
    assert not (tmp_path / "plain/dicom").exists()


def test_pseudonyms_and_a_missing_package_are_refused_before_any_work(made, run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="--dicom names the patient, which --pseudonyms shall not"):
        predicted(made, run[0], tmp_path / "x", dicom=True, pseudonyms=True)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r"pip install 'cxr\[pacs\]'"):
        predicted(made, run[0], tmp_path / "x", dicom=True)
    assert not (tmp_path / "x").exists()


def test_a_header_that_can_not_be_copied_gives_none_and_a_poor_one_gives_one():
    pixels = np.zeros((8, 8, 3), np.uint8)
    poor = pydicom.Dataset()
    poor.StudyInstanceUID, poor.SOPInstanceUID = STUDY, "1.2.77.1"
    capture_ = capture.captured(poor, pixels, "model")
    assert capture_.StudyInstanceUID == STUDY and not capture_.PatientID
    del poor.StudyInstanceUID
    assert capture.captured(poor, pixels, "model") is None


def test_uids_depend_on_every_part():
    assert capture.uid("a", "b") == capture.uid("a", "b") != capture.uid("ab", "") != capture.uid("a", "c")
    assert len(capture.uid("a" * 500)) <= 64


def test_a_sheet_without_maps_or_findings():
    xray = whole(np.full((100, 50), 200, np.uint8))
    sheet = capture.sheet(xray, [], [heat.Heat("Edema", None)], [], {})
    assert sheet.shape[1] == 2 * capture.SIDE
    assert sheet[256, 256].tolist() == [200] * 3 and sheet[256, 10].tolist() == [0] * 3
    bar = cards.Bar("Edema", 0.25, (0, 0.1, 0.2, 0.3, 0.4), 0.6, "yes")
    assert capture.sheet(xray, [bar] * 13, [], ["a", "b"], {}).shape[0] == capture.SIDE + 10 * capture.LINE
