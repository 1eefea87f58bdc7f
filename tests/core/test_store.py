"""The packed store: what is written comes back by memory map, and a damaged store is named."""

import zlib

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import read_json, sha256
from cxr.core.formats import StoreManifest
from cxr.core.store import Shards, checksums, content, open_store, write_store


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, images):
    write_store(tmp_path / "store", iter(images), pd.DataFrame({"image_id": list("abcde"), "more": range(5)}))
    return tmp_path / "store"


def test_a_store_is_a_plain_npy_file_and_a_table(folder, images):
    store = open_store(folder)
    assert isinstance(store.images, np.memmap) and not store.images.flags.writeable
    np.testing.assert_array_equal(store.images, images)
    np.testing.assert_array_equal(np.load(folder / "images.npy"), images)
    assert (len(store), store.size) == (5, 8)
    assert list(store.index["crc32"]) == [zlib.crc32(image.tobytes()) for image in images]
    assert list(store.index["image_id"]) == list("abcde") and list(store.index["more"]) == list(range(5))


def test_rows_finds_images_in_any_order(folder):
    rows = open_store(folder).rows(pd.Series(["d", "a", "d"]))
    assert rows.dtype == np.int64 and rows.tolist() == [3, 0, 3]
    with pytest.raises(ValueError, match="lacks 2 images, such as x, y"):
        open_store(folder).rows(["a", "x", "y"])


def test_writing_replaces_the_whole_store_or_leaves_it(folder, images):
    write_store(folder, images[:2], pd.DataFrame({"image_id": ["x", "y"]}))
    assert list(open_store(folder).index["image_id"]) == ["x", "y"]
    with pytest.raises(AssertionError):
        write_store(folder, images[:1], pd.DataFrame({"image_id": ["x", "y"]}))
    with pytest.raises(AssertionError):
        write_store(folder, images.astype(float), pd.DataFrame({"image_id": list("abcde")}))
    assert len(open_store(folder)) == 2
    assert [path.name for path in folder.parent.iterdir()] == ["store"]


@pytest.fixture
def sharded(tmp_path, images):
    write_store(tmp_path / "sharded", images, pd.DataFrame({"image_id": list("abcde")}), shard=2)
    return tmp_path / "sharded"


def test_a_store_of_several_shards_reads_as_one(sharded, images):
    assert {p.name for p in sharded.glob("*.npy")} == {"images.npy", "images-1.npy", "images-2.npy"}
    store = open_store(sharded)
    assert isinstance(store.images, Shards) and (len(store), store.size) == (5, 8)
    assert store.images.shape == images.shape and store.images.dtype == images.dtype
    for key in (
        3, -1, np.int64(4), slice(None), slice(4, 0, -2), [4, 0, 2, 2], np.array([[1, 3], [4, -5]]), np.array([], int),
        np.array([True, False, False, True, True]),
    ):  # fmt: skip
        np.testing.assert_array_equal(store.images[key], images[key])
    np.testing.assert_array_equal(np.asarray(store.images), images)
    np.testing.assert_array_equal(list(store.images), images)
    for wrong in (5, -6, [0, 5], (0, 1), 0.5, [True], "a"):
        with pytest.raises(IndexError):
            store.images[wrong]


def test_the_manifest_holds_the_sums_of_the_files(sharded):
    manifest = read_json(sharded / "manifest.json", None, StoreManifest)
    assert manifest.size == 8 and manifest.index == sha256(sharded / "index.parquet")
    assert [(s.file, s.images) for s in manifest.shards] == [
        ("images.npy", 2),
        ("images-1.npy", 2),
        ("images-2.npy", 1),
    ]
    assert [s.sha256 for s in manifest.shards] == [sha256(sharded / s.file) for s in manifest.shards]


def test_the_content_of_a_store_is_known_without_its_pixels(sharded, images, tmp_path, monkeypatch):
    """As an input of a training: alone, and in a folder with other files."""
    (tmp_path / "arm").mkdir()
    (tmp_path / "arm" / "spec.json").write_text("{}")
    write_store(tmp_path / "arm" / "images", images, pd.DataFrame({"image_id": list("abcde")}), shard=2)
    before = content(sharded), content(tmp_path / "arm")
    (sharded / "images-1.npy").unlink()
    assert content(sharded) == before[0]
    images[3, 0, 0] ^= 1
    for folder in (sharded, tmp_path / "arm" / "images"):
        write_store(folder, images, pd.DataFrame({"image_id": list("abcde")}), shard=2)
    assert content(sharded) != before[0] and content(tmp_path / "arm") != before[1]
    inner = content(tmp_path / "arm")
    (tmp_path / "arm" / "spec.json").write_text("{ }")
    assert content(tmp_path / "arm") != inner
    assert content(tmp_path / "arm" / "spec.json") == sha256(tmp_path / "arm" / "spec.json")


