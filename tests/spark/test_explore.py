"""Record tables on Spark: the numbers of pandas to the last digit, whatever is odd in the table."""

import os

import numpy as np
import pandas as pd
import pytest

from benchmarks.spark import write_table
from cxr.cohort import checks, describe
from cxr.core import records as local
from cxr.core.files import sha256, write_json
from cxr.data.formats import Manifest
from cxr.data.sources import chexpert as chexpert_source
from cxr.data.sources.archive import Folder
from cxr.spark import checks as spark_checks
from cxr.spark import describe as spark_describe
from cxr.spark import records as spark_records
from stages import explore as stage
from tests.cohort.test_describe import COHORT, PNEUMONIA
from tests.make import example

pytestmark = pytest.mark.slow


def both(folder, chexpert, rsna) -> None:
    """The stage by both engines: every file has the same bytes."""
    write_json(folder / "manifest.json", example(Manifest, patient_key="patient"))
    for engine in ("local", "spark"):
        stage.run(str(chexpert), str(rsna), folder / "manifest.json", folder / engine, engine, "local[2]")
    for file in sorted((folder / "local").iterdir()):
        assert (folder / "spark" / file.name).read_bytes() == file.read_bytes(), file.name
    assert sha256(folder / "local") == sha256(folder / "spark")


def test_every_check_finds_what_pandas_finds(spark, tmp_path):
    """20,000 rows with every oddity, in three files that are one table."""
    whole = {}
    for dataset in ("chexpert", "rsna"):
        write_table(tmp_path / "x.parquet", 20_000, seed=3, dataset=dataset)
        whole[dataset] = table = local.load(tmp_path / "x.parquet", dataset)
        (tmp_path / dataset).mkdir()
        for number, rows in enumerate(np.array_split(np.arange(len(table)), [11_000, 11_500])):
            table.iloc[rows].to_parquet(tmp_path / dataset / f"part-{number}.parquet", index=False)
    for dataset, table in whole.items():
        there = spark_records.load(spark, tmp_path / dataset, dataset)
        found = getattr(spark_checks, dataset)(there)
        pd.testing.assert_frame_equal(found, getattr(checks, dataset)(table))
        odd = found.set_index("check")["severity"] != "ok"
        assert odd.drop("every patient has exactly one image").all(), "the table has a case of each"
    pd.testing.assert_frame_equal(spark_describe.ages(spark_records.load(spark, tmp_path / "rsna", "rsna")),
                                  describe.ages(whole["rsna"]))  # fmt: skip


def test_real_records(spark, shared_data, tmp_path):
    table = chexpert_source.read(Folder(shared_data / "chexpert"))
    table.to_parquet(tmp_path / "chexpert.parquet", index=False)
    PNEUMONIA.to_parquet(tmp_path / "rsna.parquet", index=False)
    both(tmp_path, tmp_path / "chexpert.parquet", tmp_path / "rsna.parquet")


@pytest.mark.skipif("CXR_LONG" not in os.environ, reason="it takes over five minutes; set CXR_LONG=1")
def test_a_million_rows(spark, tmp_path):
    write_table(tmp_path / "chexpert.parquet", 1_000_000)
    write_table(tmp_path / "rsna.parquet", 1000, dataset="rsna")
    both(tmp_path, tmp_path / "chexpert.parquet", tmp_path / "rsna.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.drop(columns="Edema"), "column 'Edema' is missing"),
        (lambda t: pd.concat([t, t.iloc[[2]]]), "image_id 'train/p1/study2/view1_frontal' stands twice"),
        (lambda t: None, "no such file"),
        (lambda t: b"no parquet", "no readable parquet file"),
    ],
)
def test_a_table_that_is_no_records_is_named_with_the_cure(spark, tmp_path, damage, message):
    made = damage(COHORT)
    if isinstance(made, bytes):
        (tmp_path / "x.parquet").write_bytes(made)
    elif made is not None:
        made.to_parquet(tmp_path / "x.parquet", index=False)
    with pytest.raises(ValueError, match=rf"x\.parquet: {message}.*dvc repro -f download@chexpert"):
        spark_records.load(spark, tmp_path / "x.parquet", "chexpert")
