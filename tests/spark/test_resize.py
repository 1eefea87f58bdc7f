"""Stores made on Spark: the bytes of the local pool, whatever happens to an executor."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import sha256, write_json
from cxr.core.store import open_store
from cxr.data.pack import pack as local_pack
from cxr.data.sources import chexpert, rsna
from cxr.data.sources.address import describe, open_source
from cxr.data.sources.archive import Folder
from cxr.data.sources.prefix import Prefix
from cxr.spark import resize as spark_resize
from stages import resize as stage
from tests.closure import ROOT
from tests.spark.make import Dying, Unreachable

pytestmark = pytest.mark.slow


def jpeg(seed: int) -> bytes:
    gray = np.random.default_rng(seed).integers(0, 256, (40, 50)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(gray).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """100 images, of which 3 and 50 are damaged."""
    folder = tmp_path_factory.mktemp("files")
    for i in range(100):
        (folder / f"{i:03}.jpg").write_bytes({3: b"", 50: jpeg(50)[:300]}.get(i, jpeg(i)))
    return folder


TABLE = pd.DataFrame({"image_id": [f"id{i}" for i in range(100)], "path": [f"{i:03}.jpg" for i in range(100)]})


@pytest.fixture
def pooled(files, tmp_path):
    """The stores of the local pool."""
    local_pack(Folder(files), TABLE, [16, 24], tmp_path / "pool", 2, shard=30)
    return tmp_path / "pool"


def test_the_bytes_are_those_of_the_local_pool_corrupt_images_too(spark, files, pooled, tmp_path):
    rejected = spark_resize.pack(spark, Folder(files), TABLE, [24, 16], tmp_path / "spark", 0.02, shard=30)
    assert list(rejected["image_id"]) == ["id3", "id50"]
    assert sha256(tmp_path / "spark") == sha256(pooled)
    assert len(open_store(tmp_path / "spark" / "16").images.parts) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "spark"]


def test_what_a_dead_executor_left_is_not_in_the_store(spark, files, pooled, tmp_path, monkeypatch):
    monkeypatch.setattr(spark_resize, "Maker", Dying)
    spark_resize.pack(spark, Folder(files), TABLE, [16, 24], tmp_path / "spark", shard=30)
    assert sha256(tmp_path / "spark") == sha256(pooled)
    assert not list((tmp_path / "spark").glob(".*"))


def test_too_many_rejects_leave_what_was_there(spark, files, pooled):
    before = sha256(pooled)
    with pytest.raises(
        ValueError, match=r"2 of 100 images can't be read .*the 1 that max_rejected 0\.01 .*003\.jpg: empty"
    ):
        spark_resize.pack(spark, Folder(files), TABLE, [16], pooled, 0.01, shard=30)
    assert sha256(pooled) == before and [p.name for p in pooled.parent.iterdir()] == ["pool"]


def test_a_wrong_folder_ends_the_job_before_all_shards_are_tried(spark, files, tmp_path):
    many = pd.concat([TABLE] * 400, ignore_index=True).assign(path="lost.jpg")
    with pytest.raises(
        ValueError, match=r"of 40,000 images can't be read \(so far\).*lost\.jpg: no such file"
    ) as caught:
        spark_resize.pack(spark, Folder(files), many, [16], tmp_path / "out", 0, shard=100)
    assert not str(caught.value).startswith("40,000") and not (tmp_path / "out").exists()


def test_a_server_that_does_not_answer_rejects_no_image(spark, files, tmp_path):
    with pytest.raises(ValueError, match=r"could not make a shard: ConnectionError: no answer for 000\.jpg;"):
        spark_resize.pack(spark, Unreachable(files), TABLE.head(5), [16], tmp_path / "out", 1)
    assert list(tmp_path.iterdir()) == []


def test_an_executor_that_is_killed_costs_no_byte(spark_here, files, pooled, tmp_path):
    """A cluster of two executors, each a Java process of its own. One dies while it makes a shard."""
    program = """if True:
        import sys
        from pathlib import Path
        from cxr.spark.resize import pack
        from cxr.spark.session import session
        from tests.spark.make import Killing
        from tests.spark.test_resize import TABLE
        files, out, flag = map(Path, sys.argv[1:])
        with session("local-cluster[2,1,1024]") as spark:
            pack(spark, Killing(files, "045.jpg", flag), TABLE, [16, 24], out, shard=30)
    """
    import pyspark

    logs = Path(pyspark.__file__).parent / "work"  # Spark's workers write beside it
    words = [sys.executable, "-c", program, str(files), str(tmp_path / "spark"), str(tmp_path / "flag")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    shutil.rmtree(logs, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    killed = int((tmp_path / "flag").read_text())
    assert not Path(f"/proc/{killed}").exists()
    assert sha256(tmp_path / "spark") == sha256(pooled)


def write_inputs(folder: Path, dataset: str, table: pd.DataFrame, manifest) -> list[str]:
    """What the download stage writes. Returns the stage's options for it."""
    folder.mkdir()
    table.to_parquet(folder / "records.parquet", index=False)
    write_json(folder / "manifest.json", manifest)
    given = {"--dataset": dataset, "--records": folder / "records.parquet", "--manifest": folder / "manifest.json"}
    return [str(word) for pair in given.items() for word in pair]


def run(arguments: list[str]) -> int | str | None:
    from stages.cli import main

    with pytest.raises(SystemExit) as stop:
        main(stage.run, arguments)
    return stop.value.code


