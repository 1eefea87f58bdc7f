"""Folders and zips as trees: the same files either way, and nothing from outside."""

import hashlib
import os
import pickle
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from cxr.data.sources import archive as module
from cxr.data.sources.archive import Folder, Zip

FILES = {"a/train.csv": b"one", "a/valid.csv": b"two", "a/train/p/x.jpg": b"three" * 100, "b/c/d/train.csv": b"deep"}


def folder(root, files=FILES):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def archive(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("a")
        for name, data in files.items():
            file.writestr(name, data)
    return path


@pytest.fixture(params=["folder", "zip"])
def tree(request, tmp_path):
    return Folder(folder(tmp_path / "root")) if request.param == "folder" else Zip(archive(tmp_path / "root.zip"))


def test_both_kinds_read_alike(tree):
    assert tree.names() == set(FILES)
    for name, data in FILES.items():
        assert tree.read(name) == data and tree.size(name) == len(data)
        with tree.open(name) as stream:
            assert stream.read(2) == data[:2]
    assert tree.folder_of("train.csv", "valid.csv") == ["a/"]
    assert tree.folder_of("train.csv") == ["a/"], "b/c/d is three levels down: a nearer one counts"
    with pytest.raises(ValueError, match="a/lost"):
        tree.read("a/lost")


def test_trees_travel_to_other_processes(tree):
    tree.read("a/train.csv")
    assert pickle.loads(pickle.dumps(tree)).read("a/valid.csv") == b"two"
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(tree.read, "a/train.csv").result() == b"one"


def test_a_forked_process_does_not_move_the_parents_read_position(tmp_path):
    tree = Zip(archive(tmp_path / "root.zip"))
    tree.read("a/train.csv")
    parents = tree.archive
    if (child := os.fork()) == 0:
        os._exit(0 if tree.archive is not parents and tree.read("a/train.csv") == b"one" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tree.archive is parents


def test_what_macos_adds_is_ignored(tmp_path):
    extra = {"__MACOSX/a/._train.csv": b"", "a/._train.csv": b"", "a/.DS_Store": b""}
    assert Zip(archive(tmp_path / "z.zip", FILES | extra)).names() == set(FILES)
    assert Folder(folder(tmp_path / "f", FILES | extra)).names() == set(FILES)


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "a\\..\\..\\evil.jpg", "C:\\evil.jpg"]
)
def test_a_zip_member_that_points_outside_is_refused(tmp_path, name):
    tree = Zip(archive(tmp_path / "z.zip", FILES | {name: b"x"}))
    with pytest.raises(ValueError, match=r"z\.zip: the member .*evil\.jpg' points outside the archive"):
        tree.names()
    with pytest.raises(ValueError, match="points outside"):
        tree.read("a/train.csv")


def test_a_link_inside_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("a/link.jpg")
    link.external_attr = 0o120777 << 16
    tree = Zip(archive(tmp_path / "z.zip", FILES | {link: b"/etc/passwd"}))
    with pytest.raises(ValueError, match=r"a/link\.jpg is a symbolic link"):
        tree.read("a/link.jpg")


@pytest.fixture
def linked(tmp_path):
    """A root with links to a file and to a folder outside, a broken one and two in a circle."""
    root = folder(tmp_path / "root")
    folder(tmp_path / "outside", {"secret.jpg": b"x", "deep/one.jpg": b"y"})
    (root / "a" / "file").symlink_to(tmp_path / "outside" / "secret.jpg")
    (root / "a" / "folder").symlink_to("../../outside")
    (root / "a" / "notes").symlink_to("/nowhere/x")
    (root / "a" / "self").symlink_to("self")
    (root / "a" / "up").symlink_to("..")
    return root


def test_links_out_of_a_folder_and_broken_ones_are_left_out_and_refused(linked):
    tree = Folder(linked)
    assert tree.names() == set(FILES)
    assert {"a/file", "a/folder", "a/notes", "a/self"} == set(tree.left_out())
    for name in ("a/file", "a/folder/secret.jpg", "../outside/secret.jpg"):
        with pytest.raises(ValueError, match=r"leads out of the folder, to .*outside/secret\.jpg: name .* CXR_LINKS"):
            tree.read(name)


