"""A data set's tables read on Spark: the bytes of the local reader, and its words for what is wrong."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks.spark import Listed, write_csv
from cxr.core.files import sha256
from cxr.data.sources import pieces, registry, schema
from cxr.data.sources.archive import Folder
from cxr.data.sources.dataset import USUAL, Given
from cxr.spark import download
from stages import download as stage
from tests.closure import ROOT
from tests.data.sources import test_chexpert as made
from tests.data.sources import test_official_test_set as official
from tests.spark.make import Unreachable

pytestmark = pytest.mark.slow


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of a row or two, so that a table of five rows is several."""
    monkeypatch.setattr(pieces, "each", partial(pieces.each, size=150))


def both(folder: Path, source, dataset: str = "chexpert", **options) -> None:
    """The stage by both engines: every file has the same bytes."""
    for engine in ("local", "spark"):
        stage.run(dataset, str(source), folder / engine, state=folder / "state", engine=engine,
                  master="local[2]", **options)  # fmt: skip
    for file in sorted((folder / "local").iterdir()):
        assert (folder / "spark" / file.name).read_bytes() == file.read_bytes(), file.name
    assert sha256(folder / "local") == sha256(folder / "spark")


@pytest.mark.parametrize("dataset", ["chexpert", "rsna"])
def test_real_files(spark, shared_data, tmp_path, monkeypatch, dataset):
    monkeypatch.setattr(pieces, "each", partial(pieces.each, size=10_000))
    monkeypatch.setattr(download, "HEADERS", 50)
    both(tmp_path, shared_data / dataset, dataset)


@pytest.mark.parametrize("dataset", ["chexpert", "rsna"])
def test_the_phantom(spark, tmp_path, monkeypatch, dataset):
    """In a .zip, with an official test set and its readers."""
    monkeypatch.setattr(pieces, "each", partial(pieces.each, size=3_000))
    both(tmp_path, "phantom", dataset, chexpert_patients=60, rsna_patients=30)


def test_another_label_table_and_a_test_set(spark, small_pieces, tmp_path):
    """The rows of the label table come in another order, those of the records stay."""
    made.relabel(made.write(tmp_path / "data"))
    official.add(tmp_path / "data")
    both(tmp_path, tmp_path / "data", labels="train_cheXbert.csv")
    shutil.rmtree(tmp_path / "local")
    shutil.rmtree(tmp_path / "spark")
    (tmp_path / "data" / "train.csv").rename(tmp_path / "data" / "train_cheXbert.csv")
    both(tmp_path, tmp_path / "data", labels="train_cheXbert.csv")


def test_images_that_lie_elsewhere(spark, small_pieces, tmp_path):
    both(tmp_path, made.batches(tmp_path / "release"))


def test_a_table_of_excel_with_quotes(spark, small_pieces, tmp_path):
    train = ['"' + row.replace(",", '";"').replace("1.0", "1,0") + '"' for row in made.TRAIN]
    train.insert(1, "")
    made.write(tmp_path / "data", train, [made.VALID[0].replace(",", ";")], made.HEADER.upper().replace(",", ";"),
               "\r\n", encoding="utf-8-sig")  # fmt: skip
    both(tmp_path, tmp_path / "data")


def test_a_table_in_utf_16(spark, small_pieces, tmp_path):
    made.write(tmp_path / "data", encoding="utf-16")
    both(tmp_path, tmp_path / "data")


def words(read) -> str:
    with pytest.raises(ValueError, match=".") as caught:
        read()
    return str(caught.value)


def same_words(spark, root, labels: str = "") -> None:
    tree, dataset = Folder(root), registry.find("chexpert")
    local = words(lambda: registry.read(dataset, tree, Given(labels)))
    assert words(lambda: download.read(spark, dataset, tree, Given(labels))) == local


@pytest.mark.parametrize("change", [change for change, _ in made.BROKEN], ids=range(len(made.BROKEN)))
def test_what_is_broken_is_named_as_by_the_local_reader(spark, small_pieces, tmp_path, change):
    same_words(spark, made.write(tmp_path / "data", **change))


@pytest.mark.parametrize("rows", made.OTHERS.values(), ids=range(len(made.OTHERS)))
def test_a_label_table_of_other_images(spark, small_pieces, tmp_path, rows):
    made.relabel(made.write(tmp_path / "data"), rows=rows)
    same_words(spark, tmp_path / "data", "train_cheXbert.csv")


