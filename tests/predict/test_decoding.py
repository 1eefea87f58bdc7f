"""Files that can't be read: which words say so, which errors may pass, and when a run stops."""

import errno
import shutil
import zipfile

import pytest

from cxr.data.sources.archive import Folder, Zip
from cxr.predict import decoding
from cxr.predict.source import Files
from tests.data.pictures import dicom, smooth

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(decoding, "WAITS", (0.0, 0.0))


def files(tree, names, done=()):
    return [file for chunk in decoding.decoded(tree, names, frozenset(done), [32], 1) for file in chunk]


def images(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(dicom(smooth(56, 48)))
    return root


class Failing(Folder):
    """A folder whose disk fails: errors holds, by file, those that its next readings meet."""

    def __init__(self, root, **errors):
        super().__init__(root)
        self.errors = errors

    def open(self, name):
        if self.errors.get(name[0]):
            error = OSError(self.errors[name[0]].pop(0), "of the disk", str(self.root / name))
            raise ValueError(f"{name} can't be read: {error.strerror}") from error
        return super().open(name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("done", [(), (0,)])
def test_a_damaged_member_of_a_zip_is_a_row_at_first_and_when_the_run_continues(tmp_path, method, done):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", method) as archive:
        archive.writestr("x.dcm", dicom(smooth(56, 48)))
    data = (tmp_path / "z.zip").read_bytes()
    (tmp_path / "z.zip").write_bytes(data[:60] + b"\xff" * 700 + data[760:])
    (file,) = files(Zip(tmp_path / "z.zip"), ["x.dcm"], done)
    assert (file.reason or "").startswith("unreadable: damaged inside the .zip") or done
    assert file.passing is None


def test_an_error_that_passes_is_not_seen_and_one_that_stays_is_a_row(tmp_path):
    names = ["a.dcm", "b.dcm", "c.dcm"]
    tree = Failing(images(tmp_path, *names), a=[errno.EIO, errno.ESTALE], b=[errno.EIO] * 3, c=[errno.EACCES])
    a, b, c = files(tree, names)
    assert a.reason is None and len(a.images) == 1
    assert (b.reason, b.passing) == ("unreadable: can't be read: Input/output error", "Input/output error")
    assert (c.reason, c.passing) == ("unreadable: can't be read: Permission denied", None)


def test_a_disk_that_stays_away_stops_the_run_in_one_line(tmp_path):
    names = ["a.dcm", "b.dcm", "c.dcm"]
    tree = Failing(images(tmp_path / "in", *names), b=[errno.EIO] * 9, c=[errno.EIO] * 9)
    with pytest.raises(
        ValueError, match=r"can't be read now \(Input/output error\): run the same command again"
    ) as said:
        files(tree, names)
    assert "dcm" not in str(said.value)
    tree = Folder(tmp_path / "in")
    assert len(tree.names()) == 3
    shutil.rmtree(tmp_path / "in")
    for _ in range(2):  # the source is away, then the empty place where its disk was mounted
        with pytest.raises(ValueError, match=r"can't be read now \(No such file or directory\)"):
            files(tree, names)
        (tmp_path / "in").mkdir(exist_ok=True)


def test_a_listed_file_that_is_not_there_is_a_row_also_when_the_run_continues(tmp_path):
    names = [str(tmp_path / name) for name in ("a.dcm", "b.dcm", "c.dcm")]
    images(tmp_path, "a.dcm")
    for done in ((), (0, 1, 2)):
        a, b, c = files(Files(names), names, done)
        assert a.reason is None and a.header.study is None
        assert b.passing is c.passing is None and (done or b.reason == c.reason == "unreadable: no such file")


@pytest.mark.parametrize("name", ["1", "I", "e", "file (0 bytes)"])
def test_a_message_is_whole_whatever_the_file_is_called(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    (file,) = files(Folder(tmp_path), [name])
    assert file.reason == "unreadable: empty file (0 bytes)"


def test_no_word_of_a_zips_own_listing_is_in_a_message(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.dcm", b"x" * 100)
        archive.writestr("b.dcm", b"x" * 100)
    data = (tmp_path / "z.zip").read_bytes().replace(b"a.dcm", b"DOE.J", 1)  # in the member's own header alone
    at = data.rindex(b"PK\x01\x02")
    data = data[: at + 8] + b"\x01" + data[at + 9 :]  # the second is encrypted, as the listing says
    (tmp_path / "z.zip").write_bytes(data)
    a, b = files(Zip(tmp_path / "z.zip"), ["a.dcm", "b.dcm"])
    assert a.reason == "unreadable: damaged inside the .zip"
    assert b.reason == "unreadable: encrypted, or packed by a method that is not read"


def test_studies_that_are_known_come_first(tmp_path):
    names = [f"{k:02}.dcm" for k in range(40)]
    images(tmp_path, *names)
    numbers = [file.number for file in files(Folder(tmp_path), names, set(range(40)) - {3, 20})]
    assert numbers == [k for k in range(40) if k not in (3, 20)] + [3, 20]


def test_the_folder_of_a_study_counts_also_where_it_is_the_source(tmp_path):
    images(tmp_path / "patient1/study1", "a.dcm", "b.dcm")
    images(tmp_path / "study_2024", "a.dcm", "b.dcm")
    a, b = files(Folder(tmp_path / "patient1/study1"), ["a.dcm", "b.dcm"])
    assert a.header.study == b.header.study is not None
    assert all(file.header.study is None for file in files(Folder(tmp_path), ["study_2024/a.dcm", "study_2024/b.dcm"]))
