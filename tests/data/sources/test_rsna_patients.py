"""RSNA's mapping of images to patients: where it is read from, what it says, and how a wrong one is refused."""

import hashlib
import json
import zipfile

import pandas as pd
import pytest

from cxr.cohort import splits
from cxr.data.sources import rsna, rsna_patients
from cxr.data.sources.address import read_patients
from cxr.data.sources.archive import Folder, Zip
from cxr.data.sources.rsna_patients import MAPPING
from stages import download, split
from stages.cli import main
from tests.data.sources.test_address import server
from tests.data.sources.test_rsna import write

__all__ = ["server"]  # a fixture
WHOSE = {"a": "00000013_005.png", "b": "00000013_000.png", "c": "00000014_000.png"}


def mapping(**whose) -> bytes:
    return json.dumps([{"subset_img_id": k, "img_id": v, "dicom": 1} for k, v in (whose or WHOSE).items()]).encode()


def test_what_stands_before_the_last_underscore_is_the_patient():
    patients = rsna_patients.parse(mapping(a="00000013_005.png", b="ward-3_17_001.png", c=" 7_0 "), "m.json")
    assert patients.of(["c", "a", "b"], "t.csv") == ["7", "00000013", "ward-3_17"]
    marked = b"\xef\xbb\xbf" + mapping()  # as an editor on Windows saves it
    assert rsna_patients.parse(marked, "m.json").of_image == {"a": "00000013", "b": "00000013", "c": "00000014"}
    twice = json.loads(mapping()) * 2
    assert rsna_patients.parse(json.dumps(twice).encode(), "m.json").of_image == dict(
        a="00000013", b="00000013", c="00000014"
    )


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", r"m\.json is no readable JSON \(Expecting value.*\): download pneumonia-"),
        (b"<html>no such page</html>", r"m\.json is no readable JSON"),
        (b"[" * 100_000, r"m\.json is no readable JSON"),
        (b"\xff\xfe\x00", r"m\.json is no readable JSON"),
        (b"{}", r"m\.json is no list of objects with subset_img_id and img_id"),
        (b"[]", r"m\.json is no list of objects"),
        (b'["a"]', r"m\.json is no list of objects"),
        (b'[{"img_id": "1_0.png"}]', r"m\.json entry 1: subset_img_id is 'missing', must be a text"),
        (b'[{"subset_img_id": "a", "img_id": 13}]', r"m\.json entry 1: img_id is 13, must be a text"),
        (mapping(a="1_0.png", b="00000013.png"), r"m\.json entry 2: img_id is '00000013\.png', must be <patient>_<num"),
        (mapping(a="../1_0.png"), r"m\.json entry 1: img_id is '\.\./1_0\.png', must be"),
        (
            b'[{"subset_img_id": "a", "img_id": "1_0.png"}, {"subset_img_id": "a", "img_id": "2_0.png"}]',
            r"m\.json entry 2: subset_img_id a is of patient 2, of 1 in an earlier entry: keep one",
        ),
    ],
)
def test_a_wrong_mapping_is_named_with_its_place(data, message):
    with pytest.raises(ValueError, match=message):
        rsna_patients.parse(data, "m.json")


def test_an_image_that_the_mapping_lacks_is_named(tmp_path):
    patients = rsna_patients.parse(mapping(a="1_0.png"), "m.json")
    message = (
        r"m\.json lacks 2 of the 3 patientIds in stage_2_train_labels\.csv \(b, c\): give the mapping .*data\.rsna"
    )
    with pytest.raises(ValueError, match=message):
        rsna.read(write(tmp_path), patients)
    with pytest.raises(ValueError, match=message):
        rsna.read_labels(write(tmp_path), *rsna.TABLES, patients)


def test_records_have_the_mappings_patients(tmp_path):
    table = rsna.read(write(tmp_path), rsna_patients.parse(mapping(), "m.json"))
    assert table["image_id"].tolist() == table["study_id"].tolist() == ["b", "a", "c"]
    assert table["patient_id"].tolist() == ["00000013", "00000013", "00000014"]


@pytest.mark.parametrize("place, read", [("one/two/", True), ("one/", True), ("", True), ("other/", False)])
def test_the_mapping_lies_beside_the_tables_or_above_them(tmp_path, place, read):
    write(tmp_path / "one" / "two")
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / MAPPING).write_bytes(mapping())
    assert rsna_patients.beside(Folder(tmp_path), "one/two/" + rsna.LABELS) == (place + MAPPING if read else None)


def test_the_nearest_mapping_counts(tmp_path):
    write(tmp_path / "one")
    for place in (tmp_path, tmp_path / "one"):
        (place / MAPPING).write_bytes(mapping())
    assert rsna_patients.beside(Folder(tmp_path), "one/" + rsna.LABELS) == "one/" + MAPPING


def test_the_parameter_takes_a_file_a_folder_a_zip_and_an_address(tmp_path, server):
    digest = hashlib.sha256(mapping()).hexdigest()
    (tmp_path / "deep").mkdir()
    for name in ("any name.json", f"deep/{MAPPING}"):
        (tmp_path / name).write_bytes(mapping())
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "deep" / MAPPING, MAPPING)
    address = f"http://127.0.0.1:{server.server_port}"
    sources = [tmp_path / "any name.json", tmp_path / "deep", tmp_path / "x.zip", f"{address}/deep/{MAPPING}"]
    for source in [*sources, f"{address}/x.zip", f"{address}/deep/{MAPPING}#sha256={digest}"]:
        patients, read = read_patients(str(source), tmp_path / "downloads")
        assert patients.of(["c"], "t") == ["00000014"] and read == digest
    server.shutdown()
    assert read_patients(f"{address}/deep/{MAPPING}", tmp_path / "downloads")[1] == digest  # kept


