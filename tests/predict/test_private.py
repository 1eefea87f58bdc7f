"""Planted strings of headers, sought in every byte that predict writes or says, whole runs and interrupted ones."""

import io
import zipfile

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom import DataElement
from pydicom._dicom_dict import DicomDictionary
from pydicom.config import IGNORE
from pydicom.filewriter import dcmwrite

from cxr.data import dicom as decoder
from cxr.predict import header
from cxr.predict import run as predict_run
from cxr.predict.part import NAME
from tests.data.pictures import dicom, planted
from tests.data.test_privacy import PLANTED, SECRETS
from tests.data.test_quoted import META
from tests.predict.conftest import picture, predicted

NAMES = ("doe_jane.dcm", "roe_richard.dcm", "torn_1999.dcm", "words.dcm", "burned.dcm", "roe.png")


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "ward7"
    folder.mkdir()
    tags = PLANTED | {"StudyInstanceUID": "1.2.840.99999.77.5", "ViewPosition": "AP"}
    image = picture(46, False)
    (folder / NAMES[0]).write_bytes(dicom(image, **tags))
    (folder / NAMES[1]).write_bytes(dicom(image, **tags | {"PatientID": "MRN-PLANTED-78"}))
    (folder / NAMES[2]).write_bytes(dicom(image, **tags)[:-2000])
    words = dict.fromkeys(("ViewPosition", "BodyPartExamined", "Modality", "BurnedInAnnotation"), "PLANTED")
    (folder / NAMES[3]).write_bytes(dicom(image, **PLANTED, **words))
    (folder / NAMES[4]).write_bytes(dicom(image, BurnedInAnnotation="YES", **PLANTED))
    Image.fromarray(image).save(folder / NAMES[5], exif=b"")
    return folder


def leaked(out, secrets):
    """(file, secret) of every secret in what was written, also inside compressed tables."""
    result = []
    for file in (path for path in out.rglob("*") if path.is_file()):
        data = file.read_bytes()
        if file.suffix == ".parquet":
            data += pd.read_parquet(file).to_json().encode()
        result += [(file.name, secret) for secret in secrets if secret in data]
    return result


def test_no_word_of_a_header_is_written_or_said(made, files, tmp_path, capfd):
    out = tmp_path / "out"
    code, table = predicted(made, files, out)
    said = "".join(capfd.readouterr()).encode()
    secrets = [*SECRETS, b"1.2.840.99999"]
    assert code == 3 and set(table["file"]) == set(NAMES)
    assert leaked(out, secrets) == [] and not [secret for secret in secrets if secret in said]
    rows = table.set_index("file")
    assert rows.loc[NAMES[0], "reason"] == rows.loc[NAMES[1], "reason"] == "two patients in one study"
    assert rows.loc[NAMES[3], "view_from"] != "header"
    page = (out / "predictions.html").read_text()
    burned = page[page.index(f"<h3>{NAMES[4]}") :]
    assert "No picture." in burned[: burned.index("</section>")]


TEXT_VRS = "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split()
LONG_VRS = ("UC", "UR", "UT")


def crowded(texts: dict[str, str]) -> bytes:
    """An X-ray whose header has every element of the standard that holds a text, with a planted one, but for those that
    make it an image; texts: by keyword, other ones."""
    data = pydicom.dcmread(io.BytesIO(dicom(picture(46, False))))
    kept = {"PhotometricInterpretation", "SpecificCharacterSet"}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if vr in TEXT_VRS and keyword not in kept and group not in (0, 2, 4) and group < 0x7FE0:
            value = texts.get(keyword, f"PLANTED {tag:08X}")
            data.add(DataElement(tag, vr if vr in LONG_VRS else "LO", value, validation_mode=IGNORE))
    data.file_meta.SourceApplicationEntityTitle = data.file_meta.ImplementationVersionName = "PLANTED META"
    data.file_meta.add(DataElement("PrivateInformationCreatorUID", "LO", "PLANTED UID", validation_mode=IGNORE))
    stream = io.BytesIO()
    dcmwrite(stream, data, implicit_vr=False, little_endian=True)
    return stream.getvalue()


