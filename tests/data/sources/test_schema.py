"""Records as a file: its bytes depend on the rows alone."""

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from benchmarks.spark import write_table
from cxr.core.files import sha256
from cxr.data.sources import schema


def records(folder, rows: int, dataset: str = "chexpert") -> pd.DataFrame:
    write_table(folder / "made.parquet", rows, dataset=dataset)
    made = pd.read_parquet(folder / "made.parquet")
    return schema.conform(made.assign(path=made["image_id"]), dataset)


@pytest.mark.parametrize("dataset", ["chexpert", "rsna"])
def test_a_small_table_is_as_pandas_writes_it(tmp_path, dataset):
    table = records(tmp_path, 1000, dataset)
    table.to_parquet(tmp_path / "plain.parquet", index=False)
    schema.write(tmp_path / "records.parquet", [table])
    assert sha256(tmp_path / "records.parquet") == sha256(tmp_path / "plain.parquet")


@pytest.mark.parametrize("group", [1 << 18, 300])
def test_the_parts_in_which_records_come_change_no_byte(tmp_path, monkeypatch, group):
    monkeypatch.setattr(schema, "GROUP", group)
    table, digests = records(tmp_path, 1000), set()
    for cuts in ([], [300, 600], [1, 2, 450, 999]):
        places = np.split(np.arange(len(table)), cuts)
        schema.write(tmp_path / "records.parquet", (table.iloc[rows].reset_index(drop=True) for rows in places))
        digests.add(sha256(tmp_path / "records.parquet"))
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "records.parquet"), table)
    assert len(digests) == 1
    assert parquet.ParquetFile(tmp_path / "records.parquet").num_row_groups == -(-1000 // group)
    assert list(schema.paths(tmp_path / "records.parquet")) == list(table["path"])
