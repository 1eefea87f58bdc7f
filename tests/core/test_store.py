"""The packed store: what is written comes back by memory map, and a damaged store is named."""

import zlib

import numpy as np
import pandas as pd
import pytest

from cxr.core.store import open_store, write_store


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