def test_no_text_of_any_element_is_written_or_said(made, tmp_path, capfd, monkeypatch):
    """Where it is accepted, and where each element that a reader can reach is the one that is wrong."""
    folder = tmp_path / "in"
    folder.mkdir()
    fine = {
        "WindowCenter": "100", "WindowWidth": "200", "VOILUTFunction": "SIGMOID", "RescaleType": "PLANTED",
        "NumberOfFrames": "1", "RescaleSlope": "1", "RescaleIntercept": "0", "HighBit": "7",
    }  # fmt: skip
    (folder / "fine.dcm").write_bytes(crowded(fine))
    for keyword in fine:
        (folder / f"{keyword}.dcm").write_bytes(crowded({key: text for key, text in fine.items() if key != keyword}))
    good = dicom(picture(46, False))
    for keyword in {*decoder.TAGS.split(), *header.TAGS, *META} - {"PixelData"}:
        for vr in ("CS", "UI"):
            (folder / f"{keyword}.{vr}.dcm").write_bytes(planted(good, keyword, vr, "JANE PLANTED"))
    assert b"PLANTED 00100010" in (folder / "fine.dcm").read_bytes()

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(predict_run.tables, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            predicted(made, folder, tmp_path / "out", fhir=True)
    assert (tmp_path / "out" / NAME).stat().st_size > 9000 and leaked(tmp_path / "out", [b"LANTED"]) == []
    code, table = predicted(made, folder, tmp_path / "out", fhir=True)
    reasons = table.set_index("file")["reason"]
    assert code == 3 and reasons[["fine.dcm", "RescaleType.dcm"]].isna().all() and reasons.notna().sum() > 30
    assert leaked(tmp_path / "out", [b"LANTED"]) == [] and "LANTED" not in "".join(capfd.readouterr())


def test_pseudonyms_replace_the_names(made, files, tmp_path, capfd):
    out = tmp_path / "out"
    _, table = predicted(made, files, out, pseudonyms=True)
    said = "".join(capfd.readouterr()).encode()
    assert sorted(table["file"]) == [f"image-{k:06d}" for k in range(1, len(NAMES) + 1)]
    secrets = [name.encode() for name in (*NAMES, *(name.partition(".")[0] for name in NAMES), "ward7")]
    assert leaked(out, secrets) == [] and not [secret for secret in secrets if secret in said]


def test_a_run_that_died_leaves_neither_names_nor_headers(made, files, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_run.tables, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        predicted(made, files, out, pseudonyms=True)
    assert len((out / NAME).read_text().splitlines()) == 1 + len(NAMES)
    assert leaked(out, [*SECRETS, b"1.2.840.99999", *(name.encode() for name in NAMES)]) == []
    monkeypatch.undo()
    real = predict_run._rows

    def torn_alone(models, files, asked):  # the others are predicted already; their headers are read once more
        assert len(files) == 1 and files[0][0].reason.startswith("unreadable: DICOM pixels can't be decoded")
        return real(models, files, asked)

    monkeypatch.setattr(predict_run, "_rows", torn_alone)
    reasons = predicted(made, files, out, pseudonyms=True)[1]["reason"]
    assert (reasons == "two patients in one study").sum() == 2


def test_messages_name_no_file(made, tmp_path):
    names = tmp_path / "list.txt"
    names.write_text(f"{tmp_path}/secret/gone.png\n{tmp_path}\n")
    code, table = predicted(made, names, tmp_path / "out", pseudonyms=True)
    assert code == 1 and list(table["reason"]) == ["unreadable: no such file"] * 2
    assert np.isnan(table["score.edema"]).all()


def test_messages_name_no_folder_of_the_machine(tmp_path, made):
    archive = tmp_path / "ward7.zip"
    with zipfile.ZipFile(archive, "w") as whole:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = 0o120777 << 16
        whole.writestr(link, "elsewhere")
    code, table = predicted(made, archive, tmp_path / "out", pseudonyms=True)
    assert code == 1 and "ward7" not in table["reason"][0] and str(tmp_path) not in table["reason"][0]
    assert table["reason"][0] == "unreadable: is a symbolic link"
