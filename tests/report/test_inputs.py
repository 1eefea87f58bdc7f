"""Reading what other stages left: every fault names its file and the stage that cures it."""

from functools import partial

import pandas as pd
import pytest

from cxr.core.files import read_json, read_table
from cxr.core.formats import Format
from cxr.report import inputs

READERS = {"csv": inputs.csv, "parquet": read_table, "json": partial(read_json, model=Format), "png": inputs.image}


@pytest.mark.parametrize("suffix", READERS)
def test_absent_and_unreadable(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(ValueError, match=rf"x\.{suffix}: no such file.*`dvc repro stage@a` makes it"):
        READERS[suffix](path, "stage@a")
    path.write_bytes(b"" if suffix == "csv" else b"\x00{")
    with pytest.raises(ValueError, match=rf"x\.{suffix}: no readable .*`dvc repro -f stage@a`"):
        READERS[suffix](path, "stage@a")


def test_a_lacking_column(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert inputs.csv(tmp_path / "x.csv", "s", ("a", "b"))["b"].to_list() == [2]
    with pytest.raises(ValueError, match="x.csv: column 'c' is missing"):
        inputs.csv(tmp_path / "x.csv", "s", ("a", "c"))


@pytest.mark.parametrize(("value", "shown"), [("high", "high"), ("inf", "inf"), ("1.2", "1.2"), ("-0.1", "-0.1")])
def test_a_hand_edited_cell_is_named_with_its_line(tmp_path, value, shown):
    path = tmp_path / "auc.csv"
    path.write_text(f"finding,n,auc\nEdema,3,0.5\nFracture,3,\nPneumonia,3,{value}\n")
    with pytest.raises(ValueError, match=rf"auc\.csv line 4: auc is {shown}; `dvc repro -f evaluate`"):
        inputs.csv(path, "evaluate", ("finding", "n", "auc"))


def test_rows_that_stand_twice_or_are_lacking(tmp_path):
    table = pd.DataFrame({"model": ["a", "a", "b"], "finding": ["x", "y", "x"], "n": [1, 2, 3]})
    rows = inputs.Rows(table, tmp_path / "t.csv", "evaluate", "model", "finding")
    assert rows["a", "y"]["n"] == 2
    with pytest.raises(ValueError, match=r"t\.csv: no row of \('b', 'y'\); `dvc repro -f evaluate`"):
        rows["b", "y"]
    with pytest.raises(ValueError, match=r"t\.csv: the row of a stands twice; `dvc repro -f evaluate`"):
        inputs.Rows(table, tmp_path / "t.csv", "evaluate", "model")
