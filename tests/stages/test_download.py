"""The download and resize stages as commands: what they write, that it repeats, and how they fail."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import sha256
from cxr.core.findings import FINDINGS
from cxr.core.store import open_store
from cxr.data.phantom import cohort
from stages import download, resize
from stages.cli import main
from tests.data.pictures import dicom, inflating, oversized_jpeg, oversized_png, ramp


def write_tree(path, *, patients, seed, processes=None):
    """A stand-in for the phantom: a CheXpert of small noise images in a zip, the last image of train cut short."""
    rng = np.random.default_rng(seed)
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
    with zipfile.ZipFile(path, "w") as archive:
        for split, ids in (("train", range(patients - 1)), ("valid", [patients - 1])):
            rows = [",".join(columns)]
            for i in ids:
                name = f"CheXpert-v1.0-small/{split}/patient{i:05}/study1/view1_frontal.jpg"
                stream = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (40, 50)).astype(np.uint8)).save(stream, "JPEG")
                archive.writestr(zipfile.ZipInfo(name), stream.getvalue()[: 400 if i == patients - 2 else None])
                rows.append(f"{name},Female,50,Frontal,AP" + "," * 14)
            archive.writestr(zipfile.ZipInfo(f"CheXpert-v1.0-small/{split}.csv"), "\n".join(rows))


@pytest.fixture
def stage(tmp_path, monkeypatch, capfd):
    """Run a stage with the options both share; returns its exit code and what it printed."""
    monkeypatch.setattr(cohort, "write_chexpert", write_tree)
    monkeypatch.setenv("CXR_STATE", str(tmp_path / "state"))

    def run(command, *options, source="phantom"):
        with pytest.raises(SystemExit) as stopped:
            main(command.run, ["--dataset", "chexpert", "--source", str(source), *map(str, options)])
        return stopped.value.code, "".join(capfd.readouterr())

    return run


def pack_options(tmp_path, *more):
    data = tmp_path / "data"
    return [
        "--records",
        data / "records.parquet",
        "--manifest",
        data / "manifest.json",
        "--out",
        tmp_path / "stores",
        *more,
    ]


def test_from_a_source_to_stores(stage, tmp_path):
    code, said = stage(
        download, "--out", tmp_path / "data", "--chexpert_patients", 50, "--rsna_patients", 30, "--seed", 3
    )
    assert code == 0 and "50 images of 50 patients from a phantom source" in said
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["recipe"] == {"patients": 50, "seed": 3} and manifest["images"] == 50
    assert str(tmp_path) not in (tmp_path / "data" / "manifest.json").read_text()

    options = pack_options(tmp_path, "--size", 32, "--size", 16, "--size", 32, "--max_rejected", 0.02)
    code, said = stage(resize, *options)
    assert code == 0 and "49 images at 16, 32 px" in said and "1 rejected" in said
    assert len(open_store(tmp_path / "stores" / "16")) == len(open_store(tmp_path / "stores" / "32")) == 49
    rejected = pd.read_csv(tmp_path / "stores" / "rejected.csv")
    assert rejected["image_id"].tolist() == ["train/patient00048/study1/view1_frontal"]

    # The same bytes again, also when the phantom's zip has to be made anew, and with another number of processes.
    before = sha256(tmp_path / "stores"), sha256(tmp_path / "data")
    for zipped in (tmp_path / "state" / "downloads").glob("*.zip"):
        zipped.unlink()
    assert stage(resize, *options, "--processes", 2)[0] == 0
    assert stage(download, "--out", tmp_path / "data", "--chexpert_patients", 50, "--seed", 3)[0] == 0
    assert (sha256(tmp_path / "stores"), sha256(tmp_path / "data")) == before


def test_failures_are_one_line_and_leave_what_was_there(stage, tmp_path):
    assert stage(download, "--out", tmp_path / "data", "--chexpert_patients", 50)[0] == 0
    options = pack_options(tmp_path, "--size", 16)
    code, said = stage(resize, *options, "--max_rejected", 0)
    assert code == 1 and "error: 1 of 50 images can't be read" in said and "patient00048" in said
    assert not (tmp_path / "stores").exists()
    assert stage(resize, *options, "--max_rejected", 0.1)[0] == 0
    before = sha256(tmp_path / "stores"), sha256(tmp_path / "data")

    code, said = stage(download, "--out", tmp_path / "data", source=tmp_path / "stores")
    assert code == 1 and "error: no CheXpert here: " in said and said.count("\n") == 1
    code, said = stage(resize, *options, "--size", 4)
    assert code == 1 and "--size" in said and "greater than or equal to 16" in said

    (tmp_path / "other").mkdir()
    with zipfile.ZipFile(next((tmp_path / "state" / "downloads").glob("*.zip"))) as archive:
        archive.extractall(tmp_path / "other")
    table = tmp_path / "other" / "CheXpert-v1.0-small" / "train.csv"
    table.write_text(table.read_text().replace("Female", "Male"))
    code, said = stage(resize, *options, source=tmp_path / "other")
    assert code == 1 and "train.csv in" in said and "run dvc repro -f download@chexpert" in said
    (tmp_path / "data" / "manifest.json").write_text("{")
    code, said = stage(resize, *options)
    assert code == 1 and "manifest.json: no readable JSON; `dvc repro -f download@chexpert`" in said
    assert sha256(tmp_path / "stores") == before[0]


def png(mode: str, colour, save_as: str | None = None) -> bytes:
    stream = io.BytesIO()
    picture = Image.new(mode, (40, 40), colour)
    picture.paste(0, (0, 0, 40, 20))
    picture.convert(save_as or mode).save(stream, "PNG" if mode != "CMYK" else "JPEG")
    return stream.getvalue()


GRAY = ramp(np.uint8, 0, 255)
TAKEN = {
    "rgba": png("RGBA", (99, 99, 99, 128)), "palette": png("L", 200, "P"), "cmyk": png("CMYK", (90, 90, 90, 90)),
    "deep": png("I;16", 999), "signed": dicom(ramp(np.int16, -900, 900), BitsStored=12),
    "inverted": dicom(GRAY, PhotometricInterpretation="MONOCHROME1"), "renamed": png("L", 99),
}  # fmt: skip
REFUSED = {
    "empty": (b"", "empty file (0 bytes)"),
    "blank": (dicom(np.full((32, 32), 9, np.uint8)), "blank: 98 % of the pixels"),
    "beside": (dicom(GRAY, WindowCenter=-900, WindowWidth=9), "its window is 9 wide around -900"),
    "text": (b"no image" * 40, "neither JPEG, PNG, TIFF nor DICOM"),
    "cut": (png("RGB", 5)[:-30], "damaged file"),
    "dot": (dicom(GRAY[:1, :1]), "1 x 1 pixels: too small"),
    "png-bomb": (oversized_png(), "more than 64,000,000 pixels are refused, undecoded"),
    "jpeg-bomb": (oversized_jpeg(), "more than 64,000,000 pixels are refused, undecoded"),
    "dicom-bomb": (dicom(GRAY, Rows=20000, Columns=20000), "20000 x 20000 pixels: more than 64,000,000"),
    "deflated": (inflating(1), "deflated transfer syntax"),
    "no-pixels": (dicom(None), "DICOM without pixels"),
    "frames": (dicom(np.zeros((3, 32, 32), np.uint8), NumberOfFrames=3), "DICOM with 3 frames"),
    "silent-frames": (dicom(np.zeros((3, 32, 32), np.uint8)), "holds has the shape (3, 32, 32)"),
    "syntax": (dicom(GRAY, "1.2.3.4.5"), "(unknown transfer syntax)"),  # free text: not quoted
}


def test_every_kind_of_bad_image_is_a_reject_with_its_reason(stage, tmp_path):
    rows = {"valid": ["valid/patient9/study1/ok.jpg,Male,1,Frontal,PA" + "," * 14]}
    files = {f"train/patient1/study1/{name}.jpg": data for name, data in TAKEN.items()}
    files |= {f"train/patient1/study1/{name}.jpg": data for name, (data, _) in REFUSED.items()}
    rows["train"] = [f"anything/{path},Female,0,Frontal,AP" + "," * 14 for path in files]
    for path, data in (files | {"valid/patient9/study1/ok.jpg": TAKEN["renamed"]}).items():
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_bytes(data)
    for part, lines in rows.items():
        head = ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS))
        (tmp_path / "source" / f"{part}.csv").write_text("\n".join([head, *lines]) + "\n")
    assert stage(download, "--out", tmp_path / "data", source=tmp_path / "source")[0] == 0
    options = pack_options(tmp_path, "--size", 16, "--max_rejected", 1, "--processes", 1)
    code, said = stage(resize, *options, source=tmp_path / "source")
    assert code == 0 and f"{len(TAKEN) + 1} images at 16 px" in said and f"{len(REFUSED)} rejected" in said
    reasons = pd.read_csv(tmp_path / "stores" / "rejected.csv").set_index("image_id")["reason"]
    assert len(reasons) == len(REFUSED)
    for name, (_, reason) in REFUSED.items():
        assert reason in reasons[f"train/patient1/study1/{name}"], name
    kept = open_store(tmp_path / "stores" / "16").index["image_id"]
    assert set(kept) == {f"train/patient1/study1/{name}" for name in TAKEN} | {"valid/patient9/study1/ok"}


def test_a_manifest_of_another_source_is_one_line(stage, tmp_path):
    assert stage(download, "--out", tmp_path / "data", "--chexpert_patients", 20)[0] == 0
    manifest = tmp_path / "data" / "manifest.json"
    made = json.loads(manifest.read_text())
    for change, message in (
        ({"recipe": None}, "'recipe' is missing"),
        ({"tables": {"train.csv": 3}}, "tables.train.csv is 3; it should be a valid string"),
        ({"kind": float("nan")}, "kind is nan; it should be a valid string"),
    ):
        manifest.write_text(json.dumps(made | change))
        code, said = stage(resize, *pack_options(tmp_path, "--size", 16))
        assert code == 1 and message in said and "`dvc repro -f download@chexpert` makes it again" in said
        assert said.count("\n") == 1


def test_records_that_end_in_the_middle_leave_what_was_there(tmp_path):
    """Such as those of a cluster that is lost: no new file stands beside old ones, and no half one."""
    from cxr.data.sources.archive import Zip
    from cxr.data.sources.chexpert import read
    from cxr.data.sources.dataset import Reading

    class Lost(Reading):
        def parts(self):
            yield self.records
            raise ConnectionError

    write_tree(tmp_path / "a.zip", patients=9, seed=0)
    tree, out = Zip(tmp_path / "a.zip"), tmp_path / "out"
    given = {"records": read(tree), "tables": [], "beside": {"readers.parquet": pd.DataFrame({"a": [1]})}}
    download.save(Reading(**given), out, tree, "zip", None, {})
    before = sha256(out)
    given["beside"] = {"readers.parquet": pd.DataFrame({"a": [2]})}
    with pytest.raises(ConnectionError):
        download.save(Lost(**given), out, tree, "zip", None, {})
    assert sha256(out) == before and len(list(out.iterdir())) == 3