def test_what_stands_twice_or_in_two_tables(spark, small_pieces, tmp_path):
    """The first of several, wherever its rows are."""
    rows = [made.TRAIN[k] for k in (0, 1, 2, 2, 1, 0, 1)]
    same_words(spark, made.write(tmp_path / "a", rows))
    root = official.add(made.write(tmp_path / "b"), official.groundtruth().replace("64741", "00002"), images="")
    image = root / "test" / "patient00002" / "study1" / "view1_frontal.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"jpeg")
    official.add_images(root / "test")
    same_words(spark, root)
    many = [made.TRAIN[0].replace("00001", f"1{i:04}") for i in range(25)]
    same_words(spark, made.write(tmp_path / "c", many))
    (tmp_path / "a" / "train.csv").write_text(made.HEADER + "\n\n \n")
    same_words(spark, tmp_path / "a")


@pytest.mark.skipif("CXR_LONG" not in os.environ, reason="it takes over a minute; set CXR_LONG=1")
def test_a_million_rows(spark, tmp_path):
    write_csv(tmp_path / "data", 1_000_000)
    tree, dataset = Listed(str(tmp_path / "data")), registry.find("chexpert")
    for name, reading in (("local", registry.read), ("spark", partial(download.read, spark))):
        schema.write(tmp_path / f"{name}.parquet", reading(dataset, tree, USUAL).parts())
    assert sha256(tmp_path / "local.parquet") == sha256(tmp_path / "spark.parquet")


def test_a_server_that_does_not_answer_is_one_line(spark, small_pieces, tmp_path):
    rows = [made.TRAIN[0].replace("00001", f"{i:05}") for i in range(100, 120)]
    tree = Unreachable(made.write(tmp_path / "data", rows))
    with pytest.raises(
        ValueError, match=r"^Spark could not read the tables: ConnectionError: no answer for train\.csv$"
    ):
        download.read(spark, registry.find("chexpert"), tree, USUAL)


def test_an_executor_that_does_not_reach_the_source_reads_no_header_as_damaged(spark, shared_data):
    """Sex, age and view would all be unknown."""

    class Elsewhere(Folder):
        def part(self, name: str, start: int, length: int) -> bytes:
            raise ValueError(f"{name}: no such file")

    tree = Elsewhere(shared_data / "rsna")
    said = words(lambda: download.read(spark, registry.find("rsna"), tree, USUAL))
    assert said == "Spark could not read the tables: ValueError: stage_2_train_labels.csv: no such file"


def test_a_test_set_with_impossible_whole_ages(spark, tmp_path):
    table = official.image_table().replace("Path,", "Path,Age,", 1).replace(".jpg,", ".jpg,99999999,")
    official.add(made.write(tmp_path / "data"), table, "test.csv")
    both(tmp_path, tmp_path / "data")


def test_images_in_s3(spark_here, bucket, tmp_path):
    """The executors ask the server themselves; the listing is the driver's."""
    client, keys = bucket
    root = official.add(made.write(tmp_path / "data"))
    for file in root.rglob("*"):
        if file.is_file():
            client.upload_file(str(file), "data", f"chexpert/{file.relative_to(root).as_posix()}")
    words = "-m stages.download --dataset chexpert --source s3://data/chexpert/ --engine spark --master local[2] --out"
    command = [sys.executable, *words.split(), str(tmp_path / "spark")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | keys)
    assert done.returncode == 0, done.stderr[-2000:]
    stage.run("chexpert", str(root), tmp_path / "local")
    assert sha256(tmp_path / "local" / "records.parquet") == sha256(tmp_path / "spark" / "records.parquet")
    assert sha256(tmp_path / "local" / "readers.parquet") == sha256(tmp_path / "spark" / "readers.parquet")


def test_an_executor_that_is_killed_costs_no_row(spark_here, tmp_path):
    """A cluster of two executors, each a Java process of its own. One dies while it reads a piece."""
    rows = [made.TRAIN[0].replace("00001", f"{i:05}") for i in range(100, 400)]
    root = made.write(tmp_path / "data", rows, files=rows + made.VALID)
    program = """if True:
        import sys
        from pathlib import Path
        from cxr.data.sources import pieces, registry, schema
        from cxr.data.sources.dataset import USUAL
        from cxr.spark.download import read
        from cxr.spark.session import session
        from tests.spark.make import Killing
        root, out, flag = map(Path, sys.argv[1:])
        pieces.each.__defaults__ = (2000,)
        with session("local-cluster[2,1,1024]") as spark:
            reading = read(spark, registry.find("chexpert"), Killing(root, "train.csv", flag), USUAL)
            schema.write(out, reading.parts())
    """
    import pyspark

    logs = Path(pyspark.__file__).parent / "work"  # Spark's workers write beside it
    command = [sys.executable, "-c", program, str(root), str(tmp_path / "spark.parquet"), str(tmp_path / "flag")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    shutil.rmtree(logs, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not Path(f"/proc/{(tmp_path / 'flag').read_text()}").exists()
    stage.run("chexpert", str(root), tmp_path / "local")
    assert sha256(tmp_path / "spark.parquet") == sha256(tmp_path / "local" / "records.parquet")
