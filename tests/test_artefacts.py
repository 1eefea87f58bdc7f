"""Reading what other stages left: every fault names its file and the stage that cures it."""

import pytest

from cxr import artefacts

READERS = {"csv": artefacts.csv, "parquet": artefacts.parquet, "json": artefacts.read_json, "png": artefacts.image}


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
    assert artefacts.csv(tmp_path / "x.csv", "s", ("a", "b"))["b"].to_list() == [2]
    with pytest.raises(ValueError, match="x.csv: column 'c' is missing"):
        artefacts.csv(tmp_path / "x.csv", "s", ("a", "c"))
