"""Which files of a source are predicted, what is left out and said of it, and the names in the outputs."""

import os
import zipfile

import pytest

from cxr.data.sources.archive import LINKS
from cxr.predict.outputs import alone, check_earlier, check_replaceable, is_written
from cxr.predict.source import open_source, printable, read_list

PNG = b"\x89PNG\r\n\x1a\n"


def fill(root, *names, data=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def left(source):
    return {one.what: one.count for one in source.left_out}


def test_other_files_are_left_out_and_each_path_is_listed_once(tmp_path):
    fill(tmp_path, "b/IM0001", "a.dcm", "notes.txt", "DICOMDIR", "b/c/table.csv", "1.2.840.5", "z.csv.gz", ".hidden")
    source = open_source(str(tmp_path))
    assert source.names == ["1.2.840.5", "a.dcm", "b/IM0001"]
    assert left(source) == {"files of other kinds": 5} and source.missed == 0
    assert open_source("-", b"x.png\n\ny.png \r\nx.png").names == ["x.png", "y.png"]
    assert open_source(str(tmp_path / "a.dcm")).names == [str(tmp_path / "a.dcm")]


def test_a_viewer_beside_the_images_is_left_out_and_an_image_of_any_suffix_is_not(tmp_path):
    fill(tmp_path, "viewer/start.exe", "viewer/lib.dll", data=b"MZ\x90\0")
    fill(tmp_path, "autorun.inf", "empty.xyz", data=b"")
    fill(tmp_path, "a.scan", data=PNG)
    fill(tmp_path, "b.scan", data=bytes(128) + b"DICM")
    fill(tmp_path, "c.picture", data=b"BM1234\0\0\0\0")
    fill(tmp_path, "torn.dcm", "IM0001", data=b"no image")
    with zipfile.ZipFile(tmp_path.with_suffix(".zip"), "w") as archive:
        for path in sorted(tmp_path.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    expected = ["a.scan", "b.scan", "c.picture", "torn.dcm"]
    source = open_source(str(tmp_path))
    assert source.names == ["IM0001", *expected] and left(source) == {"files of other kinds": 4}
    assert open_source(str(tmp_path.with_suffix(".zip"))).names == expected


def test_what_may_hold_images_and_is_left_out_is_told(tmp_path, monkeypatch):
    root, outside = fill(tmp_path / "in", "a.png"), fill(tmp_path / "out", "b.png", "c.csv")
    fill(root, "more.zip", "packed.dcm.gz", "all.tar.gz")
    (root / "closed").mkdir()
    for name, target in {"b.png": outside / "b.png", "c.csv": outside / "c.csv", "folder": outside}.items():
        (root / name).symlink_to(target)
    (root / "gone.png").symlink_to("nowhere.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may list everything
    source = open_source(str(root))
    assert source.names == ["a.png"] and source.missed == 7
    assert left(source) == {
        "archives": 3, "files of other kinds": 1, "links that lead out of the source": 2,
        "links that can't be followed": 1, "folders that can't be listed": 1,
    }  # fmt: skip
    said = "\n".join(one.said(True) for one in source.left_out)
    assert f"b.png -> {outside}/b.png, folder -> {outside})" in said and LINKS in said
    assert "archives: 3 (all.tar.gz, more.zip, packed.dcm.gz); unpack them" in said
    assert "folders that can't be listed: 1 (closed/); Permission denied" in said
    assert "png" not in "".join(one.said(False) for one in source.left_out)
    (root / "a.png").unlink()
    with pytest.raises(ValueError, match=rf"no image file in it; it holds archives.*unpack.*{LINKS}"):
        open_source(str(root))


def test_what_predict_wrote_is_no_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "a.png", "dicom/own.dcm")
    written = (
        "predictions.csv predictions.html findings.csv .predictions.part .predictions.lock dicom/image-000001.dcm "
        "dicom/study-000001.dcm fhir/study-000001.json .dicom-12-0a1b2c3d/image-000001.dcm"
    ).split()
    fill(tmp_path / "out", *written)
    fill(tmp_path, "dicom/image-000001.dcm")
    for out in (tmp_path / "out", tmp_path / "in/../out"):
        (tmp_path / "in").mkdir(exist_ok=True)
        source = open_source(str(tmp_path), out=out)
        assert source.names == ["a.png", "dicom/image-000001.dcm", "dicom/own.dcm"] and source.missed == 0
    inside = open_source(str(tmp_path), out=tmp_path)
    assert "dicom/own.dcm" in inside.names and "dicom/image-000001.dcm" not in inside.names
    lines = b"a.png\nout/dicom/image-000001.dcm\n" + os.fsencode(tmp_path / "out/dicom/study-000001.dcm")
    assert open_source("-", lines, tmp_path / "out").names == ["a.png"]
    assert open_source("-", b"a.png", tmp_path).names == ["a.png"]
    assert not is_written("images/predictions.csv") and not is_written("dicom/mine.dcm")


def test_a_folder_of_an_earlier_run_is_refused_unless_it_is_asked_for(tmp_path):
    fill(tmp_path, "dicom/image-000001.dcm", "fhir/notes.json")
    with pytest.raises(ValueError, match="dicom: is of an earlier run with --dicom.*delete it, give another --out, or"):
        check_earlier(tmp_path, dicom=False, fhir=True)
    check_earlier(tmp_path, dicom=True, fhir=False)
    check_earlier(tmp_path / "new", dicom=False, fhir=False)


def test_two_runs_into_one_folder_are_refused(tmp_path):
    with alone(tmp_path / "out"):
        with pytest.raises(ValueError, match="another run of predict writes into it"), alone(tmp_path / "out"):
            pass
    assert not (tmp_path / "out").exists()
    with alone(tmp_path / "out"):
        (tmp_path / "out/predictions.csv").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.csv"]


def test_names_that_are_no_text_become_printable_and_stay_unique():
    names = ["a.png", os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png", "two\nlines", "bell\x07", "\u0142\u00f3d\u017a.png"]
    given = printable(names)
    assert given == ["a.png", "caf\\\\xe9.png", "caf\\xe9.png", "two\\nlines", "bell\\x07", names[-1]]
    assert len(set(given)) == len(names)
    "".join(given).encode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_is_read_as_windows_writes_it(encoding):
    assert [line for line in read_list("\u0142.png\r\nb c.png\r\n".encode(encoding), "x") if line] == [
        "\u0142.png",
        "b c.png",
    ]


def test_a_list_of_other_bytes_names_files_in_these_bytes_or_is_refused_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_bytes(b"a.png\ncaf\xe9.png\n")
    with pytest.raises(ValueError, match="list.txt: line 2 is not UTF-8.*: save the list as UTF-8"):
        open_source("list.txt")
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)
    assert open_source("list.txt").names == ["a.png", os.fsdecode(b"caf\xe9.png")]
    for data in ("a.png\n".encode("utf-16-le"), b"\xff\xfea\0\xd8"):
        with pytest.raises(ValueError, match="list.txt: is .*save the list as UTF-8"):
            read_list(data, "list.txt")


def test_what_predict_did_not_write_is_not_replaced(tmp_path):
    out, files = tmp_path / "fhir", [tmp_path / "in/a.png"]
    check_replaceable(out, files)
    out.write_text("")
    with pytest.raises(ValueError, match="is no folder"):
        check_replaceable(out, files)
    out.unlink()
    out.mkdir()
    (out / "study-000001.json").write_text("")
    check_replaceable(out, files)
    for inside in (out / "study-000001.json", out / "a/b.png"):
        with pytest.raises(ValueError, match="holds files of the source"):
            check_replaceable(out, [inside])
    (out / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"holds notes.txt, which predict did not write: give another --out"):
        check_replaceable(out, files)
