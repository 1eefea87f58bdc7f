"""Sources and manifests: each kind of source becomes a tree, and a wrong one is one clear line."""

import functools
import hashlib
import sys
import threading
import types
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cxr.data.formats import Manifest, Recipe
from cxr.data.phantom import cohort
from cxr.data.sources import address as fetch
from cxr.data.sources.address import check_unchanged, describe, open_source
from cxr.data.sources.archive import Folder, Zip


@pytest.fixture
def data(tmp_path):
    """A folder with a label table and an image, and the same as a zip."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text("Path\n")
    (folder / "x.jpg").write_bytes(b"12345")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for name in ("train.csv", "x.jpg"):
            archive.write(folder / name, name)
    return folder


@pytest.fixture
def server(tmp_path):
    handler = functools.partial(
        type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=tmp_path
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_folders_and_zips_also_relative_ones(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, kind, form in (("data", "folder", Folder), (str(data), "folder", Folder), ("data.zip", "zip", Zip)):
        tree, opened_kind = open_source(source, "chexpert", tmp_path / "downloads")
        assert (type(tree), opened_kind) == (form, kind) and tree.read("x.jpg") == b"12345"
    assert not (tmp_path / "downloads").exists()


@pytest.mark.parametrize(
    "source, message",
    [
        ("nowhere", "source 'nowhere': no such folder or file; a source is phantom, a folder, a .zip"),
        ("ftp://host/x.zip", "ftp:// is not known; a source is phantom"),
        ("http://127.0.0.1:9/x.zip#md5=1", "after # comes sha256="),
        ("http://127.0.0.1:9/x.zip", "can't connect to 127.0.0.1:9"),
    ],
)
def test_a_wrong_source_is_one_clear_line(tmp_path, source, message):
    with pytest.raises(ValueError, match=message):
        open_source(source, "rsna", tmp_path)


def test_a_downloaded_zip_is_used_again_without_its_server(data, server, tmp_path):
    address = f"http://127.0.0.1:{server.server_port}/data.zip"
    tree, kind = open_source(address, "chexpert", tmp_path / "downloads")
    assert kind == "http" and tree.read("x.jpg") == b"12345" and tree.root.parent == tmp_path / "downloads"
    server.shutdown()
    assert open_source(address, "chexpert", tmp_path / "downloads")[0].root == tree.root


def test_a_page_instead_of_an_archive_is_refused(data, server, tmp_path):
    with pytest.raises(ValueError, match=r"train\.csv is no \.zip: give the archive's own address"):
        open_source(f"http://127.0.0.1:{server.server_port}/data/train.csv", "chexpert", tmp_path / "downloads")
    assert not list((tmp_path / "downloads").glob("*.zip"))


def test_kaggle(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ValueError, match=r"needs kagglehub: pip install 'cxr\[kaggle\]'"):
        open_source("kaggle:a/b", "chexpert", tmp_path)

    def refuse(handle):
        raise RuntimeError("403 Client Error")

    fake = types.SimpleNamespace(dataset_download=lambda handle: str(data), competition_download=refuse)
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    tree, kind = open_source("kaggle:owner/name", "chexpert", tmp_path)
    assert kind == "kaggle" and tree.read("x.jpg") == b"12345"
    with pytest.raises(ValueError, match="kaggle:rsna: RuntimeError: 403 Client Error; accept the dataset's terms"):
        open_source("kaggle:rsna", "rsna", tmp_path)


def test_the_phantom_is_made_once_per_recipe_and_code(tmp_path, monkeypatch):
    made = []

    def write(path, *, patients, seed, processes=None):
        made.append((patients, seed))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x", f"{patients} {seed}")

    monkeypatch.setattr(cohort, "write_rsna", write)
    for patients, seed in ((30, 1), (30, 1), (30, 2), (40, 1), (30, 1)):
        tree, kind = open_source("phantom", "rsna", tmp_path, Recipe(patients=patients, seed=seed))
        assert kind == "phantom" and tree.read("x") == f"{patients} {seed}".encode()
    assert made == [(30, 1), (30, 2), (40, 1)]
    monkeypatch.setattr(fetch, "sha256", lambda _: "other code")
    open_source("phantom", "rsna", tmp_path, Recipe(patients=30, seed=1))
    assert len(made) == 4


def test_a_manifest_says_what_and_not_where(data, tmp_path):
    manifest = describe(Folder(data), "folder", ["train.csv"], ["x.jpg"])
    assert manifest == Manifest(
        kind="folder", images=1, bytes=5, tables={"train.csv": hashlib.sha256(b"Path\n").hexdigest()}
    )
    recipe = Recipe(patients=1, seed=0)
    zipped = describe(Zip(tmp_path / "data.zip"), "phantom", ["train.csv"], ["x.jpg"], recipe)
    assert zipped.tables == manifest.tables and zipped.recipe == recipe
    assert zipped.zip.bytes == (tmp_path / "data.zip").stat().st_size
    assert str(tmp_path) not in manifest.model_dump_json() + zipped.model_dump_json()


def test_changed_tables_are_found_with_the_cure(data):
    manifest = describe(Folder(data), "folder", ["train.csv"], ["x.jpg"])
    check_unchanged(Folder(data), manifest, "chexpert")
    (data / "train.csv").write_text("Path \n")
    with pytest.raises(ValueError, match=r"train\.csv in .*data has changed .*: run dvc repro -f download@chexpert"):
        check_unchanged(Folder(data), manifest, "chexpert")
    (data / "train.csv").unlink()
    with pytest.raises(ValueError, match=r"train\.csv in .*data is gone"):
        check_unchanged(Folder(data), manifest, "chexpert")
