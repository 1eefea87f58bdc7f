"""Sex, age and view from DICOM headers: ages by hand, and any number of processes."""

import io

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from cxr.data.sources import dicom_headers
from cxr.data.sources.archive import Folder
from cxr.data.sources.dicom_headers import read_headers, years


@pytest.mark.parametrize(
    "age, expected",
    [("051Y", 51), ("51", 51), ("155", 155), ("000Y", 0), ("006M", 0.5), ("026W", 0.498), ("073D", 0.2)],
)
def test_ages(age, expected):
    assert abs(years(age) - expected) < 0.001


def test_an_age_that_is_none_is_unknown():
    assert all(np.isnan(years(age)) for age in ("", "abc", "-5", "5Y5", "1e3", "NAN", "51 Y", "99999"))


def test_processes_change_nothing(tmp_path, monkeypatch):
    for age in range(20, 28):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
        data.PatientAge, data.PatientSex, data.ViewPosition = f"0{age}Y", "F", "PA"
        stream = io.BytesIO()
        data.save_as(stream, enforce_file_format=True)
        (tmp_path / f"{age}.dcm").write_bytes(stream.getvalue())
    names = [f"{age}.dcm" for age in range(20, 28)]
    expected = [("F", age, "PA") for age in range(20, 28)]
    assert read_headers(Folder(tmp_path), names, processes=1) == expected
    monkeypatch.setattr(dicom_headers, "CHUNK", 1)
    assert read_headers(Folder(tmp_path), names, processes=2) == expected