def test_a_wrong_place_is_one_clear_line(tmp_path, server):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "page.html").write_text("<html>")
    for source, message in (
        ("nowhere", "'nowhere': no such file or folder; give a file, a folder or .zip that holds it"),
        ("ftp://h/x.json", "ftp:// is not known; give a file"),
        (str(tmp_path / "x"), "holds no pneumonia-challenge-dataset-mappings_2018.json: give the place of that file"),
        (f"http://127.0.0.1:{server.server_port}/x/page.html", "page.html.* is no readable JSON"),
        (f"http://127.0.0.1:{server.server_port}/gone.json", "the server answers 404 .*; check the address"),
    ):
        with pytest.raises(ValueError, match=message):
            read_patients(source, tmp_path / "downloads")
    assert not list((tmp_path / "downloads").glob("*.bin"))  # a wrong page is not kept
    for place in ("1", "2"):
        (tmp_path / "x" / place).mkdir()
        (tmp_path / "x" / place / MAPPING).write_bytes(mapping())
    with pytest.raises(ValueError, match=r"holds several folders with .* \(1/, 2/\): give the place of that file"):
        read_patients(str(tmp_path / "x"), tmp_path / "downloads")


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run download and split on a source; the folder of the records, exit codes and output."""
    monkeypatch.setenv("CXR_STATE", str(tmp_path / "state"))

    def stage(command, *options):
        with pytest.raises(SystemExit) as stopped:
            main(command.run, ["--dataset", "rsna", *map(str, options)])
        return stopped.value.code, "".join(capfd.readouterr())

    return stage


def cut(run, out, *options) -> tuple[int, str]:
    """The split stage on the records below `out`."""
    (out / "rejected.csv").write_text("image_id,path,reason\n")
    given = ("--records", out / "records.parquet", "--manifest", out / "manifest.json", "--stores", out)
    return run(split, *given, "--out", out / "split", *options)


def test_stages_with_the_mapping_beside_the_tables_by_parameter_and_without(run, tmp_path):
    tree = write(tmp_path / "source")
    beside, given, none = (tmp_path / name for name in ("beside", "given", "none"))
    code, printed = run(download, "--source", tree.root, "--patients", "", "--out", none)
    assert code == 0 and "3 images from a folder source" in printed and "of 3 patients" not in printed
    assert "patientId names an image" in printed and "data.rsna_patients" in printed
    (tmp_path / "m.json").write_bytes(mapping())
    code, printed = run(download, "--source", tree.root, "--patients", tmp_path / "m.json", "--out", given)
    assert code == 0 and "3 images of 2 patients" in printed and "names an image" not in printed
    (tree.root / MAPPING).write_bytes(mapping())
    assert run(download, "--source", tree.root, "--out", beside)[0] == 0
    manifests = {out.name: json.loads((out / "manifest.json").read_text()) for out in (beside, given, none)}
    assert [manifests[name]["patient_key"] for name in ("beside", "given", "none")] == ["patient", "patient", "image"]
    digest = hashlib.sha256(mapping()).hexdigest()
    assert manifests["beside"]["tables"][MAPPING] == manifests["given"]["mapping"] == digest
    tables = [pd.read_parquet(out / "records.parquet") for out in (beside, given)]
    pd.testing.assert_frame_equal(*tables)

    code, printed = cut(run, none, "--valid_share", 0.3)
    assert (
        code == 1 and printed.count("\n") == 1 and "give RSNA's mapping" in printed and "split.rsna = image" in printed
    )
    code, printed = cut(run, none, "--valid_share", 0.3, "--rsna", "image")
    assert code == 0 and "train: 2 images\n" in printed and "one patient may stand in training and in" in printed
    code, printed = cut(run, beside, "--valid_share", 0.3, "--rsna", "image", "--seed", 1)
    assert code == 0 and "images of 2 patients" in printed and "rsna by image: 1 patient(s) in training and" in printed
    code, printed = cut(run, beside, "--valid_share", 0.3)
    assert code == 0 and "in training and" not in printed


def test_the_phantoms_mapping_is_used_from_its_zip(run, tmp_path):
    code, printed = run(download, "--source", "phantom", "--rsna_patients", 20, "--out", tmp_path / "data")
    assert code == 0 and "of 20 patients from a phantom source" in printed
    (archive,) = (tmp_path / "state" / "downloads").glob("*.zip")
    assert MAPPING in Zip(archive).names()


def test_real_files(shared_data):
    """209 images are of 166 patients; no patient is on two sides with the mapping, and several are without it."""
    tree = Folder(shared_data / "rsna")
    labels, classes = rsna.tables(tree)
    name = rsna_patients.beside(tree, labels)
    patients = rsna_patients.parse(tree.read(name), name)
    known, unknown = (rsna.read_labels(tree, labels, classes, whose) for whose in (patients, None))
    assert len(known) == 209 and known["patient_id"].nunique() == 166 and unknown["patient_id"].nunique() == 209
    options = {"valid_share": 0.25, "seed": 0}
    by_patient = splits.rsna(known, by="patient", patient_key="patient", **options)
    assert splits.shared_patients(by_patient) == 0
    by_image = splits.rsna(unknown, by="image", patient_key="image", **options)
    assert splits.shared_patients(by_image.assign(patient_id=patients.of(by_image["image_id"], name))) > 10
