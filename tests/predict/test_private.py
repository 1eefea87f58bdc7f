"""Planted strings of headers, sought in every byte that predict writes or says, whole runs and interrupted ones."""

import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.predict import run as predict_run
from cxr.predict.part import NAME
from tests.data.pictures import dicom
from tests.data.test_privacy import PLANTED, SECRETS
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
    monkeypatch.setattr(predict_run, "_rows", dies)  # every image is predicted already; headers are read once more
    reasons = predicted(made, files, out, pseudonyms=True)[1]["reason"]
    assert (reasons == "two patients in one study").sum() == 2


def test_messages_name_no_file(made, tmp_path):
    names = tmp_path / "list.txt"
    names.write_text(f"{tmp_path}/secret/gone.png\n{tmp_path}\n")
    code, table = predicted(made, names, tmp_path / "out", pseudonyms=True)
    assert code == 1 and list(table["reason"]) == ["unreadable: the file: no such file"] * 2
    assert np.isnan(table["score.edema"]).all()


def test_messages_name_no_folder_of_the_machine(tmp_path, made):
    archive = tmp_path / "ward7.zip"
    with zipfile.ZipFile(archive, "w") as whole:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = 0o120777 << 16
        whole.writestr(link, "elsewhere")
    code, table = predicted(made, archive, tmp_path / "out", pseudonyms=True)
    assert code == 1 and "ward7" not in table["reason"][0] and str(tmp_path) not in table["reason"][0]
    assert table["reason"][0] == ("unreadable: the file is a symbolic link inside the source: such members are refused")