def test_links_into_named_folders_are_followed_and_no_others(linked, tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    monkeypatch.setenv("CXR_LINKS", f"{tmp_path}/root{os.pathsep}{outside}")
    tree = Folder(linked)
    assert tree.names() == set(FILES) | {"a/file", "a/folder/secret.jpg", "a/folder/deep/one.jpg"}
    assert tree.read("a/file") == b"x" and tree.read("a/folder/deep/one.jpg") == b"y"
    assert set(tree.left_out()) == {"a/notes", "a/self"}
    monkeypatch.delenv("CXR_LINKS")
    assert pickle.loads(pickle.dumps(tree)).read("a/file") == b"x"
    assert Folder(linked, links=[outside / "deep"]).names() == set(FILES)
    with pytest.raises(ValueError, match="leads out of the folder"):
        Folder(linked, links=[tmp_path / "out"]).read("a/file")  # outside is no part of out
    monkeypatch.setenv("CXR_LINKS", "/nowhere")
    with pytest.raises(ValueError, match=r"CXR_LINKS: '/nowhere' is no folder"):
        Folder(linked)


def test_two_links_to_one_folder_and_links_in_a_circle_end(tmp_path):
    root, outside = folder(tmp_path / "root"), folder(tmp_path / "outside", {"x.jpg": b"x"})
    for name in ("one", "two"):
        (root / name).symlink_to(outside)
    (outside / "back").symlink_to(root)
    (outside / "here").symlink_to(".")
    assert Folder(root, links=[outside]).names() == set(FILES) | {"one/x.jpg"}


def test_a_folder_or_file_that_may_not_be_read_is_left_to_those_who_want_it(tmp_path, monkeypatch):
    root = folder(tmp_path / "root", FILES | {"lost+found/x": b""})
    list_folder, open_file = os.scandir, open

    def scandir(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", path)
        return list_folder(path)

    def refuse(path, mode):
        if str(path).endswith("x.jpg"):
            raise PermissionError(13, "Permission denied", path)
        return open_file(path, mode)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(module, "open", refuse, raising=False)
    tree = Folder(root)
    assert tree.names() == set(FILES)
    assert tree.left_out() == {"lost+found/": f"{root}/lost+found can't be listed: Permission denied"}
    with pytest.raises(ValueError, match=r"^a/train/p/x\.jpg can't be read: Permission denied"):
        tree.read("a/train/p/x.jpg")
    monkeypatch.setattr(os, "scandir", lambda path: scandir("lost+found"))
    with pytest.raises(ValueError, match="root can't be listed: Permission denied"):
        Folder(root).names()


def test_tables_far_below_are_taken_where_none_are_near(tmp_path):
    files = {"b/c/d/train.csv": b"far", "b/c/d/e/f/train.csv": b"too far"}
    assert Folder(folder(tmp_path / "far", files)).folder_of("train.csv") == ["b/c/d/"]
    assert Folder(folder(tmp_path / "near", FILES | files)).folder_of("train.csv") == ["a/"]


def test_a_zip_that_windows_wrote_with_backslashes(tmp_path):
    path = archive(tmp_path / "z.zip", {name.replace("/", "\\"): data for name, data in FILES.items()})
    tree = Zip(path)
    assert tree.names() == set(FILES) and tree.read("a/train/p/x.jpg") == FILES["a/train/p/x.jpg"]


def test_links_inside_a_folder_and_to_it_are_followed(tmp_path):
    root = folder(tmp_path / "root")
    (root / "a" / "same.csv").symlink_to(root / "a" / "train.csv")
    (tmp_path / "link").symlink_to(root)
    tree = Folder(tmp_path / "link")
    assert tree.names() == set(FILES) | {"a/same.csv"} and tree.read("a/same.csv") == b"one"


def test_damaged_and_oversized_files_are_named(tmp_path, monkeypatch):
    path = archive(tmp_path / "z.zip")
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    with pytest.raises(ValueError, match=r"z\.zip is no whole \.zip .*: download it again"):
        Zip(path).names()
    at = data.index(b"a/train/p/x.jpg") + len("a/train/p/x.jpg")
    path.write_bytes(data[:at] + bytes(4) + data[at + 4 :])
    with pytest.raises(ValueError, match=r"a/train/p/x\.jpg can't be read"):
        Zip(path).read("a/train/p/x.jpg")
    monkeypatch.setattr(module, "MAX_FILE", 100)
    for tree in (Zip(archive(tmp_path / "y.zip")), Folder(folder(tmp_path / "root"))):
        with pytest.raises(ValueError, match=r"a/train/p/x\.jpg has 500 bytes: more than 100 are refused"):
            tree.read("a/train/p/x.jpg")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_every_packing_is_one_error(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", method) as file:
        file.writestr("x.jpg", os.urandom(400))
    data = (tmp_path / "z.zip").read_bytes()
    (tmp_path / "z.zip").write_bytes(data[:60] + b"\xff" * 300 + data[360:])
    with pytest.raises(ValueError, match=r"x\.jpg can't be read"):
        Zip(tmp_path / "z.zip").read("x.jpg")


def test_a_link_to_a_file_that_has_gone_is_left_out_with_its_reason(tmp_path):
    root = folder(tmp_path / "root")
    (root / "a/gone.jpg").symlink_to("was_here.jpg")
    tree = Folder(root)
    assert tree.names() == set(FILES) and tree.left_out() == {
        "a/gone.jpg": f"{root / 'a/gone.jpg'} can't be opened: it leads to no file"
    }


def test_a_file_in_parts_and_its_checksum(tmp_path):
    (tmp_path / "a.csv").write_bytes(bytes(range(256)) * 10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.csv", "a.csv")
    for tree in (Folder(tmp_path), Zip(tmp_path / "a.zip")):
        data = tree.read("a.csv")
        assert list(map(len, tree.blocks("a.csv", 1000))) == [1000, 1000, 560]
        assert b"".join(tree.blocks("a.csv", 7)) == data
        assert tree.part("a.csv", 300, 50) == data[300:350] and tree.part("a.csv", 2550, 99) == data[2550:]
        assert tree.sha256("a.csv") == hashlib.sha256(data).hexdigest()
        with pytest.raises(ValueError, match="nowhere"):
            tree.sha256("nowhere.csv")


def test_a_process_in_another_folder_opens_the_same_source(tmp_path, monkeypatch):
    """Such as an executor of Spark's."""
    archive(tmp_path / "a.zip")
    folder(tmp_path / "a")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    sent = [pickle.dumps(tree) for tree in (Folder("a"), Zip("a.zip"))]
    monkeypatch.chdir(tmp_path / "elsewhere")
    for tree in map(pickle.loads, sent):
        assert tree.read("a/train.csv") == b"one" and tree.names() == set(FILES)
    tree = pickle.loads(sent[1])
    (tmp_path / "a.zip").unlink()
    with pytest.raises(ValueError, match=r"a\.zip: no such file$"):
        tree.names()


def test_no_listing_goes_to_another_process(tmp_path):
    """It may be of a million names."""
    (tmp_path / "a.csv").write_bytes(b"a")
    tree = Folder(tmp_path)
    assert tree.names() == {"a.csv"}
    assert b"a.csv" not in pickle.dumps(tree) and pickle.loads(pickle.dumps(tree)).names() == {"a.csv"}