def test_the_stage_on_the_phantom(spark, tmp_path, monkeypatch):
    from cxr.data.formats import Recipe

    recipe = Recipe(patients=12, seed=0)
    for dataset, reader in (("chexpert", chexpert), ("rsna", rsna)):
        tree, kind = open_source("phantom", dataset, tmp_path / "state" / "downloads", recipe)
        table = reader.read(tree)
        manifest = describe(tree, kind, [], list(table["path"]), recipe)
        given = write_inputs(tmp_path / dataset, dataset, table, manifest)
        given += ["--source", "phantom", "--size", "32", "--state", str(tmp_path / "state")]
        for engine in ("local", "spark"):
            monkeypatch.setenv("CXR_ENGINE", engine)
            assert not run([*given, "--out", str(tmp_path / engine / dataset)])
        assert sha256(tmp_path / "spark" / dataset) == sha256(tmp_path / "local" / dataset)


def test_real_files(spark, shared_data, tmp_path):
    for reader, name in ((chexpert, "chexpert"), (rsna, "rsna")):
        tree = Folder(shared_data / name)
        table = reader.read(tree)
        local_pack(tree, table, [64, 48], tmp_path / "local" / name, 2, shard=50)
        spark_resize.pack(spark, tree, table, [64, 48], tmp_path / "spark" / name, shard=50)
    assert sha256(tmp_path / "spark") == sha256(tmp_path / "local")


def test_an_address_is_emptied_of_stores_and_of_nothing_else(bucket):
    """In the order that leaves none which opens."""
    client, _ = bucket
    spark_resize.empty("s3://data/nothing/here")
    own = ["16/index.parquet", "16/manifest.json", "16/images.npy", "16/images-12.npy", "512/", "rejected.csv"]
    for key in (*(f"out/{name}" for name in own), "out/", "outer/16/images.npy", "16/images.npy"):
        client.put_object(Bucket="data", Key=key, Body=b"x" * (not key.endswith("/")))
    client.put_object(Bucket="data", Key="out/16/notes.txt", Body=b"mine")
    with pytest.raises(ValueError, match=r"^s3://data/out/16/notes\.txt is no part of a store.*address of its own"):
        spark_resize.empty("s3://data/out")
    assert len(keys_of(client)) == 10, "nothing is deleted before all is known to be ours"
    client.delete_object(Bucket="data", Key="out/16/notes.txt")
    spark_resize.empty("s3://data/out")
    assert [key for key in keys_of(client) if not key.endswith("/")] == ["16/images.npy", "outer/16/images.npy"]


def test_an_address_that_keeps_its_old_files_is_refused(monkeypatch):
    """s3fs does not say that S3 refused to delete."""
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe("/held/16/images.npy", b"x")
    monkeypatch.setattr(MemoryFileSystem, "rm", lambda *_: None)
    with pytest.raises(ValueError, match=r"^memory://held/16/images\.npy: can't be deleted"):
        spark_resize.empty("memory://held")
    monkeypatch.undo()
    spark_resize.empty("memory://held")
    assert not MemoryFileSystem().find("/held")


def keys_of(client) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket="data")["Contents"]]


def test_from_s3_to_s3(spark_here, files, pooled, bucket, tmp_path):
    """The stage as a cluster runs it: images and stores at s3://, no Hadoop library, a process of its own."""
    client, keys = bucket
    for file in files.iterdir():
        client.upload_file(str(file), "data", f"in/{file.name}")
    for older in ("16/manifest.json", "16/images-7.npy", "32/manifest.json", "32/images.npy", "rejected.csv"):
        client.put_object(Bucket="data", Key=f"out/{older}", Body=b"of an older run")
    tree, kind = open_source("s3://data/in/", "chexpert", tmp_path)
    assert isinstance(tree, Prefix) and tree.size("003.jpg") == 0
    manifest = describe(tree, kind, ["004.jpg"], list(TABLE["path"]))
    assert manifest.tables["004.jpg"] == sha256(files / "004.jpg")
    from tests.cohort.test_describe import chexpert as records

    rows = [("p", "study1", i, "F", 60, "frontal", "PA", {}) for i in range(100)]
    table = records(rows).assign(path=list(TABLE["path"]), image_id=list(TABLE["image_id"]))
    given = write_inputs(tmp_path / "made", "chexpert", table, manifest)
    given += [
        "--source",
        "s3://data/in/",
        "--size",
        "16",
        "--size",
        "24",
        "--out",
        "s3://data/out",
        "--max_rejected",
        "0.02",
    ]
    words = [sys.executable, "-m", "stages.resize", *given]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=os.environ | keys)
    assert done.returncode == 1 and "only --engine spark writes to an address" in done.stderr
    words += ["--engine", "spark", "--master", "local[2]"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=os.environ | keys)
    assert done.returncode == 0, done.stderr[-2000:]
    local_pack(tree, TABLE, [16, 24], tmp_path / "local", 2)
    for key in client.list_objects_v2(Bucket="data", Prefix="out/")["Contents"]:
        file = tmp_path / key["Key"]
        file.parent.mkdir(parents=True, exist_ok=True)
        client.download_file("data", key["Key"], str(file))
    assert sha256(tmp_path / "out") == sha256(tmp_path / "local"), "also read from S3 by the local pool"
    assert json.loads((tmp_path / "out/16/manifest.json").read_text())["shards"][0]["images"] == 98
