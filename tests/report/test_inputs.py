"""Reading what other stages left: every fault names its file and the stage that cures it."""

from functools import partial

import pandas as pd
import pytest

from cxr.core.files import read_json, read_table
from cxr.core.formats import Format
from cxr.report import inputs

READERS = {"csv": read_table, "parquet": read_table, "json": partial(read_json, model=Format), "png": inputs.image}


@pytest.mark.parametrize("suffix", READERS)
def test_absent_and_unreadable(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(ValueError, match=rf"x\.{suffix}: no such file.*`dvc repro stage@a` makes it"):
        READERS[suffix](path, "stage@a")
    path.write_bytes(b"" if suffix == "csv" else b"\x00{")
    with pytest.raises(ValueError, match=rf"x\.{suffix}: no readable .*`dvc repro -f stage@a`"):
        READERS[suffix](path, "stage@a")


def test_two_rows_of_a_key_or_none(tmp_path):
    table = pd.DataFrame({"model": ["a", "a", "b"], "finding": ["x", "y", "x"], "n": [1, 2, 3]})
    rows = inputs.Rows(table, tmp_path / "t.csv", "evaluate", "model", "finding")
    assert rows["a", "y"]["n"] == 2
    with pytest.raises(ValueError, match=r"t\.csv: no row of \('b', 'y'\); `dvc repro -f evaluate`"):
        rows["b", "y"]
    with pytest.raises(ValueError, match=r"t\.csv: two rows of a; `dvc repro -f evaluate`"):
        inputs.Rows(table, tmp_path / "t.csv", "evaluate", "model")
