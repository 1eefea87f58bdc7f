"""Packing a dataset: order, rejects, and bytes that don't depend on the number of processes."""

import errno
import io
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import sha256
from cxr.core.resize import resize
from cxr.core.store import open_store
from cxr.data import decode as decoding
from cxr.data import pack as packing
from cxr.data.pack import pack
from cxr.data.sources.archive import Folder


def jpeg(seed: int) -> bytes:
    gray = np.random.default_rng(seed).integers(0, 256, (40, 50)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(gray).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def tree(tmp_path):
    """100 images, of which 3, 50 and 99 can't be read."""
    (tmp_path / "files").mkdir()
    for i in range(100):
        (tmp_path / "files" / f"{i:03}.jpg").write_bytes(
            {3: b"", 50: jpeg(50)[:300], 99: b"text"}.get(i) or jpeg(i) * (i != 3)
        )
    return Folder(tmp_path / "files")


@pytest.fixture
def table():
    return pd.DataFrame({"image_id": [f"id{i}" for i in range(100)], "path": [f"{i:03}.jpg" for i in range(100)]})


def test_rows_in_are_rows_out_and_rows_rejected(tree, table, tmp_path):
    rejected = pack(tree, table, [32, 16, 32], tmp_path / "out", processes=1, max_rejected=0.03)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["16", "32", "rejected.csv"]
    assert list(rejected["image_id"]) == ["id3", "id50", "id99"]
    reasons = list(pd.read_csv(tmp_path / "out" / "rejected.csv")["reason"])
    assert reasons[0] == "empty file (0 bytes)" and reasons[2] == "neither JPEG, PNG, TIFF nor DICOM"
    assert "truncated" in reasons[1].lower()
    kept = [i for i in range(100) if i not in (3, 50, 99)]
    for size in (16, 32):
        store = open_store(tmp_path / "out" / str(size))
        assert list(store.index["image_id"]) == [f"id{i}" for i in kept]
        pictures = [decoding.decode(jpeg(i), "", size) for i in kept]
        expected = [resize(one.pixels, size, one.filled) for one in pictures]
        np.testing.assert_array_equal(store.images, expected)


def test_a_store_does_not_depend_on_the_other_sizes(table, tmp_path):
    """JPEGs of 130 x 120 pixels, of which libjpeg decodes a part at half size for 48 and at a quarter for 16."""
    for i in range(3):
        gray = np.random.default_rng(i).integers(0, 256, (130, 120)).astype(np.uint8)
        Image.fromarray(gray).save(tmp_path / f"{i:03}.jpg", quality=90)
    for sizes in ([16], [48], [16, 48, 100]):
        pack(Folder(tmp_path), table[:3], sizes, tmp_path / str(len(sizes)) / str(sizes[0]), processes=1)
    for size in (16, 48):
        alone, beside = open_store(tmp_path / "1" / str(size) / str(size)), open_store(tmp_path / f"3/16/{size}")
        np.testing.assert_array_equal(alone.images[:], beside.images[:])


def test_bytes_do_not_depend_on_the_number_of_processes(tree, table, tmp_path):
    for processes in (1, 2):
        pack(tree, table, [16, 24], tmp_path / str(processes), processes=processes)
    assert sha256(tmp_path / "1") == sha256(tmp_path / "2")
    assert len(open_store(tmp_path / "2" / "24")) == 97, "the checksums are those of the images that stayed"


def test_shards_hold_what_one_file_would(tree, table, tmp_path):
    """Here with shards of 40, 40 and 20 rows, whichever process filled them; rejects leave no gap."""
    pack(tree, table, [16, 24], tmp_path / "whole", processes=1)
    for processes in (1, 2):
        pack(tree, table, [16, 24], tmp_path / str(processes), processes=processes, shard=40)
    assert sha256(tmp_path / "1") == sha256(tmp_path / "2")
    whole, store = (open_store(tmp_path / name / "24") for name in ("whole", "1"))
    assert [len(part) for part in store.images.parts] == [39, 39, 19]
    np.testing.assert_array_equal(store.images[:], whole.images)
    assert whole.index.equals(store.index)
    assert sha256(tmp_path / "1" / "rejected.csv") == sha256(tmp_path / "whole" / "rejected.csv")


def test_a_shard_without_a_readable_image_has_no_file(tree, table, tmp_path):
    table.loc[10:19, "path"] = "lost.jpg"
    assert len(pack(tree, table, [16], tmp_path / "out", processes=1, shard=10)) == 13
    store = open_store(tmp_path / "out" / "16")
    assert not (tmp_path / "out" / "16" / "images-1.npy").exists() and len(store) == 87
    assert [len(part) for part in store.images.parts] == [9, 10, 10, 10, 9, 10, 10, 10, 9]


def test_too_many_rejects_leave_what_was_there(tree, table, tmp_path):
    pack(tree, table, [16], tmp_path / "out", processes=1)
    before = sha256(tmp_path / "out")
    message = r"3 of 100 images can't be read .*the 2 that max_rejected 0\.02 .*: 003\.jpg: empty .*099\.jpg: neither"
    with pytest.raises(ValueError, match=message):
        pack(tree, table, [16], tmp_path / "out", processes=1, max_rejected=0.02)
    assert sha256(tmp_path / "out") == before
    with pytest.raises(ValueError, match="2 of 2 images can't be read"):
        pack(tree, table.iloc[[3, 99]], [16], tmp_path / "none", processes=1, max_rejected=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "out"]


def test_ten_rejects_over_the_limit_end_the_work(tree, table, tmp_path):
    lost = table.assign(path="lost.jpg")
    with pytest.raises(ValueError, match=r"32 of 100 images .*lost\.jpg: no such file") as caught:
        pack(tree, lost, [16], tmp_path / "out", processes=1, max_rejected=0.05)
    assert str(caught.value).count("no such file") == 10


def test_the_reasons_do_not_say_where_the_source_lies(tree, table, tmp_path):
    (tmp_path / "files" / "010.jpg").unlink()
    rejected = pack(tree, table, [16], tmp_path / "out", processes=1, max_rejected=0.05)
    assert rejected.set_index("image_id")["reason"]["id10"] == "010.jpg: no such file"
    assert str(tmp_path) not in (tmp_path / "out" / "rejected.csv").read_text()


def test_a_full_disk_is_found_before_the_work_and_leaves_nothing(tree, table, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="has no room for a store of .* bytes"):
        pack(tree, table, [16], tmp_path / "out", processes=1)
    assert not (tmp_path / "out").exists() and [path.name for path in tmp_path.iterdir()] == ["files"]


def test_a_short_write_is_an_error(tree, table, tmp_path, monkeypatch):
    monkeypatch.setattr(packing.os, "pwrite", lambda *_: 7)
    with pytest.raises(ValueError, match="out: no room left to write it; free some space and run"):
        pack(tree, table, [16], tmp_path / "out", processes=1)


def test_real_files(shared_data, tmp_path):
    from cxr.data.sources import chexpert, rsna

    for reader, name, n in ((chexpert, "chexpert", 594), (rsna, "rsna", 209)):
        tree = Folder(shared_data / name)
        table = reader.read(tree).iloc[::8]
        rejected = pack(tree, table, [64], tmp_path / name, processes=1)
        store = open_store(tmp_path / name / "64")
        assert len(rejected) == 0 and len(store) == -(-n // 8)
        assert (store.images.std((1, 2)) > 20).all()
