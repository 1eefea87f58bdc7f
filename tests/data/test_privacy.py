"""What a DICOM header says of a person stays in it: planted strings, sought in every byte that the stages write or say.

RSNA's patientId is a pseudonym of the published tables, which the records keep; the header's PatientID is another
thing.
"""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pydicom
import pytest

from cxr.core.findings import CLASSES
from tests.closure import ROOT
from tests.data.pictures import baseline, dicom, smooth
from tests.report.fabricated import chexpert_records, fabricate

PLANTED = {
    "PatientName": "DOEPLANTED^JANE", "PatientID": "MRN-PLANTED-77", "PatientBirthDate": "19010203",
    "AccessionNumber": "ACC-PLANTED-5", "ReferringPhysicianName": "HOUSEPLANTED^GREGORY",
    "InstitutionName": "PLANTED GENERAL HOSPITAL", "InstitutionAddress": "1 Planted Road", "StudyDate": "19991231",
    "OtherPatientIDs": "PLANTED-OTHER", "PatientComments": "planted comment", "StudyID": "PLANTED-STUDY",
    "OperatorsName": "PLANTED^OPERATOR", "DeviceSerialNumber": "PLANTED-SERIAL", "PatientAddress": "2 Planted Road",
}  # fmt: skip
pytestmark = pytest.mark.slow  # six stages as commands

SECRETS = [value.encode() for value in PLANTED.values()] + [b"lanted", b"LANTED"]


def image(k: int) -> bytes:
    """The k-th image's file; some of them damaged in ways that made a decoder speak of what it saw."""
    good = baseline if k % 2 else dicom
    tags = PLANTED | {"PatientAge": f"0{20 + k}Y", "PatientSex": "FM"[k % 2], "ViewPosition": "PA"}
    if k == 3:
        return good(smooth(64, 64, k), **tags)[:-2000]
    if k == 4:
        return dicom(None, **tags)
    if k == 5:
        return dicom(np.zeros((3, 32, 32), np.uint8), **tags)
    if k == 6:
        return dicom(smooth(64, 64), "1.2.3.4.5", **tags)
    if k == 7:  # the person's name lies where the header's reader looks for other elements
        return good(smooth(64, 64), **tags).replace(b"PN\x0f\x00", b"PN\xff\x00")
    if k == 8:
        return dicom(
            smooth(64, 64), **tags | {"PatientAge": "PLANTED", "PatientSex": "PLANTED", "ViewPosition": "PLANTED"}
        )
    return good(smooth(64, 64, k), **tags)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder of all that the stages wrote, all that they said)."""
    root = tmp_path_factory.mktemp("private")
    source, out = root / "source", root / "out"
    (source / "stage_2_train_images").mkdir(parents=True)
    labels, classes = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for k in range(60):
        name = f"pseudonym-{k:02}"
        kind = CLASSES[k % 3]
        labels.append(f"{name},10,20,30,40,1" if k % 3 == 0 else f"{name},,,,,0")
        classes.append(f"{name},{kind}")
        (source / "stage_2_train_images" / f"{name}.dcm").write_bytes(image(k))
    (source / "stage_2_train_labels.csv").write_text("\n".join(labels) + "\n")
    (source / "stage_2_detailed_class_info.csv").write_text("\n".join(classes) + "\n")

    options = fabricate(root / "fabricated", kind="folder", labels=[50])  # what the stages of this run don't make
    out.mkdir()
    chexpert_records(np.random.default_rng(0)).to_parquet(out / "chexpert.parquet", index=False)
    data, said = out / "rsna", []

    def run(stage: str, **given):
        words = [
            w for k, v in given.items() for one in (v if isinstance(v, list) else [v]) for w in (f"--{k}", str(one))
        ]
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{stage}", *words], cwd=ROOT, capture_output=True, text=True
        )
        said.append(done.stdout + done.stderr)
        assert done.returncode == 0, said[-1]

    run("download", dataset="rsna", source=source, out=data, state=out / "state")
    run("explore", chexpert=out / "chexpert.parquet", rsna=data / "records.parquet",
        rsna_manifest=data / "manifest.json", out=out / "explore")  # fmt: skip
    run("resize", dataset="rsna", source=source, records=data / "records.parquet", manifest=data / "manifest.json",
        size=17, out=out / "stores/rsna", state=out / "state", max_rejected=0.2)  # fmt: skip
    run("split", dataset="rsna", records=data / "records.parquet", manifest=data / "manifest.json",
        stores=out / "stores/rsna", out=out / "splits/rsna", rsna="image", valid_share=0.25)  # fmt: skip
    run("adgm", variant="corrected", classes=2, labels=4, draw=0, records=data / "records.parquet",
        store=out / "stores/rsna/17", split=out / "splits/rsna",
        model=out / "models/adgm/2-4", predictions=out / "predictions/2-4.parquet",
        report=out / "reports/2-4", size=17, epochs=1, z_dim=4, a_dim=4, state=out / "state")  # fmt: skip
    for name in ("splits/rsna/split.json", "stores/rsna/rejected.csv"):
        (root / "fabricated" / name).write_bytes((out / name).read_bytes())
    options |= {"explore": out / "explore", "rsna": data, "params": root / "fabricated/params.yaml"}
    options |= {"findings": ["pneumonia"], "classes": [2], "labels": [50]}
    options |= {"variants": ["corrected"], "draws": [0]}
    options |= {name: root / "fabricated" / name for name in ("gan", "fidelity", "balanced")}  # with a folder a seed
    run("report", **options, out=out / "report.html", tables=out / "tables", previews=out / "figures",
        documents=out / "documents")  # fmt: skip
    return out, "".join(said)


def test_the_planted_strings_are_in_the_headers():
    header = pydicom.dcmread(io.BytesIO(image(1)))
    assert [str(header[name].value) for name in PLANTED] == list(PLANTED.values())
    assert all(secret in image(1) for secret in SECRETS[:-2])


def test_nothing_of_them_is_said(written):
    said = written[1].encode()
    assert b"rejected" in said and not [secret for secret in SECRETS if secret in said]


def test_nothing_of_them_is_written(written):
    out, _ = written
    files = [p for p in out.rglob("*") if p.is_file()]
    kinds = {p.suffix for p in files}
    assert {".parquet", ".npy", ".safetensors", ".json", ".csv", ".html", ".png"} <= kinds
    for file in files:
        data = file.read_bytes()
        if file.suffix == ".parquet":  # compressed: its values, and the notes beside them
            data += pd.read_parquet(file).to_json().encode()
        found = [secret for secret in SECRETS if secret in data]
        assert not found, (file, found)


def test_what_was_rejected_says_why_and_no_more(written):
    reasons = pd.read_csv(written[0] / "stores/rsna/rejected.csv").set_index("image_id")["reason"]
    assert {f"pseudonym-0{k}" for k in (3, 4, 5, 6)} <= set(reasons.index)
    assert reasons["pseudonym-04"] == "DICOM without pixels, or cut short before their end"
    page = (written[0] / "report.html").read_text()
    assert "DICOM without pixels" in page and "pseudonym" not in page