def test_opening_reads_the_pixels_once(sharded, monkeypatch):
    """And the fingerprint of a training reads none of them."""
    from pathlib import Path

    read = []
    monkeypatch.setattr(
        "cxr.core.store.checksums",
        lambda file, n, size, real=checksums: read.append(Path(file).name) or real(file, n, size),
    )
    content(sharded)
    assert not read
    open_store(sharded)
    assert sorted(read) == ["images-1.npy", "images-2.npy", "images.npy"]


def lost_shard(folder):
    (folder / "images-1.npy").unlink()


def swapped_shards(folder):
    (folder / "images.npy").rename(folder / "x")
    (folder / "images-1.npy").rename(folder / "images.npy")
    (folder / "x").rename(folder / "images-1.npy")


def longer_shard(folder):
    np.save(folder / "images-2.npy", np.zeros((2, 8, 8), np.uint8))


def manifest(folder, change):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(change(text))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lost_shard, r"images-1\.npy: no such file"),
        (swapped_shards, r"index\.parquet is not the index of .*sharded: its 3 shards: 4 of 5 images are others"),
        (longer_shard, r"images-2\.npy holds \(2, 8, 8\), but the manifest names \(1, 8, 8\)"),
        (lambda f: manifest(f, lambda t: t.replace("images-1", "../images-1")), "names no shard, or one outside"),
        (lambda f: manifest(f, lambda t: '{"size": 8, "index": "", "shards": []}'), "names no shard"),
        (lambda f: manifest(f, lambda t: t.replace('"size": 8', '"size": 9')), r"the manifest names \(2, 9, 9\)"),
        (lambda f: (f / "manifest.json").unlink(), r"manifest\.json: no such file"),
    ],
)
def test_a_damaged_store_of_shards_is_named(sharded, damage, message):
    damage(sharded)
    with pytest.raises(ValueError, match=message + ".*run the stage that makes it again"):
        open_store(sharded)


def other_names(folder):
    index(folder, lambda table: table.assign(image_id=list("abcdf")))


def damage_array(folder):
    data = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(data[:-1])


def damage_header(folder):
    (folder / "images.npy").write_bytes(b"no array")


def other_dtype(folder):
    np.save(folder / "images.npy", np.zeros((5, 8, 8), np.float32))


def pickled(folder):
    np.save(folder / "images.npy", np.array([{}] * 5, object))


def not_square(folder):
    np.save(folder / "images.npy", np.zeros((5, 8, 7), np.uint8))


def index(folder, change):
    change(pd.read_parquet(folder / "index.parquet")).to_parquet(folder / "index.parquet")


def other_length(folder):
    index(folder, lambda table: table[:4])


def twice(folder):
    index(folder, lambda table: table.assign(image_id=list("aacde")))


def another_order(folder):
    index(folder, lambda table: table.iloc[[0, 3, 2, 1, 4]])


def no_checksums(folder):
    index(folder, lambda table: table[["image_id"]])


def one_pixel(folder):
    data = bytearray((folder / "images.npy").read_bytes())
    data[-1] ^= 1
    (folder / "images.npy").write_bytes(data)


def fortran_order(folder):
    np.save(folder / "images.npy", np.asfortranarray(np.load(folder / "images.npy")))


def no_table(folder):
    (folder / "index.parquet").write_bytes(b"PAR1")


def lost(folder):
    (folder / "index.parquet").unlink()


@pytest.mark.parametrize(
    "damage, message",
    [
        (damage_array, r"images\.npy is cut short"),
        (damage_header, r"images\.npy is cut short or no npy file"),
        (other_dtype, r"images\.npy holds float32 \(5, 8, 8\), not uint8"),
        (pickled, r"images\.npy is cut short or no npy file"),
        (not_square, r"images\.npy holds uint8 \(5, 8, 7\), not uint8 N x S x S"),
        (other_length, r"index\.parquet has 4 rows but .*images\.npy has 5 images"),
        (twice, r"index\.parquet: image_id .* stands twice"),
        (
            another_order,
            r"index\.parquet is not the index of .*images\.npy: 2 of 5 images are others, the first in row 1",
        ),
        (one_pixel, r"index\.parquet is not the index of .*images\.npy: 1 of 5 images are others, the first in row 4"),
        (other_names, r"index\.parquet is not the one that .*manifest\.json names"),
        (no_checksums, r"index\.parquet: column 'crc32' is missing"),
        (fortran_order, r"images\.npy holds uint8 \(5, 8, 8\), not uint8 N x S x S in rows"),
        (no_table, r"index\.parquet: no readable parquet file"),
        (lost, r"index\.parquet: no such file"),
    ],
)
def test_a_damaged_store_is_named_with_the_cure(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message + ".*run the stage that makes it again"):
        open_store(folder)
